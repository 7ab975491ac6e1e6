//! What goes into a breaker's machine, and what comes out of it.

use std::time::Instant;

use smallvec::SmallVec;

use super::cause::{Cause, Position, Transition};
use super::tally::Outcomes;
use super::window::Counts;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// From a shard, each 50 ms and when urgent. Lost: never, a shard keeps what was not taken.
    Outcomes(Outcomes),
    /// A shard that reads `HalfOpen` has a request, and waits for the answer. Lost: the request is refused.
    ProbeAsked,
    /// From the shard that was given it. Lost: [`super::machine::PROBE_MAX`] ends the wait.
    ProbeEnded { probe: Probe, ended: Probed },
}

/// The right to send one request while the breaker is half open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub epoch: u64,
    pub number: u64,
}

/// How a probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    Succeeded,
    /// It succeeded, and took longer than the threshold of a slow call.
    Slow,
    Failed,
    /// It says nothing ([`super::Outcome::Ignored`]), or was never sent.
    Ignored,
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    Admit { epoch: u64 },
    Refuse,
    Probe(Probe),
}

/// What the shell must do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The snapshot has changed.
    Publish,
    /// Answer whoever asked for a probe.
    Answer(Gate),
}

/// At most two: one of each.
pub type Outputs = SmallVec<[Output; 2]>;

/// What shards read, and what a new machine goes on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Grows with each change of state.
    pub epoch: u64,
    pub position: Position,
    pub since: Instant,
    /// Openings since it was last closed for long.
    pub openings: u32,
    /// Since when it has not been closed; the older of two breakers keeps its endpoint ejected.
    pub unfit_since: Option<Instant>,
    /// The latest last, at most [`super::machine::TRANSITIONS_MAX`]; never empty.
    pub transitions: Vec<Transition>,
}

impl Snapshot {
    /// Why it stands where it stands.
    pub fn cause(&self) -> &Cause {
        self.transitions.last().map_or(&Cause::Begun, |transition| &transition.cause)
    }
}

/// What people see.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    pub position: Position,
    pub since: Instant,
    /// Of the present state, with figures.
    pub cause: String,
    /// While it is open.
    pub next_probe_at: Option<Instant>,
    /// Within the window that ends now; counted only while it is closed.
    pub counts: Counts,
    pub failures_in_a_row: u32,
    pub probes_in_flight: usize,
    pub probes_succeeded: u32,
    /// Since it was last closed for long.
    pub openings: u32,
    /// The latest last.
    pub transitions: Vec<Transition>,
}
