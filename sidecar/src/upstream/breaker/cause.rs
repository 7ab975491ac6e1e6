//! Why a breaker changed its state, in figures and as a sentence.

use std::fmt;
use std::time::{Duration, Instant};

/// Where a breaker stands, for whoever reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Traffic flows.
    Closed,
    /// It is refused until then.
    Open { until: Instant },
    /// It is refused, but for a few probes.
    HalfOpen,
}

impl Position {
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "Closed",
            Self::Open { .. } => "Open",
            Self::HalfOpen => "HalfOpen",
        }
    }
}

/// What led to a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The machine was made.
    Begun,
    ConsecutiveFailures {
        failures: u32,
    },
    FailureRatio {
        failures: u32,
        requests: u32,
        within: Duration,
    },
    SlowCalls {
        slow: u32,
        requests: u32,
        within: Duration,
        threshold: Duration,
    },
    /// The wait of an open breaker is over.
    Waited {
        waited: Duration,
    },
    ProbeFailed {
        /// Probes that had succeeded before.
        succeeded: u32,
    },
    ProbeSlow {
        threshold: Duration,
    },
    ProbesSucceeded {
        succeeded: u32,
    },
    /// Policy has no rule any more that could have opened it.
    PolicyWithdrawn,
    /// Somebody asked for it.
    Reset,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => write!(f, "it has not had a reason to open"),
            Self::ConsecutiveFailures { failures } => write!(f, "{failures} requests failed in a row"),
            Self::FailureRatio { failures, requests, within } => {
                write!(f, "{failures} of {requests} requests failed within {within:?}")
            }
            Self::SlowCalls { slow, requests, within, threshold } => {
                write!(f, "{slow} of {requests} requests within {within:?} took longer than {threshold:?}")
            }
            Self::Waited { waited } => write!(f, "it was open for {waited:.3?}"),
            Self::ProbeFailed { succeeded: 0 } => write!(f, "a probe failed"),
            Self::ProbeFailed { succeeded } => write!(f, "a probe failed after {succeeded} had succeeded"),
            Self::ProbeSlow { threshold } => write!(f, "a probe took longer than {threshold:?}"),
            Self::ProbesSucceeded { succeeded: 1 } => write!(f, "a probe succeeded"),
            Self::ProbesSucceeded { succeeded } => write!(f, "{succeeded} probes in a row succeeded"),
            Self::PolicyWithdrawn => write!(f, "policy has no rule any more that opens it"),
            Self::Reset => write!(f, "it was reset"),
        }
    }
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub at: Instant,
    pub to: Position,
    pub cause: Cause,
}
