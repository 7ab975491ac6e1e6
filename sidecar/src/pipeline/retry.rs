//! Whether an attempt that failed is made again: policy, the request, its deadline, the budget, in this order.
//!
//! A retry gives its permit back before it waits, and enters again at *admit*: breaker, permit and deadline are asked anew,
//! authorization is not. The first attempt is never delayed by any of this.
//!
//! Only the layer next to the failure retries: where it has done what it may, it says so (`outrider-retried`), and whoever is
//! above, in whose trace the request is, does not begin anew.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method};
use outrider_shared::traffic::{self, OnBudgetExhausted};
use rand::Rng as _;

use super::judge::{self, Ended, IdempotencyKey, Verdict};
use super::rejection::Rejection;
use super::route::Routed;
use crate::shard::Shard;
use crate::upstream::backoff::{self, Before};

/// Where the retries of one request stand.
#[derive(Clone, Copy)]
pub struct Retries<'t> {
    policy: Option<&'t traffic::Retry>,
    key: IdempotencyKey,
    /// Attempts that were made again.
    made: u32,
    /// At hops above: they count, or each layer would multiply those of the layer above.
    before: u32,
}

/// What follows a failure.
#[derive(Debug)]
pub enum Next {
    /// The attempt is made again after this time.
    Again { wait: Duration, why: String },
    /// What there is is the answer.
    Settled,
    /// The budget is spent, and policy means 503 by that.
    Refused(Rejection),
}

/// An attempt that failed.
pub struct Failed<'a> {
    pub ended: &'a Ended,
    /// Of the answer, if there is one.
    pub fields: Option<&'a HeaderMap>,
    /// Retries below were spent.
    pub retried_below: bool,
    /// The client acts on it already.
    pub is_hinted: bool,
}

impl<'t> Retries<'t> {
    pub fn new(policy: Option<&'t traffic::Retry>, fields: &HeaderMap, before: u32) -> Self {
        let key = policy.map_or(IdempotencyKey::Absent, |_| IdempotencyKey::of(fields));
        Self { policy, key, made: 0, before }
    }

    pub fn made(&self) -> u32 {
        self.made
    }

    /// Cancelled by the client's going away; nothing is held.
    pub async fn after(&mut self, shard: &Shard, routed: &Routed<'_>, failed: &Failed<'_>) -> Next {
        if failed.retried_below {
            spent(shard, routed);
            return Next::Settled;
        }
        let Some(policy) = self.policy else { return Next::Settled };
        let method: &Method = &routed.outgoing.method;
        let Verdict::Retry(why) = judge::retry(policy, method, self.key, failed.ended) else {
            return Next::Settled;
        };
        if self.made + self.before >= policy.attempts || failed.is_hinted || !routed.can_restart() {
            spent(shard, routed);
            return Next::Settled;
        }
        let Some(wait) = self.wait(shard, routed, policy, failed.fields) else {
            spent(shard, routed);
            return Next::Settled;
        };
        if routed.share.spend_token().await.is_err() {
            spent(shard, routed);
            routed.share.stats.retries_refused.increment();
            let exhausted = routed.share.with_settings(|settings| settings.client.on_budget_exhausted);
            return match exhausted {
                OnBudgetExhausted::LastAnswer => Next::Settled,
                OnBudgetExhausted::Status503 => Next::Refused(Rejection::RetryBudgetExhausted),
            };
        }
        self.made += 1;
        routed.share.stats.retries.increment();
        Next::Again { wait, why: why.to_string() }
    }

    /// `None`: the next attempt would come too late.
    fn wait(
        &self,
        shard: &Shard,
        routed: &Routed<'_>,
        policy: &traffic::Retry,
        fields: Option<&HeaderMap>,
    ) -> Option<Duration> {
        let now = Instant::now();
        let asked = fields.and_then(|fields| backoff::retry_after(fields, SystemTime::now()));
        let before = Before {
            retry: self.made + 1,
            first: policy.backoff.get(),
            // Policy's own wait is the least one, as Gateway API has it.
            retry_after: Some(asked.map_or(policy.backoff.get(), |asked| asked.max(policy.backoff.get()))),
            left: routed.request_deadline().map(|at| at.saturating_duration_since(now)),
        };
        backoff::wait(&before, shard.rng.borrow_mut().random()).ok()
    }
}

/// Whoever is above in the trace shall not begin anew.
fn spent(shard: &Shard, routed: &Routed<'_>) {
    if let Some(key) = routed.cause.key {
        shard.node.contexts.note_retried(key);
    }
}
