//! A shard's side: what it has seen and not told yet.

use std::time::Instant;

use super::streaks::Streak;
use super::window::Counts;
use super::{Outcome, Pace};

/// Failures in a row after which a shard tells at once. 2: each shard then keeps one to itself at most, so all shards
/// together open within as many failures as there are shards after the threshold.
pub const URGENT: u32 = 2;

/// What one shard saw of one breaker's requests since it told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    pub shard: usize,
    /// In which all of these requests were sent.
    pub epoch: u64,
    pub counts: Counts,
    /// When the last success ended.
    pub success_at: Option<Instant>,
    /// The failures after it.
    pub streak: Option<Streak>,
}

/// Whether the digest can wait for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    Later,
    /// Send it now.
    Now,
}

/// Collects outcomes until they are sent. What could not be sent stays, and goes with the next.
#[derive(Debug, Clone)]
pub struct Tally {
    unsent: Outcomes,
    /// `None`: failures in a row open nothing, so none is urgent.
    consecutive_failures: Option<u32>,
}

impl Tally {
    pub fn new(shard: usize, epoch: u64, consecutive_failures: Option<u32>) -> Self {
        Self { unsent: empty(shard, epoch), consecutive_failures }
    }

    /// A new snapshot is in force; in a new epoch what was seen before is worth nothing.
    pub fn adopt(&mut self, epoch: u64, consecutive_failures: Option<u32>) {
        self.consecutive_failures = consecutive_failures;
        if self.unsent.epoch != epoch {
            self.unsent = empty(self.unsent.shard, epoch);
        }
    }

    /// A request that was sent in the epoch `sent_in` ended.
    pub fn record(&mut self, outcome: Outcome, pace: Pace, sent_in: u64, now: Instant) -> Urgency {
        if sent_in != self.unsent.epoch {
            return Urgency::Later;
        }
        let counts = &mut self.unsent.counts;
        match outcome {
            Outcome::Ignored if pace == Pace::Prompt => return Urgency::Later,
            // Neither ends a streak nor makes one: it only was slow. Among the requests it is one that did not fail.
            Outcome::Ignored => counts.successes = counts.successes.saturating_add(1),
            Outcome::Success => {
                counts.successes = counts.successes.saturating_add(1);
                self.unsent.success_at = Some(now);
                self.unsent.streak = None;
            }
            Outcome::Failure => {
                counts.failures = counts.failures.saturating_add(1);
                match &mut self.unsent.streak {
                    Some(streak) => streak.join(Streak::one(now)),
                    none => *none = Some(Streak::one(now)),
                }
            }
        }
        if pace == Pace::Slow {
            counts.slow = counts.slow.saturating_add(1);
        }
        let kept_back = self.unsent.streak.map_or(0, |streak| streak.failures);
        match self.consecutive_failures {
            Some(threshold) if kept_back >= URGENT.min(threshold) => Urgency::Now,
            Some(_) | None => Urgency::Later,
        }
    }

    /// What is to be sent; `None` where nothing happened.
    pub fn unsent(&self) -> Option<Outcomes> {
        (self.unsent.counts.requests() > 0).then_some(self.unsent)
    }

    /// It was taken.
    pub fn sent(&mut self) {
        self.unsent = empty(self.unsent.shard, self.unsent.epoch);
    }
}

fn empty(shard: usize, epoch: u64) -> Outcomes {
    Outcomes { shard, epoch, counts: Counts::default(), success_at: None, streak: None }
}
