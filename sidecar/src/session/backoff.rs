//! How long to wait after each failure: full jitter below a ceiling that doubles.
//!
//! Full jitter, since all sidecars of a mesh lose a control plane in the same moment, and must not come back in one.

use std::time::Duration;

/// Pure: the random number is an argument.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    base: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits between `base` and a ceiling, which begins at twice `base` and doubles up to `max`.
    pub fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, ceiling: (base * 2).min(max) }
    }

    /// The wait after one more failure; `unit` is uniform in [0, 1).
    pub fn after_failure(&mut self, unit: f64) -> Duration {
        let wait = self.base + self.ceiling.saturating_sub(self.base).mul_f64(unit.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(self.max);
        wait
    }

    pub fn reset(&mut self) {
        self.ceiling = (self.base * 2).min(self.max);
    }
}
