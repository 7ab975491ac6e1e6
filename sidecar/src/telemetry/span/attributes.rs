//! What a span says, as named fields instead of a map: the set is small, fixed, and costs nothing to build.
//!
//! Names follow OpenTelemetry's semantic conventions for HTTP and RPC; those that begin with `outrider.` are ours.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Method;

/// Attributes of one span; what is `None` is left out.
#[derive(Debug, Clone, Default)]
pub struct SpanAttributes {
    pub method: Option<Method>,
    /// Without the query, which may carry secrets. On spans only, never on a metric.
    pub path: Option<Box<str>>,
    pub status: Option<u16>,
    pub server: Option<ServerAddress>,
    /// `1.0`, `1.1` or `2`.
    pub protocol_version: Option<&'static str>,
    pub rpc: Option<Rpc>,
    /// What failed, in a word of few: the rejection's label, or the status.
    pub error: Option<Cow<'static, str>>,
    /// How often the request was sent before this attempt.
    pub resends: u32,
    /// `kind/name#rule@revision` that decided.
    pub rule: Option<Box<str>>,
    /// Two letters, as `UH`.
    pub flag: Option<&'static str>,
    /// Where the attempt went.
    pub endpoint: Option<SocketAddr>,
    /// The principal at the other end.
    pub peer: Option<Box<str>>,
    /// Where a request from outside began. On spans only, never on a metric.
    pub client: Option<IpAddr>,
    pub sampled_by: SampledBy,
}

impl SpanAttributes {
    /// Of an attempt whose end nobody saw, since the request was cancelled.
    pub(super) fn cut_off() -> Self {
        Self { error: Some(Cow::Borrowed("cancelled")), ..Self::default() }
    }
}

/// Whom the caller asked for, not where it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// `name.namespace`, or a host.
    pub address: Box<str>,
    pub port: u16,
}

impl ServerAddress {
    /// Of `namespace/name:port`.
    pub fn of(name: &str) -> Option<Self> {
        let (service, port) = name.rsplit_once(':')?;
        let (namespace, name) = service.split_once('/')?;
        Some(Self { address: format!("{name}.{namespace}").into(), port: port.parse().ok()? })
    }
}

/// A gRPC call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rpc {
    pub service: Box<str>,
    pub method: Box<str>,
    /// `None`: the call ended without one.
    pub status: Option<u32>,
}

/// Why a span is exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SampledBy {
    /// The trace was sampled.
    #[default]
    Trace,
    /// It was not; this span is here since the request was refused or failed.
    Outrider,
}

/// Something that happened to a request at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanEvent {
    /// The sidecar answered itself; the label, flag and rule of the rejection.
    Refused { label: &'static str, flag: &'static str, rule: Option<Box<str>> },
    /// It waited for a permit this long.
    Waited { on: &'static str, wait: Duration },
    /// An attempt provably never ran, and the request goes elsewhere.
    Redispatched { reason: &'static str },
    /// An attempt failed, and is made again.
    Retried { why: Box<str> },
}
