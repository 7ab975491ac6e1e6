//! How many requests may be under way at once: fixed, or found out from how the upstream answers. Pure.
//!
//! The upstream's actor owns one [`Limiter`], feeds it a [`Sample`] of all shards with each digest (50 ms), and hands the
//! limit that it returns to the leases.
//!
//! **`Fixed`** stays. **`Aimd`** adds one after each window that used the limit and went well, and takes a tenth off after
//! one with an overload; it needs an app that says when it is overloaded, or timeouts.
//!
//! **`Gradient`** holds latency at 1.5 times the least that the app can do. With a pool of N workers or N cores that is a
//! limit of 1.5 N: all of them are busy, and what waits, waits in the sidecar's queue, which knows classes and deadlines,
//! and not in the app, which does not. What matters is how the least latency is learned:
//!
//! - Envoy lets 3 requests through at a time, every minute, until it has measured 50, and refuses the others: it sheds
//!   traffic to probe, and a step of the latency in between is taken for overload.
//! - Gradient2 of Netflix compares with a long average. It needs no probe, but under a lasting overload the average becomes
//!   the congested latency, and the limit runs away. Vegas keeps a minimum, and forgets it at random, with the same end.
//! - Breakwater and `TopFull` do not learn it: they have a target delay, of the server's own queue or of an objective.
//!
//! Here the limit *dips* while it is used, at most every 10 s, or when latency is far off: to just below where, by the ratio
//! of latencies, nothing waits inside the app any more. For the length of two latencies or so the app stays as good as fully
//! busy, and what does not fit waits in the queue. What is measured then is the least latency, whether higher or lower than
//! the one before. If it is lower still, the old one was wrong, and the limit dips further while that helps. If fewer at once
//! are no faster, the app has become slower, and that is the least latency now. Either way a wrong value corrects itself by
//! one dip, and an app that was overloaded when the sidecar met it is found out by halving.
//!
//! A limit that was not used does not grow. Windows with no more under way than when the least latency was measured refresh
//! it for free. Where permits are held for longer than the latency says (streams: latency is the time to the head), fewer
//! under way cannot be had by a dip; it ends by time, and nothing is learned from it.
//!
//! A typical latency is a geometric mean, as a slower app multiplies it and a few slow answers hardly move it: of a mix of
//! fast and slow ones it is known with far fewer samples than the mean, and unlike the median it does not jump between them.
//!
//! Overloads that the app or the network tells of cut the limit beside that: they are seen where latency is not.
//!
//! It does not find the knee of an app whose latency grows before its throughput has stopped growing; such an app is held
//! where it is 1.5 times as slow as alone.

mod gradient;
mod machine;
#[cfg(test)]
mod tests;
pub mod window;

use std::time::Duration;

use outrider_shared::traffic::ConcurrencyAlgorithm;

pub use machine::Limiter;

/// What all shards saw in one stretch of time. The default is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Answers that were no overload: their latency to the head counts.
    pub count: u64,
    /// The sum of the natural logarithms of their latencies in microseconds.
    ln_us_sum: f64,
    /// And of their squares.
    ln_us_squares: f64,
    /// Timeouts, resets, and 503s of the app itself. Not what the sidecar refused.
    pub overloads: u64,
    /// Whether any answer came, whatever it says of the load.
    pub heard: bool,
    /// The most that were under way at once.
    pub in_flight_max: u32,
    /// Whether anybody waited for a permit.
    pub queued: bool,
    /// For how long the one has waited that has waited longest.
    pub waited: Duration,
}

impl Sample {
    /// `times` answers took `us` microseconds, as a histogram has them. Less than one counts as one.
    pub fn answered(&mut self, us: f64, times: u64) {
        if us.is_finite() {
            self.count = self.count.saturating_add(times);
            let ln_us = us.max(1.0).ln();
            self.ln_us_sum += ln_us * count(times);
            self.ln_us_squares += ln_us * ln_us * count(times);
        }
    }

    /// The same, with the most that were under way at once.
    #[must_use]
    pub fn with_in_flight(self, in_flight_max: u32) -> Self {
        Self { in_flight_max, ..self }
    }

    /// Adds another stretch, or what another shard saw in the same one where `in_flight_max` is already of all.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.ln_us_sum += other.ln_us_sum;
        self.ln_us_squares += other.ln_us_squares;
        self.overloads = self.overloads.saturating_add(other.overloads);
        self.heard |= other.heard;
        self.in_flight_max = self.in_flight_max.max(other.in_flight_max);
        self.queued |= other.queued;
        self.waited = self.waited.max(other.waited);
    }

    /// How long an answer takes that is slower than nine of ten, as far as these show it; `None`: there were none.
    pub fn likely(&self) -> Option<Duration> {
        // 1.28 standard deviations of the logarithm, as a normal distribution has it.
        let us = self.typical_us()? * (1.28 * self.variance().sqrt()).exp();
        Duration::try_from_secs_f64(us / 1e6).ok()
    }

    /// The geometric mean, in microseconds.
    fn typical_us(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.ln_us_sum / count(self.count)).exp())
    }

    /// Of the logarithm of the latency.
    fn variance(&self) -> f64 {
        let n = count(self.count.max(1));
        (self.ln_us_squares / n - (self.ln_us_sum / n).powi(2)).max(0.0)
    }

    /// How far the typical latency may be off, as a factor: two standard errors of the logarithm. A few that happen to be
    /// alike do not show how much the app's times differ, so that is told: `variance` is the least that is assumed.
    fn uncertainty(&self, variance: f64) -> f64 {
        (2.0 * (self.variance().max(variance) / count(self.count.max(1))).sqrt()).exp()
    }

    fn is_overloaded(&self, share: f64) -> bool {
        self.overloads > 0
            && count(self.overloads) >= count(self.count.saturating_add(self.overloads)) * share
    }
}

#[allow(clippy::cast_precision_loss, reason = "a count of requests: a part in 2^53 matters to nobody")]
fn count(n: u64) -> f64 {
    n as f64
}

/// What is shown of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    pub algorithm: ConcurrencyAlgorithm,
    pub limit: u32,
    /// Typical in the last window. Only with `Gradient`.
    pub latency: Option<Duration>,
    /// The least that was learned. Only with `Gradient`.
    pub least: Option<Duration>,
    pub phase: Phase,
}

/// What the limit is for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Steady,
    /// Down for a moment, to learn the least latency.
    Dip,
}
