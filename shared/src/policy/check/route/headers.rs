//! Changes of headers, and headers that a route may not touch.

use super::Checker;
use crate::names;
use crate::policy::raw::route::{Filter, FilterType, Header, HeaderModifier, HeaderName};
use crate::policy::raw::{Given, Located};
use crate::route::HeaderChanges;

/// Headers that belong to one connection, frame the message, or route it: changing them by rule breaks the protocol, or is
/// another filter's work.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Changes on the way to a backend, and on the way back.
#[derive(Default)]
pub(super) struct Changes {
    pub request: HeaderChanges,
    pub response: HeaderChanges,
}

/// What the filters of a rule or of a backend ask for; each type stands there once.
pub(super) fn changes(file: &str, filters: &[Located<Filter>], checker: &mut Checker<'_>) -> Changes {
    let mut changes = Changes::default();
    let (mut request, mut response) = (false, false);
    for filter in filters {
        let kind = filter.value.kind.value;
        let (seen, given, other, into) = match kind {
            FilterType::RequestHeaderModifier => (
                &mut request,
                &filter.value.request_header_modifier,
                &filter.value.response_header_modifier,
                &mut changes.request,
            ),
            FilterType::ResponseHeaderModifier => (
                &mut response,
                &filter.value.response_header_modifier,
                &filter.value.request_header_modifier,
                &mut changes.response,
            ),
        };
        if std::mem::replace(seen, true) {
            let message = format!("a second {} in one list", kind.word());
            checker.report(file, &filter.place, message, "make one filter of them".to_owned());
        }
        match given {
            Given::Sound(modifier) if other.is_absent() => *into = modifier_of(file, modifier, checker),
            Given::Broken if other.is_absent() => {}
            _ => {
                let message = format!("a filter of the type {} has its own key, and no other's", kind.word());
                let key = match kind {
                    FilterType::RequestHeaderModifier => "requestHeaderModifier",
                    FilterType::ResponseHeaderModifier => "responseHeaderModifier",
                };
                checker.report(file, &filter.place, message, format!("write `{key}`"));
            }
        }
    }
    changes
}

fn modifier_of(file: &str, modifier: &HeaderModifier, checker: &mut Checker<'_>) -> HeaderChanges {
    let mut pairs = |headers: &[Located<Header>]| {
        let names = names_of(file, headers.iter().map(|header| &header.value.name), checker);
        names.into_iter().zip(headers.iter().map(|header| header.value.value.0.clone())).collect()
    };
    let (set, add) = (pairs(&modifier.set.0), pairs(&modifier.add.0));
    HeaderChanges { set, add, remove: names_of(file, modifier.remove.0.iter(), checker) }
}

/// Lower-case names, each once, none of them reserved.
fn names_of<'n>(
    file: &str,
    names: impl Iterator<Item = &'n Located<HeaderName>>,
    checker: &mut Checker<'_>,
) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for name in names {
        let lower = name.value.0.to_ascii_lowercase();
        let mesh = lower.starts_with(names::header::PREFIX) || lower == names::header::XFCC;
        if mesh || RESERVED.contains(&lower.as_str()) {
            let whose = if mesh { "the mesh" } else { "the connection or the message" };
            let message = format!("the header {lower} belongs to {whose}");
            checker.report(file, &name.place, message, "a route may change any other header".to_owned());
        }
        if seen.contains(&lower) {
            let message = format!("the header {lower} is named twice");
            checker.report(file, &name.place, message, "keep one of them; case does not matter".to_owned());
        }
        seen.push(lower);
    }
    seen
}
