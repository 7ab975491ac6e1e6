//! What an app passes on from the request it serves to the ones it makes for it.

use http::{HeaderMap, HeaderName, HeaderValue};
use outrider_shared::names::header;

/// W3C trace context and baggage, and B3 in both spellings.
const FORWARDED: [&str; 8] = [
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
];

/// The fields to put on a request that is made on behalf of the one with `incoming`.
pub fn forwarded(incoming: &HeaderMap) -> HeaderMap {
    let belongs =
        |name: &HeaderName| FORWARDED.contains(&name.as_str()) || name.as_str().starts_with(header::PREFIX);
    incoming
        .iter()
        .filter(|(name, _)| belongs(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2): 32 hex digits, not all zero.
pub fn trace_id(incoming: &HeaderMap) -> Option<&str> {
    let parent = incoming.get("traceparent").map(HeaderValue::to_str)?.ok()?;
    let id = parent.split('-').nth(1)?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (id.len() == 32 && id.bytes().all(hex) && id.bytes().any(|b| b != b'0')).then_some(id)
}
