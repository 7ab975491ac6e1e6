//! How much of an answer may be on its way.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

/// Carries bytes from one to the other, each `delay` later.
async fn carry(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: tokio::io::WriteHalf<DuplexStream>,
    delay: Duration,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        actix_rt::time::sleep(delay).await;
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// What a server at this distance may send of an answer that nobody reads, once that is no longer what it was at first, or
/// a second is over.
async fn room_at(distance: Duration) -> usize {
    let ((near, here), (there, far)) = (tokio::io::duplex(64 << 10), tokio::io::duplex(64 << 10));
    let ((here_read, here_write), (there_read, there_write)) =
        (tokio::io::split(here), tokio::io::split(there));
    actix_rt::spawn(carry(here_read, there_write, distance));
    actix_rt::spawn(carry(there_read, here_write, distance));
    let server = actix_rt::spawn(async move {
        let mut server = h2::server::Builder::new();
        let mut server =
            server.max_send_buffer_size(8 << 20).handshake::<_, Bytes>(far).await.expect("speaks");
        let (_, mut respond) = server.accept().await.expect("a request").expect("a request");
        let mut stream = respond.send_response(Response::new(()), false).expect("is sent");
        stream.reserve_capacity(4 << 20);
        let begun = Instant::now();
        let first = *ANSWER_WINDOW_BYTES.start() as usize;
        while begun.elapsed() < Duration::from_secs(1) && stream.capacity() <= first {
            let tick = actix_rt::time::sleep(Duration::from_millis(5));
            tokio::select! { _ = server.accept() => {} () = tick => {} }
        }
        stream.capacity()
    });
    let connection = H2Connection::start(near, Lane::Short, None).await.expect("connects");
    let asked = connection.send(Request::new(()), true).await.expect("asks");
    let room = server.await.expect("has looked");
    drop(asked);
    room
}

#[actix_rt::test]
async fn an_answer_has_as_much_room_as_the_way_is_long() {
    assert_eq!(room_at(Duration::from_millis(10)).await, 1 << 20);
    assert_eq!(answer_window(Duration::ZERO), 128 << 10);
    assert_eq!(answer_window(Duration::from_millis(1)), 128 << 10);
    assert_eq!(answer_window(Duration::from_millis(2)), 256 << 10);
    assert_eq!(answer_window(Duration::from_millis(5)), 1 << 20);
    assert_eq!(answer_window(Duration::from_secs(9)), 1 << 20);
}
