//! Every answer that the sidecar itself makes: one closed list of reasons, and one table of what each looks like.
//!
//! The table ([`Rejection::row`]) says the status, the error of `Proxy-Status` (RFC 9209), the two-letter flag that users
//! of Envoy grep for, the metric's label, the gRPC status, and whether another attempt makes sense. [`answer()`] writes it
//! down for the caller. `docs/reference/refusals.md` is generated from both.
//!
//! Statuses follow Envoy where it has the case, so that dashboards and retry conditions keep their meaning: a failure to
//! reach an endpoint is a 503 and not the 502 that RFC 9209 suggests.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use outrider_shared::ServiceId;
use outrider_shared::identity::PeerRefusal;

use super::path::BadPath;
use super::principal::Principal;
use crate::leg::h1::malformed::Malformed;
use crate::overload::machine::Resource;

mod answer;
mod detail;
mod table;
#[cfg(test)]
mod tests;

pub use answer::{Detail, Refusal, Side, answer};

/// Why the sidecar answers by itself. Which side makes it is in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The request cannot be understood.
    MalformedRequest {
        why: &'static str,
    },
    /// It is no HTTP/1.1 message, or could be taken for more than one.
    MalformedMessage {
        malformed: Malformed,
    },
    /// The client did not finish the head in time.
    HeadTimeout {
        limit: Duration,
    },
    TargetTooLong {
        limit: usize,
    },
    HeadTooLarge {
        malformed: Malformed,
    },
    /// It expects something other than 100 (Continue).
    ExpectationFailed,
    /// Its content is coded in a way that is not implemented.
    CodingNotImplemented,
    VersionNotSupported,
    /// Its path has no normal spelling.
    MalformedPath {
        bad: BadPath,
    },
    /// There is no snapshot yet: the sidecar has never reached its control plane. Or the actor that begins with a service for the
    /// first time does not answer.
    NotReady,
    /// Outbound: no service has this name, and nothing outside the mesh may be called. Cut at 80 characters.
    UnknownHost {
        host: Box<str>,
    },
    /// Outbound: a host outside of the mesh has no address. Cut at 80 characters.
    UnresolvedHost {
        host: Box<str>,
    },
    /// Outbound: a host outside of the mesh is this sidecar itself.
    OwnAddress {
        address: SocketAddr,
    },
    /// Outbound: the service exists and does not declare this port.
    UnknownPort {
        service: ServiceId,
        port: u16,
    },
    /// Outbound: routes are attached to the service's port, and none matches.
    NoRoute,
    /// Outbound: the route's rule leads nowhere.
    NoBackend {
        why: &'static str,
    },
    /// Outbound: no endpoint is registered, or all are ejected.
    NoEndpoint {
        ejected: usize,
    },
    ConnectFailed {
        endpoint: SocketAddr,
    },
    ConnectTimeout {
        endpoint: SocketAddr,
        limit: Duration,
    },
    /// Outbound: the endpoint did not prove what was expected of it.
    PeerIdentity {
        endpoint: SocketAddr,
        refusal: Box<PeerRefusal>,
    },
    TlsFailed {
        endpoint: SocketAddr,
    },
    /// As many requests are under way to the upstream as may be.
    ConcurrencyLimit {
        limit: u32,
    },
    /// It had to wait, and there was no place, or somebody else's claim to it was better.
    QueueFull {
        why: &'static str,
    },
    /// It waited for its turn, and was given up.
    QueueTimeout {
        why: &'static str,
    },
    /// Inbound: the sidecar itself is short of something, and refuses what is less important.
    Overloaded {
        short_of: Resource,
    },
    /// Outbound: the service's breaker is open.
    BreakerOpen {
        cause: Box<str>,
    },
    /// Outbound: it failed, and as many retries as policy allows were made already, for this request and others.
    RetryBudgetExhausted,
    /// It could not be answered before its caller's deadline.
    DeadlineUnreachable,
    /// Outbound: the whole request took longer than its route allows.
    RequestTimeout {
        limit: Duration,
    },
    /// Outbound: one attempt took longer than its route allows.
    BackendTimeout {
        limit: Duration,
    },
    /// Outbound: the connection or the stream ended before an answer began.
    UpstreamReset {
        endpoint: SocketAddr,
    },
    /// The request has passed too many pairs of sidecars.
    LoopDetected {
        hops: u32,
        limit: u32,
    },
    /// Inbound: `outrider-target` is missing, or is not `namespace/name:port`.
    MalformedTarget,
    /// Inbound: the service or port asked for is not the local one's.
    Misdirected {
        target: Box<str>,
    },
    /// Inbound: plaintext to a port that takes mTLS alone.
    MtlsRequired {
        port: u16,
    },
    /// Inbound: a Deny rule matched.
    Denied {
        principal: Principal,
    },
    /// Inbound: Allow policies name the service, and none of their rules matched.
    NotAllowed {
        principal: Principal,
    },
    /// Inbound: no Allow policy names the service, and the mesh's default refuses.
    DeniedByDefault {
        principal: Principal,
    },
    /// Inbound: the app does not accept connections.
    AppRefused {
        target_port: u16,
    },
    AppConnectTimeout {
        target_port: u16,
        limit: Duration,
    },
    /// Inbound: the app closed the connection, or reset the stream, before an answer began.
    AppReset {
        target_port: u16,
    },
    /// The app did not go over to the protocol that the client asked for, which over HTTP/2 cannot be told otherwise.
    UpgradeRefused,
    /// Inbound: what the app answered is not HTTP.
    AppNotHttp {
        target_port: u16,
        malformed: Option<Malformed>,
    },
}

