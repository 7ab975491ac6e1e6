//! What was seen in a stretch of time: samples added up.

use std::time::{Duration, Instant};

use super::Sample;

/// A window ends no sooner, however many samples it has. 50 ms: how often shards report.
const LENGTH_MIN: Duration = Duration::from_millis(50);
/// A window that ends so soon has so many samples. 50: the typical latency of an app whose times are spread as widely as
/// an exponential distribution is known to 20 % then.
const SAMPLES_GOOD: u64 = 50;
/// A window ends after this time with fewer samples too. 100 ms: what a demand spike may take to be answered.
const LENGTH_GOOD: Duration = Duration::from_millis(100);
/// The fewest that a window of that length may have. 20: known to 30 %.
const SAMPLES_ENOUGH: u64 = 20;
/// Where samples are rare, a window ends after this time with what there is. 1 s: still within what a user waits for.
const LENGTH_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    since: Option<Instant>,
    seen: Sample,
}

impl Window {
    /// The sample covers the time from the one before it to `now`; `latency` is the last that was seen. Returns the sum
    /// when the window is over: not before requests have ended in it that began in it, or an answer to the last change of
    /// the limit would not be in it.
    pub fn add(&mut self, sample: &Sample, latency: Duration, now: Instant) -> Option<Sample> {
        let since = *self.since.get_or_insert(now);
        self.seen.merge(sample);
        let elapsed = now.saturating_duration_since(since);
        // An overload is a sample too: an app that has stopped gives no others.
        let seen = self.seen.count.saturating_add(self.seen.overloads);
        let is_over = |length: Duration, samples| elapsed >= length && seen >= samples;
        let is_over = is_over(LENGTH_MIN.max(latency), SAMPLES_GOOD)
            || is_over(LENGTH_GOOD.max(latency), SAMPLES_ENOUGH)
            || is_over(LENGTH_MAX.max(latency * 2), 0);
        is_over.then(|| {
            let seen = self.seen;
            *self = Self { since: Some(now), seen: Sample::default() };
            seen
        })
    }

    /// Forgets what was seen; the next begins now.
    pub fn restart(&mut self, now: Instant) {
        *self = Self { since: Some(now), seen: Sample::default() };
    }
}
