//! Zipkin's B3 propagation, in its single header and its several ones.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::{Decision, Incoming, Parent, TraceContext, hex, hex_span_id, hex_trace_id, write_hex};

static SINGLE: HeaderName = HeaderName::from_static("b3");
static TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
static SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
static PARENT_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
static SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
static FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Which spelling the caller used, and so which one the next hop gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum B3Form {
    #[default]
    Single,
    Multi,
}

/// The single header wins where both are there.
pub(super) fn read(headers: &HeaderMap) -> Incoming {
    let single = only(headers, &SINGLE).and_then(parse_single);
    single.unwrap_or_else(|| read_multi(headers))
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}

/// `<trace>-<span>[-<sampled>[-<parent>]]`, or the decision alone.
fn parse_single(value: &[u8]) -> Option<Incoming> {
    let incoming = |parent, decision| Incoming { parent, decision, b3: B3Form::Single };
    if let Some(decision) = decision_of(value) {
        return Some(incoming(None, Some(decision)));
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let parent = parent_of(parts.next()?, parts.next()?)?;
    let decision = match parts.next() {
        None => None,
        Some(letter) => Some(decision_of(letter)?),
    };
    if let Some(grandparent) = parts.next() {
        hex_span_id(grandparent)?;
    }
    parts.next().is_none().then(|| incoming(Some(parent), decision))
}

fn decision_of(letter: &[u8]) -> Option<Decision> {
    match letter {
        b"1" | b"d" => Some(Decision::Sample),
        b"0" => Some(Decision::Drop),
        _ => None,
    }
}

/// B3 knows trace ids of 64 bits too.
fn parent_of(trace_id: &[u8], span_id: &[u8]) -> Option<Parent> {
    let trace_id = match trace_id.len() {
        16 => hex::<16>(trace_id).filter(|id| *id != 0)?,
        _ => hex_trace_id(trace_id)?,
    };
    Some(Parent { trace_id, span_id: hex_span_id(span_id)?, random: false })
}

fn read_multi(headers: &HeaderMap) -> Incoming {
    let ids = only(headers, &TRACE_ID).zip(only(headers, &SPAN_ID));
    let parent = ids.and_then(|(trace_id, span_id)| parent_of(trace_id, span_id));
    let debug = only(headers, &FLAGS) == Some(b"1".as_slice());
    let decision = match only(headers, &SAMPLED) {
        _ if debug => Some(Decision::Sample),
        Some(b"1" | b"true") => Some(Decision::Sample),
        Some(b"0" | b"false") => Some(Decision::Drop),
        Some(_) | None => None,
    };
    let given = parent.is_some() || decision.is_some();
    Incoming { parent, decision, b3: if given { B3Form::Multi } else { B3Form::Single } }
}

pub(super) fn inject(context: &TraceContext, headers: &mut HeaderMap) {
    match context.b3 {
        B3Form::Single => inject_single(context, headers),
        B3Form::Multi => inject_multi(context, headers),
    }
}

fn inject_single(context: &TraceContext, headers: &mut HeaderMap) {
    let mut value = *b"00000000000000000000000000000000-0000000000000000-0-0000000000000000";
    write_hex(context.trace_id, &mut value[..32]);
    write_hex(context.span_id.into(), &mut value[33..49]);
    value[50] = if context.sampled { b'1' } else { b'0' };
    write_hex(context.parent_span_id.unwrap_or_default().into(), &mut value[52..]);
    let written = if context.parent_span_id.is_some() { &value[..] } else { &value[..51] };
    headers.insert(&SINGLE, hex_value(written));
}

fn inject_multi(context: &TraceContext, headers: &mut HeaderMap) {
    // One that could not be read would still win over these at the next hop.
    headers.remove(&SINGLE);
    let mut trace_id = [0; 32];
    let mut span_id = [0; 16];
    write_hex(context.trace_id, &mut trace_id);
    headers.insert(&TRACE_ID, hex_value(&trace_id));
    write_hex(context.span_id.into(), &mut span_id);
    headers.insert(&SPAN_ID, hex_value(&span_id));
    match context.parent_span_id {
        None => {
            headers.remove(&PARENT_SPAN_ID);
        }
        Some(parent) => {
            write_hex(parent.into(), &mut span_id);
            headers.insert(&PARENT_SPAN_ID, hex_value(&span_id));
        }
    }
    headers.insert(&SAMPLED, HeaderValue::from_static(if context.sampled { "1" } else { "0" }));
}

fn hex_value(digits: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(digits).expect("hex digits and dashes are legal in a header")
}
