use std::future::poll_fn;

use super::*;

/// Says how often another task of the thread had its turn while a body of `turns` times [`TURN_BYTES`] was sent.
async fn turns_of_others(turns: usize) -> usize {
    let seen = std::rc::Rc::new(std::cell::Cell::new(0));
    let other = std::rc::Rc::clone(&seen);
    let others = actix_rt::spawn(async move {
        loop {
            other.set(other.get() + 1);
            tokio::task::yield_now().await;
        }
    });
    let mut body = Turns::default();
    for _ in 0..turns {
        body.sent(TURN_BYTES);
        poll_fn(|cx| body.poll(cx)).await;
    }
    others.abort();
    seen.get()
}

#[actix_rt::test]
async fn a_large_body_gives_way_at_each_turn() {
    assert!(turns_of_others(10).await >= 9);
}

#[actix_rt::test]
async fn what_is_small_never_waits() {
    let mut body = Turns::default();
    body.sent(TURN_BYTES - 1);
    poll_fn(|cx| {
        assert!(body.poll(cx).is_ready());
        Poll::Ready(())
    })
    .await;
}
