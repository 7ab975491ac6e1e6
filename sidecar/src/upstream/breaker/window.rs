//! What was seen of an endpoint within policy's window.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::super::sliding::Sliding;

/// 10: what has left the window is forgotten at most a tenth of it too early, at the price of a few words of memory.
const BUCKETS: u32 = 10;

/// Requests that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub successes: u32,
    pub failures: u32,
    /// Of both, those that took longer than the threshold of a slow call.
    pub slow: u32,
}

impl Counts {
    pub fn requests(self) -> u32 {
        self.successes.saturating_add(self.failures)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
        self.slow = self.slow.saturating_add(other.slow);
    }
}

/// A sliding window: between nine and ten tenths of its length, never more.
#[derive(Debug, Clone)]
pub struct Window {
    length: Duration,
    counts: Sliding<Counts>,
}

impl Window {
    pub fn new(length: Duration, now: Instant) -> Self {
        Self { length, counts: Sliding::new(length, BUCKETS, now) }
    }

    pub fn length(&self) -> Duration {
        self.length
    }

    pub fn add(&mut self, counts: Counts, now: Instant) {
        self.counts.add(counts, now);
    }

    /// Of the buckets that lie wholly within the window that ends now.
    pub fn counts(&self, now: Instant) -> Counts {
        self.counts.sum(|begin, _| now.saturating_duration_since(begin) <= self.length)
    }
}
