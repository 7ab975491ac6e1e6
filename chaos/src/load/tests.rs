use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Load;

/// Answers every connection with these bytes once it has read a request.
async fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("the listener is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n")
                    && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0)
                {}
                // The client may have gone away.
                let _ = stream.write_all(answer).await;
            });
        }
    });
    address
}

async fn samples_of(answer: &'static [u8]) -> Vec<super::Sample> {
    let load = Load::start(answering(answer).await, 200);
    while load.elapsed() < Duration::from_millis(500) {
        tokio::task::yield_now().await;
    }
    load.stop().await.expect("the driver ends")
}

#[tokio::test]
async fn every_request_leaves_one_sample_in_the_order_of_due_times() {
    let samples = samples_of(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await;
    assert!(samples.len() >= 20, "{} samples", samples.len());
    assert!(samples.iter().all(|sample| sample.failure.is_none()), "{samples:?}");
    assert!(samples.is_sorted_by_key(|sample| sample.due));
    let gap = samples[1].due.abs_diff(samples[0].due);
    assert!(gap >= Duration::from_millis(4) && gap <= Duration::from_millis(6), "due {gap:?} apart");
}

#[tokio::test]
async fn a_failure_says_who_refused_and_why() {
    let samples = samples_of(
        b"HTTP/1.1 503 No\r\nproxy-status: outrider; error=connection_refused\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let failure = samples[0].failure.as_deref().expect("503 is a failure");
    assert_eq!(failure, "POST: 503 (outrider; error=connection_refused)");
    assert!(
        samples[1].failure.as_deref().is_some_and(|why| why.starts_with("GET: ")),
        "the methods alternate"
    );
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure() {
    let samples = samples_of(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort").await;
    assert!(samples.iter().all(|sample| sample.failure.is_some()), "{samples:?}");
}
