//! Retries of one shard at once share a block of tokens.

use super::*;

#[actix_rt::test]
async fn of_a_hundred_that_fail_at_once_all_get_a_token_that_the_budget_has() {
    let (upstream, share, _supervisor) = shared(&[1]).await;
    // A fifth of them may be retried.
    (0..600).for_each(|_| share.began());
    eventually("the actor has counted them", || {
        upstream.view.load().as_ref().is_some_and(|view| view.budget.requests == 600)
    })
    .await;
    let retries: Vec<_> = (0..150)
        .map(|_| {
            let share = Rc::clone(&share);
            actix_rt::spawn(async move { share.spend_token().await.is_ok() })
        })
        .collect();
    let mut sent = 0;
    for retry in retries {
        sent += usize::from(retry.await.expect("ends"));
    }
    assert!((110..=120).contains(&sent), "{sent} of 120");
}
