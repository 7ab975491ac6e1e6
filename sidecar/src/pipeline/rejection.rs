//! Every answer that the sidecar itself makes: one closed list of reasons, and one table of what each looks like.
//!
//! The table ([`Rejection::row`]) says the status, the error of `Proxy-Status` (RFC 9209), the two-letter flag that users
//! of Envoy grep for, the metric's label, the gRPC status, and whether another attempt makes sense. [`answer()`] writes it
//! down for the caller. `docs/reference/refusals.md` is generated from both.
//!
//! Statuses follow Envoy where it has the case, so that dashboards and retry conditions keep their meaning: a failure to
//! reach an endpoint is a 503 and not the 502 that RFC 9209 suggests.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use outrider_shared::ServiceId;
use outrider_shared::identity::PeerRefusal;

use super::path::BadPath;
use super::principal::Principal;
use crate::leg::h1::malformed::Malformed;

mod answer;
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
    /// There is no snapshot yet: the sidecar has never reached its control plane.
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

    /// What happened, with the values that are needed to act; only for those inside the mesh.
    pub fn detail(&self) -> String {
        let mut text = String::new();
        let written = match self {
            Self::MalformedRequest { why } => write!(text, "the request cannot be understood: {why}"),
            Self::MalformedMessage { malformed } => {
                write!(text, "the request cannot be understood: {malformed}")
            }
            Self::HeadTooLarge { malformed } => write!(text, "{malformed}"),
            Self::HeadTimeout { limit } => write!(text, "the head was not whole within {limit:?}"),
            Self::TargetTooLong { limit } => write!(text, "the target is longer than {limit} bytes"),
            Self::ExpectationFailed => write!(text, "the request expects something other than 100-continue"),
            Self::CodingNotImplemented => {
                write!(text, "the request's Transfer-Encoding is something besides chunked")
            }
            Self::VersionNotSupported => write!(text, "the version is neither HTTP/1.1 nor HTTP/1.0"),
            Self::MalformedPath { bad } => write!(text, "{bad}"),
            Self::NotReady => write!(text, "this sidecar has no snapshot from the control plane yet"),
            Self::UnknownHost { host } => write!(text, "no service of the mesh is called {host:?}"),
            Self::UnresolvedHost { host } => write!(text, "{host:?} has no address"),
            Self::OwnAddress { address } => write!(text, "{address} is a listener of this sidecar"),
            Self::UnknownPort { service, port } => write!(text, "{service} declares no port {port}"),
            Self::NoRoute => {
                write!(text, "routes are attached to the service's port, and none of them matches")
            }
            Self::NoBackend { why } => write!(text, "the route's rule leads to no backend: {why}"),
            Self::NoEndpoint { ejected: 0 } => write!(text, "no endpoint is registered"),
            Self::NoEndpoint { ejected } => write!(text, "all {ejected} endpoints are ejected"),
            Self::ConnectFailed { endpoint } => write!(text, "{endpoint} does not accept connections"),
            Self::ConnectTimeout { endpoint, limit } => {
                write!(text, "{endpoint} took longer than {limit:?} to connect to")
            }
            Self::PeerIdentity { endpoint, refusal } => write!(text, "{endpoint} was refused: {refusal}"),
            Self::TlsFailed { endpoint } => write!(text, "the TLS handshake with {endpoint} failed"),
            Self::ConcurrencyLimit { limit } => {
                write!(text, "{limit} requests are under way, and no more may be")
            }
            Self::QueueFull { why } | Self::QueueTimeout { why } => write!(text, "{why}"),
            Self::BreakerOpen { cause } => {
                write!(text, "the service's circuit breaker is not closed: {cause}")
            }
            Self::RetryBudgetExhausted => {
                write!(text, "it failed, and the budget of retries towards this service is spent")
            }
            Self::DeadlineUnreachable => {
                write!(text, "it could not be answered before the deadline that its caller has set")
            }
            Self::RequestTimeout { limit } => write!(text, "the request took longer than {limit:?}"),
            Self::BackendTimeout { limit } => write!(text, "the attempt took longer than {limit:?}"),
            Self::UpstreamReset { endpoint } => write!(text, "{endpoint} closed the stream before an answer"),
            Self::LoopDetected { hops, limit } => {
                write!(
                    text,
                    "the request has passed {hops} pairs of sidecars, and at most {limit} are allowed"
                )
            }
            Self::MalformedTarget => write!(text, "the asked-for target is not namespace/name:port"),
            Self::Misdirected { target } => write!(text, "{target} is not served here"),
            Self::MtlsRequired { port } => write!(text, "port {port} takes requests over mTLS alone"),
            Self::Denied { principal } => write!(text, "a Deny rule matches {principal}"),
            Self::NotAllowed { principal } => {
                write!(text, "no rule of the service's Allow policies matches {principal} doing this")
            }
            Self::DeniedByDefault { principal } => {
                write!(text, "no Allow policy names the service, and the mesh's default refuses {principal}")
            }
            Self::AppRefused { target_port } => {
                write!(text, "the app does not accept connections on port {target_port}")
            }
            Self::AppConnectTimeout { target_port, limit } => {
                write!(text, "the app took longer than {limit:?} to accept on port {target_port}")
            }
            Self::AppReset { target_port } => {
                write!(text, "the app on port {target_port} closed the connection before an answer")
            }
            Self::UpgradeRefused => {
                write!(text, "the app did not go over to the protocol that was asked for")
            }
            Self::AppNotHttp { target_port, malformed: None } => {
                write!(text, "what the app on port {target_port} answered is not HTTP")
            }
            Self::AppNotHttp { target_port, malformed: Some(malformed) } => {
                write!(text, "the app on port {target_port} answered what is not HTTP: {malformed}")
            }
        };
        written.expect("a String takes whatever is written");
        text
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
