//! How much of an answer may be on its way, and how often a peer is asked whether it is there. Time is the test's.

use std::cell::RefCell;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};

use super::*;

/// How long bytes are on their way now.
type Distance = Rc<Cell<Duration>>;
/// All that the client has sent.
type Sniffed = Rc<RefCell<Vec<u8>>>;

const PING: u8 = 6;
const ACK: u8 = 1;

async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    distance: Distance,
    sniffed: Option<Sniffed>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        actix_rt::time::sleep(distance.get()).await;
        if let Some(sniffed) = &sniffed {
            sniffed.borrow_mut().extend_from_slice(&bytes[..count]);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// A way between two ends.
fn way(distance: &Distance) -> (DuplexStream, DuplexStream, Sniffed) {
    let ((near, here), (there, far)) = (tokio::io::duplex(64 << 10), tokio::io::duplex(64 << 10));
    let ((here_read, here_write), (there_read, there_write)) =
        (tokio::io::split(here), tokio::io::split(there));
    let sniffed = Sniffed::default();
    actix_rt::spawn(carry(here_read, there_write, Rc::clone(distance), Some(Rc::clone(&sniffed))));
    actix_rt::spawn(carry(there_read, here_write, Rc::clone(distance), None));
    (near, far, sniffed)
}

/// Questions, of all frames after the preface.
fn pings(sniffed: &Sniffed) -> usize {
    let bytes = sniffed.borrow();
    let (mut rest, mut pings) = (&bytes[24..], 0);
    while let [a, b, c, kind, flags, ..] = *rest {
        pings += usize::from(kind == PING && flags & ACK == 0);
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        rest = &rest[9 + length..];
    }
    pings
}

/// A server that answers one request with a stream that it says nothing on, and tells how much it may say.
async fn says_nothing(far: DuplexStream, room: Rc<Cell<usize>>) {
    let mut server = h2::server::Builder::new();
    let mut server = server.max_send_buffer_size(8 << 20).handshake::<_, Bytes>(far).await.expect("speaks");
    let (_, mut respond) = server.accept().await.expect("a request").expect("a request");
    let mut stream = respond.send_response(Response::new(()), false).expect("is sent");
    stream.reserve_capacity(4 << 20);
    loop {
        let tick = actix_rt::time::sleep(Duration::from_millis(5));
        tokio::select! { _ = server.accept() => return, () = tick => {} }
        room.set(stream.capacity());
    }
}

#[actix_rt::test]
async fn an_answer_has_as_much_room_as_the_way_is_long_and_loses_none_while_it_is_read() {
    tokio::time::pause();
    let distance = Rc::new(Cell::new(Duration::from_millis(10)));
    let (near, far, _) = way(&distance);
    let room = Rc::new(Cell::new(0));
    actix_rt::spawn(says_nothing(far, Rc::clone(&room)));
    let connection = H2Connection::start(near, Far::Sidecar, Lane::Short, None).await.expect("connects");
    let mut sent = connection.send(Request::new(()), true).await.expect("asks");
    let answer = poll_fn(|cx| poll_answer(&mut sent, &Interim::None, cx)).await.expect("is answered");
    actix_rt::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(room.get(), 1 << 20);
    distance.set(Duration::ZERO);
    actix_rt::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(room.get(), 1 << 20, "the way is short now, and the answer is still open");
    drop((answer, sent));
}

#[test]
fn the_room_is_a_round_trip_at_a_gigabit_a_second() {
    let of = |us| answer_window(Duration::from_micros(us)) >> 10;
    assert_eq!([0, 50, 1_000, 2_000, 5_000, 9_000_000].map(of), [128, 128, 128, 256, 1_024, 1_024]);
}

#[actix_rt::test]
async fn a_sidecar_is_asked_each_ten_seconds_and_the_app_once() {
    tokio::time::pause();
    for (far, asked) in [(Far::Sidecar, 1 + 3 + 6), (Far::App, 1)] {
        let (near, peer, sniffed) = way(&Rc::default());
        actix_rt::spawn(says_nothing(peer, Rc::default()));
        let connection = H2Connection::start(near, far, Lane::Short, None).await.expect("connects");
        let sent = connection.send(Request::new(()), true).await.expect("asks");
        actix_rt::time::sleep(Duration::from_secs(65)).await;
        assert_eq!(pings(&sniffed), asked, "{far:?}");
        drop(sent);
    }
}
