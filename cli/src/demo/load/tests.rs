use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Barrier;

use super::{Done, Load, LoadView, Outcome, method};

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shop that answers to so many requests at once, or not at all.
async fn shop(at_once: usize, status: StatusCode) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let barrier = Arc::new(Barrier::new(at_once));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let barrier = Arc::clone(&barrier);
            let service = service_fn(move |_| {
                let barrier = Arc::clone(&barrier);
                async move {
                    barrier.wait().await;
                    let mut answer = Response::new(Full::<Bytes>::default());
                    *answer.status_mut() = status;
                    Ok::<_, Infallible>(answer)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    format!("http://{address}")
}

async fn until(load: &mut Load, reached: impl FnMut(&LoadView) -> bool) {
    tokio::time::timeout(PATIENCE, load.view.wait_for(reached)).await.expect("in time").expect("it runs");
}

#[tokio::test]
async fn requests_go_out_at_their_time_whether_or_not_earlier_ones_are_back() {
    // Nothing is answered until 20 are under way: a closed loop would wait for ever.
    let mut load = Load::start(&shop(20, StatusCode::OK).await, 200).unwrap();
    until(&mut load, |view| view.answered >= 20).await;
    let seen = load.stop().await;
    assert!(seen.succeeded >= 20, "{seen:?}");
    // The first of the 20 waited for the others, 5 ms apart: counted from when each was due.
    assert!(seen.quantile_us(0.99) >= 50_000, "{}", seen.quantile_us(0.99));
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_a_failure() {
    let mut load = Load::start(&shop(1, StatusCode::BAD_GATEWAY).await, 200).unwrap();
    until(&mut load, |view| view.answered >= 5).await;
    let seen = load.stop().await;
    assert_eq!(seen.succeeded, 0);
    assert_eq!(seen.success(), Some(0.0));
}

#[tokio::test]
async fn a_rate_of_nothing_sends_nothing() {
    let load = Load::start(&shop(1, StatusCode::OK).await, 0).unwrap();
    tokio::task::yield_now().await;
    let seen = load.stop().await;
    assert_eq!((seen.answered, seen.not_sent, seen.success()), (0, 0, None));
}

#[test]
fn two_of_five_requests_place_an_order() {
    let placed = (0..1_000).filter(|sent| method(*sent) == Method::POST).count();
    assert_eq!(placed, 400);
}

#[test]
fn the_summary_counts_and_rounds_down() {
    let mut view = LoadView::default();
    for outcome in [Outcome::Succeeded, Outcome::Succeeded, Outcome::Failed] {
        view.record(&Done { outcome, latency: Duration::from_millis(4) });
    }
    view.elapsed = Duration::from_secs(2);
    view.not_sent = 1;
    let text = view.to_string();
    assert!(text.starts_with("Load: 3 requests in 2.0 s (1.5/s), 66.6 % succeeded, p50 4.1 ms"), "{text}");
    assert!(text.ends_with("; 1 not sent, since 1000 were under way."), "{text}");
}
