//! A circuit breaker: stops calling what fails, and finds out by a few real requests when it works again.
//!
//! One [`Machine`] for each endpoint, or one for the service where policy's scope says so. Its upstream's actor owns it and
//! publishes its [`Snapshot`]; shards read that and never change a state themselves.
//!
//! ```text
//!               consecutive failures, failure ratio, slow calls
//!      ┌────────┐ ───────────────────────────────────▶ ┌──────┐
//!      │ Closed │                                       │ Open │◀──┐
//!      └────────┘                                       └──────┘   │ a probe failed:
//!          ▲                                     the wait │        │ the wait doubles
//!          │        enough probes succeeded       is over ▼        │
//!          └─────────────────────────────────────── ┌──────────┐ ──┘
//!                                                   │ HalfOpen │
//!                                                   └──────────┘
//! ```
//!
//! `Closed`: traffic flows. `Open`: it is refused, for a time that doubles with each opening and of which a part is drawn at
//! random, so that all callers of one backend do not come back in one moment. `HalfOpen`: a bounded number of requests are
//! probes, and nothing else passes.
//!
//! **Epochs.** Each change of state begins an epoch, and a request carries the one in which it was sent. Outcomes of another
//! epoch than the present one are ignored: what was sent before the breaker opened says nothing about the time after.
//!
//! **Failures in a row over all shards.** A shard keeps a [`Tally`] and sends it as [`Outcomes`] each 50 ms, and at once when
//! [`URGENT`] failures are in it that no success followed. So each shard has at most one such failure that the machine does
//! not know: with a threshold of N it opens with failure N at the earliest and N + shards at the latest. "In a row" is by
//! time of completion: each digest has the time of its last success and the failures after it as a [`Streak`] with the
//! times of its first and last failure, and the machine drops what the latest success of any shard followed
//! ([`streaks`]). A success that a shard has not told yet, for 50 ms at most, does not hold it closed. The price is a
//! message for each two failures in a row while it is closed; without it the bound would be N for each shard.
//!
//! **Ratios** are over a sliding window of ten buckets ([`window`]), with a minimum of requests.
//!
//! **Ejection** ([`ejection`]) decides of which endpoints it holds that they are left out: never more than policy's share.
//!
//! Messages in: [`Input`]. Out: [`Snapshot`] by the actor, [`View`] for people.

pub mod cause;
pub mod ejection;
pub mod machine;
pub mod messages;
pub mod streaks;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod window;

pub use cause::{Cause, Position, Transition};
pub use machine::Machine;
pub use messages::{Gate, Input, Output, Outputs, Probe, Probed, Snapshot, View};
pub use streaks::Streak;
pub use tally::{Outcomes, Tally, URGENT, Urgency};
pub use window::Counts;

/// What a request says about the endpoint that got it; policy's `failureWhen` decides ([`crate::pipeline::judge`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Success,
    Failure,
    /// Nothing: the client went away, or the far side shed it on purpose.
    Ignored,
}

/// Whether a request took longer than policy's threshold of a slow call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Prompt,
    Slow,
}
