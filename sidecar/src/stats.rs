//! What a sidecar counts: per shard, without a lock and without a cache line that two shards write.
//!
//! An atomic that several threads add to gets slower with each thread (12 ns on one, 53 on two), so every number here has
//! one writer: the shard that owns it. Whoever reads (a scrape, a report to the control plane, the admin port) adds the
//! shards up and may see them a moment apart.
//!
//! ```text
//! shard 0: ShardRecorder ──adds──▶ ShardStats, InboundPeerStats, UpstreamShardStats, EndpointShardStats ─┐
//! shard 1: ShardRecorder ──adds──▶ the same of its own ───────────────────────────────────────────────────┤
//!                                                         StatsRegistry (lock at registration and scrape) ┘──▶ totals
//! ```
//!
//! A handle is looked up once for a connection or an upstream; after that a request costs plain adds.

mod class;
mod counter;
mod found;
mod histogram;
mod labelled;
mod process;
mod recorder;
mod registry;
#[cfg(test)]
mod tests;
mod totals;

pub use class::AnswerClass;
pub use counter::{Counter, Gauge};
pub use found::{Found, OfAhead};
pub use histogram::{ClassHistograms, LatencyHistogram};
pub use labelled::{LABELS_MAX, LabelledCounters, OTHER};
pub use process::{OverloadStats, ProcessStats};
pub use recorder::{
    Beat, EndpointShardStats, InboundPeerStats, Listener, OpenConnection, PEERS_MAX, Recorded, ShardRecorder,
    ShardStats, Side, UpstreamShardStats,
};
pub use registry::StatsRegistry;
pub use totals::{
    ClassTotals, DetectedTotals, EndpointTotals, HistogramTotals, LabelTotals, ListenerTotals, PeerTotals,
    ShardTotals, UpstreamTotals,
};
