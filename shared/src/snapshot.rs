//! Everything that one sidecar needs to serve, as one immutable value.
//!
//! Made by the control plane's planner, signed, pushed, kept on disk by the sidecar. It holds the whole directory, and
//! the routes of every service: few enough in a mesh of this size; narrowing them to what a sidecar uses comes with deltas.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::authorization::{AuthorizationPolicy, DefaultAuthorization};
use crate::network::IpNetwork;
use crate::route::Route;
use crate::traffic::{ClientTraffic, ServerTraffic};
use crate::units::Fraction;
use crate::{RuleId, ServiceId, SidecarId, SpiffeId, TrustDomain};

/// Orders snapshots. A control plane that lost its state begins a new epoch; a rollback is a new sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    pub epoch: u64,
    pub sequence: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub version: Version,
    /// The policy revision that all rules in here come from.
    pub revision: u64,
    /// Whom this is for; another sidecar refuses it.
    pub sidecar: SidecarId,
    pub mesh: Mesh,
    pub local: LocalService,
    pub directory: Vec<DirectoryService>,
    pub routes: Vec<Route>,
    pub tracing: Tracing,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// `MeshConfig/name`, quoted by refusals that no rule made; `MeshConfig/default` where no document declares one.
    pub id: RuleId,
    pub trust_domain: TrustDomain,
    pub default_authorization: DefaultAuthorization,
    #[serde(default)]
    pub egress: Egress,
    #[serde(default)]
    pub path_normalization: PathNormalization,
    /// Who is believed by a port that takes plaintext; each edge has its own.
    #[serde(default)]
    pub forwarded: Forwarded,
}

/// What apps may reach outside of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Egress {
    /// Declared services alone.
    #[default]
    RegistryOnly,
    /// Any host, over plaintext HTTP.
    Allow,
}

/// How many spellings of a path count as one; each mode does what the one before it does. The modes are Istio's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum PathNormalization {
    /// Nothing, and nothing is refused but what no path may contain.
    None,
    /// RFC 3986, section 6.2.2: escapes of unreserved characters decoded, dot segments removed; `\` is read as `/`, as
    /// browsers do. Escapes that stay keep the case of their digits.
    #[default]
    Base,
    /// Slashes in a row become one, after the dot segments are gone.
    MergeSlashes,
    /// `%2F` and `%5C` are decoded first.
    DecodeAndMergeSlashes,
}

/// Who is believed about where a request from outside began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forwarded {
    pub trusted: TrustedProxies,
    pub header: ForwardedHeader,
}

/// The proxies before a port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TrustedProxies {
    #[default]
    None,
    /// So many of them, each of which adds one entry.
    Hops(u8),
    /// Those that come from these networks.
    Networks(Vec<IpNetwork>),
}

/// The field to which trusted proxies add.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ForwardedHeader {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Whether a port takes plaintext from peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mtls {
    #[default]
    Strict,
    /// As principal `unauthenticated`.
    Permissive,
}

/// The service beside which the sidecar runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalService {
    pub service: ServiceId,
    pub identity: SpiffeId,
    pub ports: Vec<LocalPort>,
    pub edges: Vec<Edge>,
    pub authorization: Vec<AuthorizationPolicy>,
    /// Services that it is declared to call.
    pub upstreams: Vec<ServiceId>,
    /// How the app is protected; `None`: by the defaults.
    #[serde(default)]
    pub traffic: Option<ServerTraffic>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalPort {
    /// What callers ask for.
    pub port: u16,
    /// Where the app listens.
    pub target_port: u16,
    pub app_protocol: AppProtocol,
    #[serde(default)]
    pub mtls: Mtls,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The sidecar listens here for callers from outside.
    pub port: u16,
    pub target_port: u16,
    pub app_protocol: AppProtocol,
    /// Names of the certificates that are shown; none: plaintext.
    #[serde(default)]
    pub certificates: Vec<String>,
    #[serde(default)]
    pub forwarded: Forwarded,
}

/// How the app is spoken to on a port (Kubernetes' `appProtocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AppProtocol {
    /// `http`: HTTP/1.1.
    Http1,
    /// `kubernetes.io/h2c`, `http2`: HTTP/2 with prior knowledge.
    Http2,
    /// `grpc`: HTTP/2, and refusals are gRPC statuses.
    Grpc,
    /// `tcp`: nothing is looked at.
    Tcp,
    /// Not said: each connection is spoken to as its client speaks.
    Detect,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryService {
    pub service: ServiceId,
    /// What every endpoint of it must prove.
    pub identity: SpiffeId,
    pub ports: Vec<DirectoryPort>,
    pub endpoints: Vec<Endpoint>,
    /// How it is called; `None`: by the defaults.
    #[serde(default)]
    pub traffic: Option<ClientTraffic>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryPort {
    pub port: u16,
    pub app_protocol: AppProtocol,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub sidecar: SidecarId,
    /// Its inbound mesh port, dialled and verified by the control plane.
    pub address: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// Of requests that come without a decision, and of all where `parent_based` is off.
    pub sampling: Fraction,
    pub parent_based: bool,
    pub propagation: Vec<Propagation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    TraceContext,
    Baggage,
    B3,
}

impl Default for Tracing {
    /// No sampling of our own; a caller's decision is followed, and its context passed on.
    fn default() -> Self {
        Self {
            sampling: Fraction::NONE,
            parent_based: true,
            propagation: vec![Propagation::TraceContext, Propagation::Baggage],
        }
    }
}

/// A snapshot as it travels and lies on disk: the exact bytes that were signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedSnapshot {
    /// JSON of a [`Snapshot`].
    pub body: String,
    /// ECDSA P-256 with SHA-256 over [`SIGNING_CONTEXT`] and `body`, ASN.1 DER, base64.
    pub signature: String,
    /// DER certificates in base64: the signer's (the control plane's SPIFFE ID), then its intermediate.
    pub signer: Vec<String>,
}

/// Keeps a signature over a snapshot from being taken for one over anything else.
pub const SIGNING_CONTEXT: &[u8] = b"outrider snapshot v1\0";
/// Largest snapshot, in bytes of JSON. 16 MiB: 50,000 endpoints of 200 bytes, and half as much again for policy.
pub const SNAPSHOT_BYTES_MAX: usize = 16 << 20;
