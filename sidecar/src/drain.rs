//! A drain takes the sidecar out of service without a failed request.
//!
//! Closing the listeners first would refuse callers that have not yet heard that we leave. So: withdraw the address, go
//! on accepting until every other sidecar has acknowledged it (or a bound passes), then stop accepting, then let what is
//! under way finish, and serve the app's own calls meanwhile, since it too is shutting down.
//!
//! ```text
//!            Asked                   Withdrawn | WITHDRAWAL_MAX      open == 0 | grace
//! Serving ────────────▶ Withdrawing ────────────────────▶ Finishing ──────────────────▶ Done
//!                            │ Asked again                    │ Asked again                ▲
//!                            └────────────────────────────────┴────────────────────────────┘
//! ```
//!
//! In: [`Input`]. Out: [`Output`], carried out by the node.

use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// Waits for the control plane to say that all have taken us out. 5 s: three times the longest push seen with 5,000
/// sidecars.
pub const WITHDRAWAL_MAX: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// SIGTERM, SIGINT or `POST /drain`. A second one means: at once.
    Asked,
    /// The control plane saw every other session take the withdrawal, or there is no session. Lost: the bound passes.
    Withdrawn,
    /// So many inbound requests and connections are open now. From a poll of the shards' counters.
    Open(u64),
}

/// What the node must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    Withdraw,
    /// Stop accepting from outside, and tell connections from there to finish (GOAWAY, `Connection: close`).
    Finish,
    /// End the process. `cut`: what was cut off.
    Exit {
        cut: u64,
    },
}

/// Where a drain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Serving,
    Withdrawing { until: Instant },
    Finishing { until: Instant },
    Done,
}

#[derive(Debug)]
pub struct Machine {
    grace: Duration,
    phase: Phase,
    open: u64,
}

impl Machine {
    pub fn new(grace: Duration) -> Self {
        Self { grace, phase: Phase::Serving, open: 0 }
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn handle(&mut self, input: Input, now: Instant) -> Option<Output> {
        if let Input::Open(open) = input {
            self.open = open;
        }
        match (self.phase, input) {
            (Phase::Serving, Input::Asked) => {
                self.phase = Phase::Withdrawing { until: now + WITHDRAWAL_MAX };
                Some(Output::Withdraw)
            }
            (Phase::Withdrawing { .. }, Input::Withdrawn) => Some(self.finish(now)),
            (Phase::Withdrawing { .. } | Phase::Finishing { .. }, Input::Asked)
            | (Phase::Finishing { .. }, Input::Open(0)) => Some(self.exit()),
            (Phase::Serving | Phase::Finishing { .. }, Input::Withdrawn)
            | (Phase::Serving | Phase::Withdrawing { .. } | Phase::Finishing { .. }, Input::Open(_))
            | (Phase::Done, _) => None,
        }
    }

    /// When to call [`Machine::handle_timeout`], if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Withdrawing { until } | Phase::Finishing { until } => Some(until),
            Phase::Serving | Phase::Done => None,
        }
    }

    /// Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Output> {
        match self.phase {
            Phase::Withdrawing { until } if now >= until => Some(self.finish(now)),
            Phase::Finishing { until } if now >= until => Some(self.exit()),
            Phase::Serving | Phase::Withdrawing { .. } | Phase::Finishing { .. } | Phase::Done => None,
        }
    }

    fn finish(&mut self, now: Instant) -> Output {
        self.phase = Phase::Finishing { until: now + self.grace };
        Output::Finish
    }

    fn exit(&mut self) -> Output {
        self.phase = Phase::Done;
        Output::Exit { cut: self.open }
    }
}
