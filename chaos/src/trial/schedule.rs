//! When requests are due: an open-loop schedule, made before the load begins and kept whatever the answers are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::random::Random;

/// How requests of one stream are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrivals {
    /// As independent callers come.
    Poisson,
    /// Each the same time after the last.
    Constant,
}

/// A rate, for a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    pub length: Duration,
    pub rate_per_second: f64,
}

impl Phase {
    pub fn new(length: Duration, rate_per_second: f64) -> Self {
        Self { length, rate_per_second }
    }
}

/// The due times of a stream, from the load's beginning, ascending.
pub fn dues(arrivals: Arrivals, phases: &[Phase], mut random: Random) -> Vec<Duration> {
    let mut dues = Vec::new();
    let mut begun = Duration::ZERO;
    for phase in phases {
        let end = begun + phase.length;
        if phase.rate_per_second > 0.0 {
            let gap = 1.0 / phase.rate_per_second;
            // A Poisson process has no memory, and so may begin anew with each phase.
            let mut at = begun.as_secs_f64()
                + match arrivals {
                    Arrivals::Poisson => gap * exponential(&mut random),
                    // Several streams of the same rate must not march in step.
                    Arrivals::Constant => gap * random.unit(),
                };
            while at < end.as_secs_f64() {
                dues.push(Duration::from_secs_f64(at));
                at += match arrivals {
                    Arrivals::Poisson => gap * exponential(&mut random),
                    Arrivals::Constant => gap,
                };
            }
        }
        begun = end;
    }
    dues
}

/// With mean 1.
fn exponential(random: &mut Random) -> f64 {
    // Of what lies in [0, 1), 1 - x is never 0.
    -(1.0 - random.unit()).ln()
}

/// All phases together.
pub fn length(phases: &[Phase]) -> Duration {
    phases.iter().map(|phase| phase.length).sum()
}

#[cfg(test)]
mod tests;
