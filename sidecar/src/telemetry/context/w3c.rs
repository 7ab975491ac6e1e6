//! `traceparent`, `tracestate` (W3C Trace Context, levels 1 and 2) and `baggage` (W3C Baggage).

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::{B3Form, Decision, Incoming, Parent, TraceContext, hex, hex_span_id, hex_trace_id, write_hex};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// Bytes of a version 00 `traceparent`: `00-<32>-<16>-<2>`.
const TRACEPARENT_BYTES: usize = 55;
const FLAG_SAMPLED: u128 = 1;
const FLAG_RANDOM: u128 = 2;

/// List members of `tracestate` (level 2, section 3.3.1.1): more make it invalid.
const TRACESTATE_MEMBERS_MAX: usize = 32;
/// Bytes of `tracestate` that are passed on: what every vendor should carry (section 3.3.1.5).
const TRACESTATE_BYTES_MAX: usize = 512;
/// Members longer than this go first when it is too long (section 3.3.1.5).
const TRACESTATE_LONG_MEMBER_BYTES: usize = 128;
/// List members and bytes of `baggage` that must be passed on (W3C Baggage, section 3.3.2); more is dropped whole, since
/// half of it may mean something else.
const BAGGAGE_MEMBERS_MAX: usize = 64;
const BAGGAGE_BYTES_MAX: usize = 8_192;

/// `None` where there is no usable `traceparent`.
pub(super) fn read(headers: &HeaderMap) -> Option<Incoming> {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    parse(only.as_bytes())
}

fn parse(value: &[u8]) -> Option<Incoming> {
    let (known, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
    let version = hex::<2>(&known[..2])?;
    let shape = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    // A later version may only append, after another dash.
    let ends = rest.is_empty() || (version != 0 && rest[0] == b'-');
    if !shape || !ends || version == 0xff {
        return None;
    }
    let flags = hex::<2>(&known[53..])?;
    let parent = Parent {
        trace_id: hex_trace_id(&known[3..35])?,
        span_id: hex_span_id(&known[36..52])?,
        random: flags & FLAG_RANDOM != 0,
    };
    let decision = if flags & FLAG_SAMPLED != 0 { Decision::Sample } else { Decision::Drop };
    Some(Incoming { parent: Some(parent), decision: Some(decision), b3: B3Form::default() })
}

/// Writes `traceparent` in version 00. The flag for a random id is passed on but never set for our own, though they are
/// random: libraries of level 1 are known to refuse a version 00 with any other flag than the first.
pub(super) fn inject(context: &TraceContext, headers: &mut HeaderMap) {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    let sampled = if context.sampled { FLAG_SAMPLED } else { 0 };
    let random = if context.random { FLAG_RANDOM } else { 0 };
    write_hex(context.trace_id, &mut value[3..35]);
    write_hex(context.span_id.into(), &mut value[36..52]);
    write_hex(sampled | random, &mut value[53..]);
    let value = HeaderValue::from_bytes(&value).expect("hex digits and dashes are legal in a header");
    headers.insert(&TRACEPARENT, value);
}

/// Takes out a `traceparent` that cannot be read, and with it `tracestate`, which means nothing alone; shortens a
/// `tracestate` that is too long and drops one that is malformed.
pub(super) fn tidy(headers: &mut HeaderMap) {
    if read(headers).is_none() {
        headers.remove(&TRACEPARENT);
        headers.remove(&TRACESTATE);
        return;
    }
    if !headers.contains_key(&TRACESTATE) {
        return;
    }
    match check_tracestate(headers) {
        Tracestate::Fine => {}
        Tracestate::Malformed => {
            headers.remove(&TRACESTATE);
        }
        Tracestate::TooLong(members) => {
            let shorter = shorten(members);
            match HeaderValue::from_str(&shorter) {
                Ok(value) if !value.is_empty() => headers.insert(&TRACESTATE, value),
                Ok(_) | Err(_) => headers.remove(&TRACESTATE),
            };
        }
    }
}

enum Tracestate {
    Fine,
    Malformed,
    TooLong(Vec<String>),
}

fn check_tracestate(headers: &HeaderMap) -> Tracestate {
    let mut members = [""; TRACESTATE_MEMBERS_MAX];
    let (mut count, mut bytes) = (0, 0);
    for value in headers.get_all(&TRACESTATE) {
        let Ok(value) = value.to_str() else { return Tracestate::Malformed };
        bytes += value.len() + 1;
        let listed =
            value.split(',').map(|member| member.trim_matches([' ', '\t'])).filter(|m| !m.is_empty());
        for member in listed {
            let repeated = members[..count].iter().any(|known| key_of(known) == key_of(member));
            if count == TRACESTATE_MEMBERS_MAX || repeated || !is_member(member) {
                return Tracestate::Malformed;
            }
            members[count] = member;
            count += 1;
        }
    }
    if bytes <= TRACESTATE_BYTES_MAX + 1 {
        return Tracestate::Fine;
    }
    Tracestate::TooLong(members[..count].iter().map(|&member| member.to_owned()).collect())
}

fn key_of(member: &str) -> &str {
    member.split_once('=').map_or(member, |(key, _)| key)
}

/// Level 2, sections 3.3.1.3.1 and 3.3.1.3.2.
fn is_member(member: &str) -> bool {
    let Some((key, value)) = member.split_once('=') else { return false };
    let first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let key_fine = (1..=256).contains(&key.len())
        && first(key.as_bytes()[0])
        && key.bytes().all(|b| first(b) || matches!(b, b'_' | b'-' | b'*' | b'/' | b'@'));
    let value_fine = (1..=256).contains(&value.len())
        && value.bytes().all(|b| matches!(b, b' '..=b'~') && !matches!(b, b',' | b'='));
    key_fine && value_fine
}

/// Long members go first, then those at the end, which are the oldest.
fn shorten(mut members: Vec<String>) -> String {
    let joined = |members: &[String]| members.iter().map(|m| m.len() + 1).sum::<usize>().saturating_sub(1);
    while joined(&members) > TRACESTATE_BYTES_MAX {
        let long = members.iter().rposition(|member| member.len() > TRACESTATE_LONG_MEMBER_BYTES);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    members.join(",")
}

/// Drops baggage past the limits that the specification sets.
pub(super) fn tidy_baggage(headers: &mut HeaderMap) {
    let (mut members, mut bytes) = (0, 0);
    for value in headers.get_all(&BAGGAGE) {
        bytes += value.len() + usize::from(bytes > 0);
        members += value.as_bytes().split(|byte| *byte == b',').count();
    }
    if members > BAGGAGE_MEMBERS_MAX || bytes > BAGGAGE_BYTES_MAX {
        headers.remove(&BAGGAGE);
    }
}
