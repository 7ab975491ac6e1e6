//! The way that one request took, for `outrider get`: only where the own app asks for it, in a header of the answer.

use std::time::Instant;

use http::HeaderValue;
use serde_json::{Value, json};

use super::choose::{Chosen, Tried};
use super::principal::Principal;
use super::route::Routed;

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

fn value(way: &Value) -> HeaderValue {
    HeaderValue::try_from(way.to_string()).unwrap_or_else(|_| HeaderValue::from_static("{}"))
}
