//! What happened, in words, with the values that are needed to act.

use std::fmt::Write as _;

use super::Rejection;
use crate::overload::machine::Resource;

impl Rejection {
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
            Self::NotReady => write!(
                text,
                "this sidecar has no snapshot from the control plane yet, or is too busy to begin with this service"
            ),
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
            Self::Overloaded { short_of } => {
                let what = match short_of {
                    Resource::Memory => "memory",
                    Resource::Connections => "descriptors for connections",
                    Resource::EventLoop => "time on its threads",
                };
                write!(text, "this sidecar is short of {what}, and refuses the least important requests")
            }
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
