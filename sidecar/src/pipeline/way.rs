//! The way that one request took, for `outrider get`: only where the own app asks for it, in a header of the answer.
//!
//! Of a request that went no further it says at which stage it stopped, and what that stage looked at.

use std::time::Instant;

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::authorize::Authorization;
use super::choose::{Chosen, Tried};
use super::matching::{Destination, RequestView, Table};
use super::principal::Principal;
use super::refused::Refused;
use super::rejection::Rejection;
use super::route::Routed;

/// Rules, services or policies that are named of those looked at: 16 lines fit on a screen, and 2 KiB into a header.
const NAMED_MAX: usize = 16;

/// What the inbound side tells: who was seen, and how long the app took to its head.
pub fn inbound(principal: &Principal, port: u16, sent_at: Instant) -> HeaderValue {
    value(&json!({
        "peer": principal.as_str(),
        "app_port": port,
        "app_us": sent_at.elapsed().as_micros(),
    }))
}

/// What the outbound side adds to it.
pub fn outbound(
    routed: &Routed<'_>,
    chosen: &Chosen,
    tried: &Tried,
    sent_at: Instant,
    inner: Option<&HeaderValue>,
) -> HeaderValue {
    let inner: Option<Value> = inner.and_then(|inner| serde_json::from_slice(inner.as_bytes()).ok());
    let target = &routed.backend.target;
    value(&json!({
        "service": target.service,
        "port": target.port,
        "rule": routed.rule.id.as_ref().map(|id| format!("{id}@r{}", routed.revision)),
        "endpoint": chosen.address(),
        "identity": target.identity,
        "redispatched_from": tried.as_slice(),
        "upstream_us": sent_at.elapsed().as_micros(),
        "inbound": inner,
    }))
}

/// What either side tells of a request that it refuses.
pub fn stopped(refused: &Refused, notes: &Notes) -> HeaderValue {
    value(&json!({
        "stopped_at": stage(&refused.rejection),
        "refusal": refused.rejection.row().label,
        "target": refused.target,
        "rule": refused.rule.as_ref().map(|(id, revision)| format!("{id}@r{revision}")),
        "looked_at": notes.0,
    }))
}

/// What the stages looked at, kept only while somebody asks for the way.
#[derive(Debug, Default)]
pub struct Notes(Map<String, Value>);

impl Notes {
    pub fn request(&mut self, host: &str, request: &RequestView<'_>) {
        self.put("host", host);
        self.put("method", request.method().as_str());
        self.put("path", request.path());
    }

    pub fn caller(&mut self, principal: &Principal) {
        self.put("peer", principal.as_str());
    }

    /// No service, or no port of it, has the name that was asked for.
    pub fn services(&mut self, table: &Table) {
        self.put_some("services", table.targets().map(|target| (*target.name).into()));
    }

    /// None of the rules that are attached to the service's port matches.
    pub fn rules(&mut self, destination: &Destination, request: &RequestView<'_>) {
        let misses = destination.misses(request).map(|miss| {
            json!({"rule": miss.rule.map(ToString::to_string), "differs_in": miss.differs_in.as_str()})
        });
        self.put_some("rules", misses);
    }

    pub fn policies(&mut self, authorization: &Authorization) {
        self.put_some("policies", authorization.policies().map(|id| id.as_str().into()));
    }

    fn put(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn put_some(&mut self, key: &str, mut values: impl Iterator<Item = Value>) {
        let named: Vec<Value> = values.by_ref().take(NAMED_MAX).collect();
        self.0.insert(key.to_owned(), named.into());
        let more = values.count();
        if more > 0 {
            self.0.insert(format!("more_{key}"), more.into());
        }
    }
}

/// Where each reason comes up, by the names of the stages' files.
fn stage(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::MalformedRequest { .. }
        | Rejection::MalformedMessage { .. }
        | Rejection::HeadTimeout { .. }
        | Rejection::TargetTooLong { .. }
        | Rejection::HeadTooLarge { .. }
        | Rejection::ExpectationFailed
        | Rejection::CodingNotImplemented
        | Rejection::VersionNotSupported
        | Rejection::MalformedPath { .. }
        | Rejection::NotReady
        | Rejection::LoopDetected { .. } => "accept",
        Rejection::UnknownHost { .. }
        | Rejection::UnknownPort { .. }
        | Rejection::NoRoute
        | Rejection::MalformedTarget
        | Rejection::Misdirected { .. }
        | Rejection::MtlsRequired { .. } => "find",
        Rejection::Denied { .. } | Rejection::NotAllowed { .. } | Rejection::DeniedByDefault { .. } => {
            "authorize"
        }
        Rejection::NoBackend { .. } => "route",
        Rejection::ConcurrencyLimit { .. }
        | Rejection::QueueFull { .. }
        | Rejection::QueueTimeout { .. }
        | Rejection::Overloaded { .. }
        | Rejection::BreakerOpen { .. }
        | Rejection::DeadlineUnreachable => "admit",
        Rejection::NoEndpoint { .. } => "choose",
        Rejection::ConnectFailed { .. }
        | Rejection::ConnectTimeout { .. }
        | Rejection::PeerIdentity { .. }
        | Rejection::TlsFailed { .. }
        | Rejection::RequestTimeout { .. }
        | Rejection::BackendTimeout { .. }
        | Rejection::UpstreamReset { .. }
        | Rejection::RetryBudgetExhausted
        | Rejection::AppRefused { .. }
        | Rejection::AppConnectTimeout { .. }
        | Rejection::AppReset { .. }
        | Rejection::AppNotHttp { .. }
        | Rejection::UpgradeRefused => "forward",
        Rejection::UnresolvedHost { .. } | Rejection::OwnAddress { .. } => "egress",
    }
}

fn value(way: &Value) -> HeaderValue {
    HeaderValue::try_from(way.to_string()).unwrap_or_else(|_| HeaderValue::from_static("{}"))
}