/// What a rejection looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub status: StatusCode,
    /// RFC 9209, section 2.3.
    pub proxy_status_error: &'static str,
    pub flag: Flag,
    /// Of metrics, of the answer's `type`, of the reference.
    pub label: &'static str,
    pub retry: Retry,
    pub grpc_status: GrpcStatus,
    /// For whoever calls; tells nothing about the inside.
    pub title: &'static str,
    /// For whoever can do something about it.
    pub next_step: &'static str,
}

/// Envoy's response flags, as far as there is one for the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// Downstream protocol error.
    Dpe,
    /// No cluster found.
    Nc,
    /// No route.
    Nr,
    /// No healthy upstream.
    Uh,
    /// DNS resolution failed.
    Df,
    /// Upstream connection failure.
    Uf,
    /// Upstream overflow.
    Uo,
    /// Overload manager: refused for the proxy's own sake.
    Om,
    /// Upstream retry limit exceeded.
    Urx,
    /// Upstream request timeout.
    Ut,
    /// Upstream connection termination.
    Uc,
    /// Upstream protocol error.
    Upe,
    /// Unauthorized by the authorization service.
    Uaex,
    /// Envoy has no flag for it.
    None,
}

impl Flag {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dpe => "DPE",
            Self::Nc => "NC",
            Self::Nr => "NR",
            Self::Uh => "UH",
            Self::Df => "DF",
            Self::Uf => "UF",
            Self::Uo => "UO",
            Self::Om => "OM",
            Self::Urx => "URX",
            Self::Ut => "UT",
            Self::Uc => "UC",
            Self::Upe => "UPE",
            Self::Uaex => "UAEX",
            Self::None => "-",
        }
    }
}

/// What is known about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The app provably never saw the request: another attempt is safe for every method.
    NeverRan,
    /// The same, and it says nothing about the endpoint, which protects its app.
    Shed,
    /// The app may have acted on it: only what may be repeated may be tried again.
    MayHaveRun,
    /// The same request gets the same answer.
    Useless,
}

/// The gRPC statuses that refusals use, with their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcStatus {
    DeadlineExceeded = 4,
    PermissionDenied = 7,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

impl GrpcStatus {
    /// Both spellings: of the field, and of people.
    pub fn spellings(self) -> (&'static str, &'static str) {
        match self {
            Self::DeadlineExceeded => ("4", "DEADLINE_EXCEEDED"),
            Self::PermissionDenied => ("7", "PERMISSION_DENIED"),
            Self::Unimplemented => ("12", "UNIMPLEMENTED"),
            Self::Internal => ("13", "INTERNAL"),
            Self::Unavailable => ("14", "UNAVAILABLE"),
        }
    }
}

impl Rejection {
    /// Cuts what a caller gave, which may be long, before it is kept.
    pub fn unknown_host(host: &str) -> Self {
        Self::UnknownHost { host: host.chars().take(80).collect() }
    }

    /// As [`Self::unknown_host`] does.
    pub fn unresolved_host(host: &str) -> Self {
        Self::UnresolvedHost { host: host.chars().take(80).collect() }
    }
}

impl From<Malformed> for Rejection {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooSlow { limit } => Self::HeadTimeout { limit },
            Malformed::TargetTooLong { limit } => Self::TargetTooLong { limit },
            Malformed::HeadTooLarge { .. } | Malformed::TooManyFields { .. } => {
                Self::HeadTooLarge { malformed }
            }
            Malformed::Expectation => Self::ExpectationFailed,
            Malformed::UnknownCoding => Self::CodingNotImplemented,
            Malformed::Version => Self::VersionNotSupported,
            malformed => Self::MalformedMessage { malformed },
        }
    }
}

impl From<BadPath> for Rejection {
    fn from(bad: BadPath) -> Self {
        Self::MalformedPath { bad }
    }
}
