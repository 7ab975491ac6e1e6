//! What a sidecar and the control plane say to each other over one WebSocket (`GET /v1/session` on the control port).
//!
//! Each message is JSON, cut into binary WebSocket frames by [`framing`], since libraries limit a frame to 64 KiB.
//!
//! ```text
//! sidecar                       control plane
//!   Hello            ──▶
//!                    ◀──        Push        (or Goodbye, with the reason, and the socket closes)
//!   Ack | Nack       ──▶
//!   Announce, Report ──▶                    (whenever, each second)
//!   Withdraw         ──▶
//!                    ◀──        Withdrawn   (every other session has taken the push without us, or left, or 4 s are over)
//! ```

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::snapshot::{SignedSnapshot, Version};
use crate::{ServiceId, SidecarId, SpiffeId};

pub mod framing;
mod timeless;

/// From a sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum FromSidecar {
    /// First message of a session. Lost: the session closes after 5 s.
    Hello(Hello),
    /// The app's ports all answer, or not all do. Lost: the next session's `Hello` says it anew.
    Announce { serving: bool },
    /// Take us out of every directory, for good. Lost: the sidecar stops waiting after its own bound.
    Withdraw,
    /// This version is in force.
    Ack { version: Version },
    /// This version is refused, and the one before stays in force.
    Nack { version: Option<Version>, reasons: Vec<String> },
    /// Cumulative, so a lost or repeated one does no harm.
    Report(Box<Report>),
}

/// From the control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum FromControlPlane {
    Push(SignedSnapshot),
    Withdrawn,
    /// Why the session ends: another one of the same sidecar began, a claim was refused, a message was not understood.
    Goodbye {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version of this file: [`PROTOCOL`].
    pub protocol: u32,
    pub sidecar: SidecarId,
    /// Random, one for each run of the process.
    pub boot: String,
    /// Crate version, for people.
    pub build: String,
    pub service: ServiceId,
    /// Where others reach the inbound mesh port. `None`: the session's source address with `inbound_port`.
    pub address: Option<SocketAddr>,
    pub inbound_port: u16,
    pub serving: bool,
    /// What it can enforce, of [`crate::names::feature`]. The session is refused where its snapshot needs more.
    pub features: Vec<String>,
    /// What is in force, from disk or an earlier session.
    pub version: Option<Version>,
}

pub const PROTOCOL: u32 = 1;

/// A boot's counters since its start, and how it stands now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    pub boot: String,
    /// Milliseconds since the boot's start; grows with each report of a boot.
    pub uptime_ms: u64,
    /// At most [`REPORT_ROWS_MAX`] rows; the rest is folded into the peer `_other`.
    pub inbound: Vec<InboundTotals>,
    /// One for each outbound service and inbound port.
    pub upstreams: Vec<UpstreamView>,
    /// The latest, the oldest first.
    #[serde(default)]
    pub events: Vec<EventView>,
    pub leaf: Option<LeafView>,
    pub draining: bool,
    /// The app's port answers on an address that is not loopback, so neighbours can go around the sidecar.
    pub bypassable: bool,
    /// `None`: it is not overloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<OverloadView>,
}

/// The sidecar itself is short of something, so that it refuses what is less important.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverloadView {
    /// From 0 to 10, as in `outrider_overload_level`.
    pub level: u8,
    /// `memory`, `connections` or `event_loop`.
    pub short_of: String,
}

/// Bounds a report to about 200 KiB. The control plane ends a session that sends more.
pub const REPORT_ROWS_MAX: usize = 1_000;
/// Upstreams in one report. 200: at some 500 bytes each, half of what a report may weigh.
pub const REPORT_UPSTREAMS_MAX: usize = 200;

/// Requests from one peer to one local port. All counters are cumulative since the boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InboundTotals {
    pub port: u16,
    /// A SPIFFE ID, `external`, `unauthenticated`, or `_other`.
    pub peer: String,
    pub mtls: bool,
    /// Every request that was recorded, refused ones included.
    pub requests: u64,
    /// Those that the sidecar itself refused.
    pub refusals: u64,
    /// Those that failed: 5xx, a gRPC status among `UNKNOWN`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, `UNIMPLEMENTED`,
    /// `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, or an answer that broke off. Refusals with 4xx are not failures.
    pub failures: u64,
    /// Bytes of bodies.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// Sparse histogram of durations from the head of the request to the end of the answer: (bucket, count);
    /// bounds by [`crate::session::latency_bucket_us`].
    pub latency: Vec<(u16, u64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafView {
    pub identity: SpiffeId,
    pub serial: String,
    pub not_before_unix_s: i64,
    pub not_after_unix_s: i64,
}

/// One upstream, as its actor sees it: one consistent snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamView {
    /// `namespace/name` outbound, `inbound:port` inbound.
    pub name: String,
    pub side: String,
    /// The actor's snapshot number, and how often it was started anew.
    pub generation: u64,
    pub incarnation: u64,
    pub limit: u32,
    pub in_use: u32,
    /// Permits that lie idle at shards, by shard.
    pub leased_idle: Vec<u32>,
    pub endpoints: Vec<EndpointView>,
    pub requests: u64,
    pub failures: u64,
    pub refusals: u64,
    pub redispatches: u64,
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
    /// Attempts that were made again, and those that the budget did not allow.
    #[serde(default)]
    pub retries: u64,
    #[serde(default)]
    pub retries_refused: u64,
    /// Calls of the app that passed on no trace, so that no deadline and no class is known of them.
    #[serde(default)]
    pub without_context: u64,
    /// What the upstream's actor says; `None`: it has just begun.
    #[serde(default)]
    pub actor: Option<ActorView>,
    /// More endpoints have a reason to be left out than may be, so all are used.
    #[serde(default)]
    pub panic: Option<String>,
    /// Of what is on its way to the upstream's actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<MailboxView>,
    /// Of ports without `appProtocol`; left out where there are none, so that a control plane without them reads it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detected: Vec<DetectedView>,
}

