//! Answers of the control plane's API (port 14100), for the CLI and the page.
//!
//! `GET /v1/stat`, `/v1/upstreams`, `/v1/quota`, `/v1/sidecars`, `/v1/policy`, `/v1/audit` need the role read;
//! `POST /v1/tokens` and `/v1/join-secrets`, and `DELETE` of either, the role mint. The credential goes into
//! `Authorization: Bearer`.

use serde::{Deserialize, Serialize};

use crate::session::{EventView, LeafView, OverloadView, UpstreamView};
use crate::snapshot::Version;
use crate::{ServiceId, SidecarId};

/// What a credential allows; mint includes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Looks at everything, changes nothing: `read-token` in the data directory.
    Read,
    /// Lets sidecars into the mesh, and takes such permissions back: `operator-token`.
    Mint,
}

/// `GET /v1/stat`: each declared service, over the last ten seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatAnswer {
    pub window_s: f64,
    pub revision: u64,
    pub services: Vec<ServiceStat>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStat {
    /// The service's name without its namespace.
    pub name: String,
    pub namespace: String,
    /// Share of requests that did not fail, 0 to 1; `null` without requests.
    pub success: Option<f64>,
    pub rps: f64,
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Principals that called in the window.
    pub peers: Vec<String>,
    /// Share of requests that came over mTLS, 0 to 1; `null` without requests.
    pub mtls: Option<f64>,
    pub sidecars: u32,
    /// Sidecars in the directory.
    pub endpoints: u32,
    /// Seconds until the first of its sidecars' leaves expires.
    pub cert_remaining_s: Option<i64>,
    pub refusals_per_s: f64,
    /// The highest of its sidecars' levels, from 0 to 10.
    #[serde(default)]
    pub overload_level: u8,
}

/// `GET /v1/sidecars`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SidecarsAnswer {
    pub sidecars: Vec<SidecarView>,
}

// Each is a field of the answer, and none depends on another.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SidecarView {
    pub sidecar: SidecarId,
    pub service: ServiceId,
    pub address: Option<String>,
    pub connected: bool,
    /// In the directory.
    pub published: bool,
    /// Why not, in words.
    pub unpublished_because: Option<String>,
    pub acked: Option<Version>,
    pub nack: Option<Vec<String>>,
    pub build: String,
    pub leaf: Option<LeafView>,
    pub draining: bool,
    pub bypassable: bool,
}

/// `GET /v1/upstreams[?service=namespace/name]`: as last reported by each sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpstreamsAnswer {
    pub sidecars: Vec<SidecarUpstreams>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SidecarUpstreams {
    pub sidecar: SidecarId,
    pub service: ServiceId,
    pub age_ms: u64,
    pub upstreams: Vec<UpstreamView>,
    /// The latest, the oldest first.
    #[serde(default)]
    pub events: Vec<EventView>,
    /// `None`: it is not overloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<OverloadView>,
}

/// `GET /v1/quota[?service=namespace/name]`: totals since the mesh began, by service and peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaAnswer {
    pub rows: Vec<QuotaRow>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuotaRow {
    pub service: ServiceId,
    pub peer: String,
    pub requests: u64,
    pub refusals: u64,
    pub failures: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

/// `GET /v1/policy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    pub revision: u64,
    /// Hex SHA-256 of the documents.
    pub hash: String,
    pub loaded_unix_s: i64,
    /// Why the directory's present content is refused; empty when it is in force. Rendered, one for each problem.
    pub problems: Vec<String>,
}

/// `POST /v1/tokens` and `POST /v1/join-secrets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MintRequest {
    pub service: ServiceId,
    /// Seconds; a token's default is an hour, a join secret's none.
    #[serde(default)]
    pub ttl_s: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MintAnswer {
    /// To be given to a sidecar: shown once.
    pub credential: String,
    pub id: String,
    pub expires_unix_s: Option<i64>,
}
