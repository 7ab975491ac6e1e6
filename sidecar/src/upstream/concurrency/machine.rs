//! The limit of one upstream: samples in, a new limit out.

use std::time::{Duration, Instant};

use outrider_shared::traffic::{self, ConcurrencyAlgorithm};

use super::gradient::Gradient;
use super::window::Window;
use super::{Phase, Sample, View};

/// What a window with an overload leaves of the limit with `Aimd`: a tenth less.
const AIMD_CUT: f64 = 0.9;

#[derive(Debug)]
enum Algorithm {
    Fixed,
    Aimd { limit: f64, window: Window },
    Gradient(Box<Gradient>),
}

#[derive(Debug)]
pub struct Limiter {
    settings: traffic::Concurrency,
    algorithm: Algorithm,
    /// What was told last.
    told: u32,
    /// The latest time seen: time never goes back in here.
    latest: Option<Instant>,
}

impl Limiter {
    pub fn new(settings: &traffic::Concurrency) -> Self {
        Self::resume(settings, settings.initial)
    }

    /// Goes on from a limit that was found before, and learns the rest anew.
    pub fn resume(settings: &traffic::Concurrency, limit: u32) -> Self {
        let settings = sane(settings);
        let mut limiter = Self { settings, algorithm: Algorithm::Fixed, told: 0, latest: None };
        limiter.begin(limit);
        limiter.told = limiter.limit();
        limiter
    }

    /// How many may be under way now.
    pub fn limit(&self) -> u32 {
        let found = match &self.algorithm {
            Algorithm::Fixed => f64::from(self.settings.initial),
            Algorithm::Aimd { limit, .. } => *limit,
            Algorithm::Gradient(gradient) => gradient.limit(),
        };
        whole(found).clamp(self.settings.min, self.settings.max)
    }

    /// What was seen since the last sample. Returns the limit if it has changed.
    pub fn observe(&mut self, sample: Sample, now: Instant) -> Option<u32> {
        let now = self.at(now);
        match &mut self.algorithm {
            Algorithm::Fixed => {}
            Algorithm::Aimd { limit, window } => {
                if let Some(seen) = window.add(&sample, Duration::ZERO, now) {
                    if seen.overloads > 0 {
                        *limit *= AIMD_CUT;
                    } else if seen.queued || f64::from(seen.in_flight_max) >= limit.floor() {
                        *limit += 1.0;
                    }
                    *limit = limit.clamp(f64::from(self.settings.min), f64::from(self.settings.max));
                }
            }
            Algorithm::Gradient(gradient) => gradient.observe(&sample, now),
        }
        self.change()
    }

    /// When [`Limiter::handle_timeout`] is due: samples that stay away must not keep the limit down.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.algorithm {
            Algorithm::Fixed | Algorithm::Aimd { .. } => None,
            Algorithm::Gradient(gradient) => gradient.poll_timeout(),
        }
    }

    /// Ends what has lasted too long. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<u32> {
        let now = self.at(now);
        if let Algorithm::Gradient(gradient) = &mut self.algorithm {
            gradient.handle_timeout(now);
        }
        self.change()
    }

    /// The app was started anew: nothing that was learned holds, but the limit is as good a start as any.
    pub fn reset(&mut self) -> Option<u32> {
        self.begin(self.limit());
        self.change()
    }

    /// Keeps what was found as far as the new settings allow it.
    pub fn reconfigure(&mut self, settings: &traffic::Concurrency) -> Option<u32> {
        let limit = self.limit();
        let same = self.settings.algorithm == settings.algorithm;
        self.settings = sane(settings);
        match &mut self.algorithm {
            Algorithm::Gradient(gradient) if same => gradient.bounds(&self.settings),
            _ => self.begin(limit),
        }
        self.change()
    }

    pub fn view(&self) -> View {
        let (latency, least, phase) = match &self.algorithm {
            Algorithm::Fixed | Algorithm::Aimd { .. } => (None, None, Phase::Steady),
            Algorithm::Gradient(gradient) => (Some(gradient.latency()), gradient.least(), gradient.phase()),
        };
        View { algorithm: self.settings.algorithm, limit: self.limit(), latency, least, phase }
    }

    fn begin(&mut self, limit: u32) {
        let limit = f64::from(limit.clamp(self.settings.min, self.settings.max));
        self.algorithm = match self.settings.algorithm {
            ConcurrencyAlgorithm::Fixed => Algorithm::Fixed,
            ConcurrencyAlgorithm::Aimd => Algorithm::Aimd { limit, window: Window::default() },
            ConcurrencyAlgorithm::Gradient => {
                Algorithm::Gradient(Box::new(Gradient::new(&self.settings, limit)))
            }
        };
    }

    fn at(&mut self, now: Instant) -> Instant {
        *self.latest.insert(self.latest.map_or(now, |latest| latest.max(now)))
    }

    fn change(&mut self) -> Option<u32> {
        let limit = self.limit();
        debug_assert!((self.settings.min..=self.settings.max).contains(&limit), "the bounds hold");
        (std::mem::replace(&mut self.told, limit) != limit).then_some(limit)
    }
}

/// At least one request may be under way, and the bounds are in order.
fn sane(settings: &traffic::Concurrency) -> traffic::Concurrency {
    let min = settings.min.max(1);
    let max = settings.max.max(min);
    traffic::Concurrency { min, max, initial: settings.initial.clamp(min, max), ..*settings }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and NaN is 0"
)]
fn whole(limit: f64) -> u32 {
    limit.floor() as u32
}