/// What connections to a port turned out to speak.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectedView {
    /// `namespace/name:port`.
    pub port: String,
    /// As in the metric `outrider_detected_connections_total`.
    pub verdict: String,
    pub connections: u64,
}

/// Messages on their way to an upstream's actor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxView {
    /// Messages that may lie in it.
    pub capacity: u64,
    pub depth: u64,
    /// Those that were not taken, since it was full or the actor was being started anew.
    pub refused: u64,
    /// How long those lay in it that were heard, in microseconds, since the boot.
    pub p50_us: u64,
    pub p99_us: u64,
}

/// An upstream's actor at one instant: the figures of each part fit together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActorView {
    pub limit: LimitView,
    pub queue: QueueView,
    pub budget: BudgetView,
    /// Of the service as a whole, where policy's scope is that.
    pub breaker: Option<BreakerView>,
}

/// How many requests may be under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitView {
    /// `Fixed`, `AIMD` or `Gradient`.
    pub algorithm: String,
    pub limit: u32,
    /// Typical, in the last window; and the least that was learnt.
    pub latency_us: Option<u64>,
    pub least_latency_us: Option<u64>,
    /// The limit is down for a moment, to learn the least latency.
    pub is_learning: bool,
}

/// `depth` is `admitted` less `dispatched` less `shed`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueView {
    pub depth: u64,
    pub depth_max: u64,
    pub oldest_ms: Option<u64>,
    pub admitted: u64,
    pub dispatched: u64,
    /// Had a place, and left it without a permit.
    pub shed: u64,
    /// Of them, those whose caller went away.
    pub cancelled: u64,
    /// Never had a place.
    pub refused: u64,
    /// By class, the most important first, and the peers that hold most.
    pub classes: Vec<WaitingView>,
    pub peers: Vec<WaitingView>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitingView {
    pub name: String,
    pub depth: u64,
    pub oldest_ms: Option<u64>,
}

/// Retries that are left now, of those that the interval allows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetView {
    pub left: u64,
    pub of: u64,
    /// Within the interval.
    pub retries: u64,
    pub requests: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerView {
    /// `Closed`, `Open` or `HalfOpen`.
    pub state: String,
    pub since_ms: u64,
    pub cause: String,
    pub next_probe_in_ms: Option<u64>,
    /// Within the window, while it is closed.
    pub requests: u32,
    pub failures: u32,
    pub slow: u32,
    pub failures_in_a_row: u32,
}

/// Something that happened to an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventView {
    /// Counts from 1 in each boot.
    pub number: u64,
    pub unix_ms: u64,
    pub upstream: String,
    /// `None`: the upstream as a whole.
    pub endpoint: Option<String>,
    pub what: String,
}

/// Events in a report: the latest. 32: a mesh that works has fewer in a day, and the sidecar itself keeps 1,024.
pub const REPORT_EVENTS_MAX: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointView {
    pub address: String,
    pub sidecar: Option<SidecarId>,
    /// `Healthy`, `Trial`, `Ejected`, `Unwell`, or its breaker's `Open` and `HalfOpen`.
    pub state: String,
    /// Its breaker, where policy's scope is the endpoint.
    #[serde(default)]
    pub breaker: Option<BreakerView>,
    /// Why it is not as it should be, in words.
    pub cause: Option<String>,
    pub retry_in_ms: Option<u64>,
    pub connections: u32,
    pub in_flight: u32,
    pub requests: u64,
    pub ewma_us: u64,
}

/// Upper bound, in microseconds, of latency bucket `index`: four buckets to each doubling, from 64 us to nearly 8 minutes,
/// so a quantile read from it is at most 25 % too high. The last bucket has no bound.
pub fn latency_bucket_us(index: u16) -> u64 {
    let (octave, quarter) = (u32::from(index / 4), u64::from(index % 4));
    (64_u64 << octave.min(40)) * (4 + quarter) / 4
}

/// How many buckets there are.
pub const LATENCY_BUCKETS: usize = LATENCY_LAST as usize + 1;
/// The bucket without a bound.
const LATENCY_LAST: u16 = 4 * 23;

/// The bucket of a duration.
pub fn latency_bucket(us: u64) -> u16 {
    if us <= 64 {
        return 0;
    }
    if us > latency_bucket_us(LATENCY_LAST - 1) {
        return LATENCY_LAST;
    }
    let octave = (us - 1).ilog2() - 6;
    let base = 64_u64 << octave;
    // `us` is in (base, 2 * base]: the quarter rounds up, and a fourth one is the next octave's first.
    let quarter = ((us - base) * 4).div_ceil(base);
    let index = u64::from(octave) * 4 + quarter;
    u16::try_from(index).expect("longer durations have the last bucket")
}

/// The `q` quantile (0 to 1) of a sparse histogram, as the upper bound of its bucket; 0 where there is nothing.
pub fn latency_quantile_us(buckets: &[(u16, u64)], q: f64) -> u64 {
    // A peer's numbers: they may not add up.
    let total = buckets.iter().fold(0_u64, |total, (_, n)| total.saturating_add(*n));
    if total == 0 {
        return 0;
    }
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = ((total as f64) * q).ceil().max(1.0) as u64;
    let mut seen = 0_u64;
    for &(bucket, n) in buckets {
        seen = seen.saturating_add(n);
        if seen >= rank {
            return latency_bucket_us(bucket);
        }
    }
    0
}

#[cfg(test)]
mod tests;
