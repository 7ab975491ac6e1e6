//! Power of two choices over peak EWMA: of two endpoints at random, the one that is expected to answer sooner.
//!
//! Peak EWMA (Finagle) follows a rising latency at once and a falling one slowly, so a slow endpoint is noticed by its
//! first slow answer. Two random choices keep shards from all running to the same best one, which least-latency alone
//! would do. Pure: the random numbers and the time are arguments.

use std::time::{Duration, Instant};

/// How slowly a high latency is forgotten: after this time without samples the cost has fallen to 1/e. 10 s, as Finagle.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint without samples is expected to take, in microseconds: more than a fast one, so that one answer is
/// awaited before many are sent, and less than a slow one.
const UNKNOWN_US: f64 = 2_000.0;
/// Below this part of [`DECAY`] the curve is taken for a straight line. 1/1,000: off by less than a millionth, and between two
/// requests of a busy endpoint no more time passes.
const STRAIGHT_MAX: f64 = 1e-3;

/// The expected latency of one endpoint, as one shard has seen it.
#[derive(Debug, Clone, Copy)]
pub struct PeakEwma {
    us: f64,
    at: Instant,
}

impl PeakEwma {
    pub fn new(now: Instant) -> Self {
        Self { us: UNKNOWN_US, at: now }
    }

    /// An answer took `took`.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took_us = took.as_secs_f64() * 1e6;
        // Samples close together would otherwise hardly count: each weighs at least 1/64.
        let keep = self.kept(now).min(63.0 / 64.0);
        self.us = if took_us > self.us { took_us } else { self.us * keep + took_us * (1.0 - keep) };
        self.at = now.max(self.at);
    }

    /// Expected cost of one more request beside `in_flight` others. It falls while there are no samples, so that an
    /// endpoint that was slow once is asked again.
    pub fn cost(&self, in_flight: u64, now: Instant) -> f64 {
        let in_flight = u32::try_from(in_flight).unwrap_or(u32::MAX);
        self.us * self.kept(now) * (f64::from(in_flight) + 1.0)
    }

    /// The share of the last value that is not forgotten yet.
    fn kept(&self, now: Instant) -> f64 {
        let part = now.saturating_duration_since(self.at).as_secs_f64() / DECAY.as_secs_f64();
        if part < STRAIGHT_MAX { 1.0 - part } else { (-part).exp() }
    }

    /// In whole microseconds.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "never negative, and a cast stops at the bounds"
    )]
    pub fn us(&self) -> u64 {
        (self.us + 0.5) as u64
    }
}

/// Two different indices below `len` from one random number; the same one twice where there is only one.
pub fn two_of(len: usize, random: u64) -> (usize, usize) {
    debug_assert!(len > 0, "there is something to choose from");
    let n = len as u64;
    let first = (random & 0xffff_ffff) % n;
    if n == 1 {
        return (0, 0);
    }
    let second = (first + 1 + (random >> 32) % (n - 1)) % n;
    let index = |i: u64| usize::try_from(i).expect("below a usize");
    (index(first), index(second))
}
