//! Hypotheses about failure, tried on a mesh of real processes: a fault, a bound, what callers saw, a verdict. And
//! [`trial`]: experiments with numbers, in which a mesh is compared with others.
//!
//! The crate knows nothing of the mesh's flags: its caller says by a [`Plan`] what to start, and it starts, breaks and
//! watches that. Judged is what a caller outside sees, never what the mesh says of itself, except for when a part is
//! back in service.

pub mod child;
mod client;
mod experiment;
mod fleet;
mod load;
mod plan;
mod report;
mod scenario;
pub mod trial;

pub use experiment::{Options, run};
pub use plan::{Part, Plan, Pod, Ready};
pub use report::{Check, Report, Verdict};
pub use scenario::Scenario;
