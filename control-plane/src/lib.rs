//! The control plane: issues identities, distributes policy, keeps the registry of sidecars, and adds up quota telemetry.
//!
//! ```text
//!            ┌ Authority     keys, credentials, leaves
//! Supervisor ┼ PolicyStore   revisions, from a watched directory
//!            ├ Registry      who is alive and published; plans a snapshot for each session
//!            ├ Session …     one for each sidecar, over WebSocket and mTLS
//!            └ QuotaLedger … one for each service
//! ```

pub mod api;
pub mod authority;
pub mod control;
pub mod metrics;
pub mod parts;
pub mod planner;
pub mod policy_store;
pub mod problem;
pub mod quota;
pub mod registry;
pub mod session;
pub mod start;
pub mod stats;
pub mod store;
pub mod supervisor;

pub use start::{Args, Config, Running, run, start};
