//! Over a real HTTP/2 connection in memory: nothing lost, nothing sent ahead of the peer's window, and a restart sends the
//! same again.

use std::collections::VecDeque;
use std::future::poll_fn;

use http::{HeaderValue, Request};
use http_body::Frame;

use super::room::RoomView;
use super::*;

/// A body of given frames.
#[derive(Default)]
struct Frames {
    frames: VecDeque<Result<Frame<Bytes>, BodyError>>,
    taken: usize,
}

impl Frames {
    fn of(parts: &[&[u8]]) -> Self {
        let frames = parts.iter().map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))));
        Self { frames: frames.collect(), taken: 0 }
    }
}

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.taken += 1;
        Poll::Ready(self.frames.pop_front())
    }
    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }
}

type Streams = (SendStream<Bytes>, h2::RecvStream, h2::client::SendRequest<Bytes>);

/// A stream whose far end takes `window` bytes before it must be read.
async fn stream(window: u32) -> Streams {
    let (near, far) = tokio::io::duplex(1 << 20);
    let (ready, opened) = tokio::sync::oneshot::channel();
    actix_rt::spawn(async move {
        let mut server = h2::server::Builder::new()
            .initial_window_size(window)
            .handshake::<_, Bytes>(far)
            .await
            .expect("shakes");
        let (request, respond) = server.accept().await.expect("a stream").expect("well-formed");
        assert!(ready.send((request.into_body(), respond)).is_ok());
        poll_fn(|cx| server.poll_closed(cx)).await.expect("ends well");
    });
    let (send, connection) = h2::client::handshake(near).await.expect("shakes");
    actix_rt::spawn(async move { connection.await.expect("ends well") });
    let mut send = send.ready().await.expect("ready");
    let (answer, body) =
        send.send_request(Request::post("http://a/").body(()).expect("a head"), false).expect("sends");
    actix_rt::spawn(async move { drop(answer.await) });
    let (received, respond) = opened.await.expect("the server has it");
    actix_rt::spawn(async move {
        let mut respond = respond;
        poll_fn(|cx| respond.poll_reset(cx)).await
    });
    (body, received, send)
}

/// All data, and the trailers, that came; `Err` where the stream was reset.
async fn read(mut received: h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = received.data().await {
        let data = data?;
        received.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, received.trailers().await?))
}

#[actix_rt::test]
async fn a_body_arrives_whole_through_a_window_smaller_than_its_frames() {
    let (mut body, received, _send) = stream(100).await;
    let parts: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; 997]).collect();
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let mut pump = Pump::new(Frames::of(&parts));
    let reader = actix_rt::spawn(read(received));
    poll_fn(|cx| pump.poll(&mut body, cx)).await.expect("sends all");
    let (all, trailers) = reader.await.expect("reads").expect("no reset");
    assert_eq!(all, parts.concat());
    assert!(trailers.is_none());
}

#[actix_rt::test]
async fn a_peer_that_does_not_read_stops_the_source() {
    let (mut body, received, _send) = stream(1_000).await;
    let parts = vec![&[7_u8; 600][..]; 50];
    let mut pump = Pump::new(Frames::of(&parts));
    for _ in 0..50 {
        poll_fn(|cx| {
            assert!(pump.poll(&mut body, cx).is_pending(), "nobody reads");
            Poll::Ready(())
        })
        .await;
        actix_rt::task::yield_now().await;
    }
    assert!(pump.body.taken <= 3, "{} frames were taken for a window of 1,000 bytes", pump.body.taken);
    drop(received);
}

#[actix_rt::test]
async fn trailers_end_the_stream() {
    let (mut body, received, _send) = stream(65_535).await;
    let mut frames = Frames::of(&[b"data"]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    frames.frames.push_back(Ok(Frame::trailers(trailers.clone())));
    let mut pump = Pump::new(frames);
    poll_fn(|cx| pump.poll(&mut body, cx)).await.expect("sends all");
    let (all, got) = read(received).await.expect("no reset");
    assert_eq!((all.as_slice(), got), (&b"data"[..], Some(trailers)));
}

#[actix_rt::test]
async fn a_source_that_breaks_off_resets_the_stream() {
    let (mut body, received, _send) = stream(65_535).await;
    let mut frames = Frames::of(&[b"half"]);
    frames.frames.push_back(Err(BodyError::Timeout));
    let mut pump = Pump::new(frames);
    let ended = poll_fn(|cx| pump.poll(&mut body, cx)).await;
    assert!(matches!(ended, Err(PumpError::Source(BodyError::Timeout))));
    let error = read(received).await.expect_err("a reset");
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
}

/// Plenty.
fn room() -> Arc<Room> {
    Arc::new(Room::new(None))
}

#[actix_rt::test]
async fn a_restarted_body_is_the_same_from_its_beginning() {
    let (mut first, received, _send) = stream(10).await;
    let mut pump = Pump::keeping(Frames::of(&[b"one ", b"two ", b"three"]), 1_024, &room());
    poll_fn(|cx| {
        assert!(pump.poll(&mut first, cx).is_pending(), "the window is full");
        Poll::Ready(())
    })
    .await;
    drop((first, received));
    assert!(pump.can_restart());
    pump.restart();
    let (mut second, received, _send) = stream(65_535).await;
    poll_fn(|cx| pump.poll(&mut second, cx)).await.expect("sends all");
    assert_eq!(read(received).await.expect("no reset").0, b"one two three");
}

#[actix_rt::test]
async fn past_its_bound_or_once_committed_a_body_cannot_be_sent_again() {
    let (mut body, _received, _send) = stream(65_535).await;
    let mut pump = Pump::keeping(Frames::of(&[b"0123456789"]), 9, &room());
    poll_fn(|cx| pump.poll(&mut body, cx)).await.expect("sends all");
    assert!(!pump.can_restart(), "ten bytes do not fit into nine");
    let mut pump = Pump::keeping(Frames::of(&[b"x"]), 9, &room());
    pump.commit();
    assert!(!pump.can_restart());
}

#[actix_rt::test]
async fn bodies_share_one_bound_and_what_finds_no_room_is_sent_but_not_kept() {
    // A sixteenth of it: 16 bytes.
    let room = Arc::new(Room::new(Some(256)));
    let sent = async |data: &'static [u8]| {
        let (mut body, received, _send) = stream(65_535).await;
        let mut pump = Pump::keeping(Frames::of(&[data]), 12, &room);
        poll_fn(|cx| pump.poll(&mut body, cx)).await.expect("sends all");
        assert_eq!(read(received).await.expect("no reset").0, data);
        pump
    };
    let first = sent(b"0123456789").await;
    let second = sent(b"0123456789").await;
    assert_eq!((first.can_restart(), second.can_restart()), (true, false));
    let third = sent(b"012345").await;
    assert!(third.can_restart(), "what found no room has given back what it took");
    assert!(!sent(b"0123456789abc").await.can_restart(), "too long for one");
    assert_eq!(room.view(), RoomView { bytes: 16, bytes_max: 16, no_room: 1, too_long: 1 });
    drop((first, second, third));
    assert_eq!(room.view().bytes, 0);
    let mut again = sent(b"0123456789").await;
    assert!(again.can_restart());
    again.commit();
    assert_eq!(room.view().bytes, 0, "the answer has begun");
}

#[actix_rt::test]
async fn a_body_that_is_between_two_turns_does_not_wait_for_its_source() {
    let (mut body, received, _send) = stream(1 << 20).await;
    let part = vec![7; 16 << 10];
    let mut pump = Pump::new(Frames::of(&[&*part; 9]));
    let reader = actix_rt::spawn(read(received));
    let waits = pump.watch();
    let mut seen = Vec::new();
    poll_fn(|cx| {
        let polled = pump.poll(&mut body, cx);
        seen.push(waits.get());
        polled
    })
    .await
    .expect("sends all");
    assert_eq!(seen.pop(), Some(Waits::Over));
    assert!(seen.len() >= 2, "nine times 16 KiB are more than two turns");
    assert!(seen.iter().all(|waits| *waits == Waits::Sink), "{seen:?}");
    assert_eq!(reader.await.expect("reads").expect("no reset").0.len(), 9 * part.len());
}
