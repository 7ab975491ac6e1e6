//! Rules of routes: matches, backends, timeouts.

use super::headers::{Changes, changes};
use super::{Checker, Entry, MATCHES_MAX, declared, port_of, prefix_of, rule_names};
use crate::policy::raw::route::{
    BackendRef, GrpcMatch, GrpcRouteSpec, GrpcRule, GrpcServiceName, HeaderMatch, HttpMatch, HttpRouteSpec,
    HttpRule, PathMatchType, Retry as RawRetry, Timeouts,
};
use crate::policy::raw::{DurationWithin, Located, Place};
use crate::route::{Backend, HeaderChanges, PathMatch, RouteMatch, RouteRule};
use crate::traffic::Retry;
use crate::units::GepDuration;

/// Retries where the route names no number: Envoy's.
pub(super) const ATTEMPTS: u32 = 1;
/// The least wait where the route names none. 25 ms, Envoy's: several times a fast answer.
pub(super) const BACKOFF: GepDuration = GepDuration::from_millis(25);

pub(super) fn of_http(entry: &Entry<'_, HttpRouteSpec>, checker: &mut Checker<'_>) -> Vec<RouteRule> {
    let id = format!("HTTPRoute/{}", entry.name());
    let Some(rules) = &entry.spec.rules else { return Vec::from_iter(matches_all(entry, &id, checker)) };
    let names = rule_names(
        rules.value.0.iter().map(|rule| (rule.value.name.as_ref(), &rule.place)),
        entry.file,
        checker,
    );
    let count = rules.value.0.iter().map(|rule| rule.value.matches.0.len()).sum();
    bound_matches(entry.file, &rules.place, count, checker);
    let built = names.iter().zip(&rules.value.0);
    built.filter_map(|(name, rule)| http_rule(entry, &format!("{id}#{name}"), rule, checker)).collect()
}

pub(super) fn of_grpc(
    entry: &Entry<'_, GrpcRouteSpec>,
    retry: Option<&Retry>,
    checker: &mut Checker<'_>,
) -> Vec<RouteRule> {
    let id = format!("GRPCRoute/{}", entry.name());
    let Some(rules) = &entry.spec.rules else { return Vec::from_iter(matches_all(entry, &id, checker)) };
    let names = rule_names(
        rules.value.0.iter().map(|rule| (rule.value.name.as_ref(), &rule.place)),
        entry.file,
        checker,
    );
    let count = rules.value.0.iter().map(|rule| rule.value.matches.0.len()).sum();
    bound_matches(entry.file, &rules.place, count, checker);
    let mut built = Vec::new();
    for (name, rule) in names.iter().zip(&rules.value.0) {
        built.extend(grpc_rule(entry, &format!("{id}#{name}"), rule, retry, checker));
    }
    built
}

/// What a route without rules means: everything matches, and there is no backend.
fn matches_all<S>(entry: &Entry<'_, S>, id: &str, checker: &mut Checker<'_>) -> Option<RouteRule> {
    Some(RouteRule {
        id: checker.rule_id(&format!("{id}#0"), entry.file, &entry.metadata.name.place)?,
        matches: vec![anything()],
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        request_timeout: None,
        backend_request_timeout: None,
        backends: Vec::new(),
        retry: None,
    })
}

fn anything() -> RouteMatch {
    RouteMatch { path: PathMatch::Any, method: None, headers: Vec::new(), query: Vec::new() }
}

fn bound_matches(file: &str, place: &Place, count: usize, checker: &mut Checker<'_>) {
    if count > MATCHES_MAX {
        let message = format!("the rules have {count} matches together");
        checker.report(file, place, message, format!("accepted: {MATCHES_MAX} in all rules of a route"));
    }
}

fn http_rule(
    entry: &Entry<'_, HttpRouteSpec>,
    id: &str,
    rule: &Located<HttpRule>,
    checker: &mut Checker<'_>,
) -> Option<RouteRule> {
    let file = entry.file;
    let mut matches: Vec<RouteMatch> =
        rule.value.matches.0.iter().map(|given| http_match(file, &given.value, checker)).collect();
    if matches.is_empty() {
        matches.push(anything());
    }
    let Changes { request, response } = changes(file, &rule.value.filters.0, checker);
    let (request_timeout, backend_request_timeout) = timeouts(file, rule.value.timeouts.as_ref(), checker);
    Some(RouteRule {
        id: checker.rule_id(id, file, &rule.place)?,
        matches,
        request_headers: request,
        response_headers: response,
        request_timeout,
        backend_request_timeout,
        backends: backends(entry, &rule.value.backend_refs.0, checker),
        retry: rule.value.retry.as_ref().map(retry),
    })
}

fn grpc_rule(
    entry: &Entry<'_, GrpcRouteSpec>,
    id: &str,
    rule: &Located<GrpcRule>,
    retry: Option<&Retry>,
    checker: &mut Checker<'_>,
) -> Option<RouteRule> {
    let file = entry.file;
    let mut matches: Vec<RouteMatch> =
        rule.value.matches.0.iter().map(|given| grpc_match(file, &given.value, checker)).collect();
    if matches.is_empty() {
        matches.push(anything());
    }
    let Changes { request, response } = changes(file, &rule.value.filters.0, checker);
    Some(RouteRule {
        id: checker.rule_id(id, file, &rule.place)?,
        matches,
        request_headers: request,
        response_headers: response,
        request_timeout: None,
        backend_request_timeout: None,
        backends: backends(entry, &rule.value.backend_refs.0, checker),
        retry: retry.cloned(),
    })
}

fn http_match(file: &str, given: &HttpMatch, checker: &mut Checker<'_>) -> RouteMatch {
    let path = match given.path.as_ref().and_then(|path| path.value.as_ref().map(|value| (path.kind, value)))
    {
        // `/` as prefix, which is the default, matches all.
        None => match given.path.as_ref().and_then(|path| path.kind) {
            Some(PathMatchType::Exact) => PathMatch::Exact("/".to_owned()),
            Some(PathMatchType::PathPrefix) | None => PathMatch::Any,
        },
        Some((Some(PathMatchType::Exact), value)) => PathMatch::Exact(value.0.clone()),
        Some((Some(PathMatchType::PathPrefix) | None, value)) => match prefix_of(value) {
            prefix if prefix.is_empty() => PathMatch::Any,
            prefix => PathMatch::Prefix(prefix),
        },
    };
    let mut query: Vec<(String, String)> = Vec::new();
    for parameter in &given.query_params.0 {
        let name = &parameter.value.name;
        if query.iter().any(|(other, _)| *other == name.value.0) {
            let message = format!("the query parameter {} is named twice", name.value.0);
            checker.report(
                file,
                &name.place,
                message,
                "only the first would count; keep one of them".to_owned(),
            );
        }
        query.push((name.value.0.clone(), parameter.value.value.0.clone()));
    }
    let method = given.method.map(|method| method.word().to_owned());
    RouteMatch { path, method, headers: header_matches(file, &given.headers.0, checker), query }
}

fn grpc_match(file: &str, given: &GrpcMatch, checker: &mut Checker<'_>) -> RouteMatch {
    let path = given.method.as_ref().map_or(PathMatch::Any, |method| {
        let service = method.value.service.sound().map(GrpcServiceName::full_name);
        let name = method.value.method.sound().map(|name| name.0.as_str());
        match (service, name) {
            (Some(service), Some(name)) => PathMatch::Exact(format!("/{service}/{name}")),
            (Some(service), None) => PathMatch::Prefix(format!("/{service}")),
            (None, Some(name)) => PathMatch::GrpcMethod(name.to_owned()),
            (None, None) if !method.value.service.is_absent() || !method.value.method.is_absent() => {
                PathMatch::Any
            }
            (None, None) => {
                let message = "a method match names a service, a method, or both";
                checker.report(file, &method.place, message, "to match all, leave `method` out".to_owned());
                PathMatch::Any
            }
        }
    });
    RouteMatch {
        path,
        method: None,
        headers: header_matches(file, &given.headers.0, checker),
        query: Vec::new(),
    }
}

fn header_matches(
    file: &str,
    given: &[Located<HeaderMatch>],
    checker: &mut Checker<'_>,
) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for header in given {
        let name = &header.value.name;
        let lower = name.value.0.to_ascii_lowercase();
        if headers.iter().any(|(other, _)| *other == lower) {
            let message = format!("the header {lower} is named twice");
            checker.report(
                file,
                &name.place,
                message,
                "only the first would count; keep one of them".to_owned(),
            );
        }
        headers.push((lower, header.value.value.0.clone()));
    }
    headers
}

fn retry(given: &RawRetry) -> Retry {
    Retry {
        attempts: given.attempts.map_or(ATTEMPTS, |attempts| attempts.0),
        http: given.codes.0.iter().filter_map(|code| u16::try_from(code.0).ok()).collect(),
        grpc: Vec::new(),
        backoff: given.backoff.map_or(BACKOFF, DurationWithin::gep),
        idempotency_key_required: false,
    }
}

/// Of a request, and of one attempt.
fn timeouts(
    file: &str,
    given: Option<&Timeouts>,
    checker: &mut Checker<'_>,
) -> (Option<GepDuration>, Option<GepDuration>) {
    let Some(given) = given else { return (None, None) };
    if let (Some(request), Some(attempt)) = (given.request, &given.backend_request) {
        let unlimited = request.get().is_zero();
        if !unlimited && attempt.value > request {
            let message = format!("an attempt of {} cannot outlast its request of {request}", attempt.value);
            checker.report(file, &attempt.place, message, format!("accepted: at most {request}"));
        }
    }
    (given.request, given.backend_request.as_ref().map(|attempt| attempt.value))
}

fn backends<S>(
    entry: &Entry<'_, S>,
    given: &[Located<BackendRef>],
    checker: &mut Checker<'_>,
) -> Vec<Backend> {
    given.iter().filter_map(|backend| self::backend(entry, backend, checker)).collect()
}

fn backend<S>(
    entry: &Entry<'_, S>,
    given: &Located<BackendRef>,
    checker: &mut Checker<'_>,
) -> Option<Backend> {
    let (file, raw) = (entry.file, &given.value);
    let Changes { request, response } = changes(file, &raw.filters.0, checker);
    let wrong = [(&raw.group, ""), (&raw.kind, "Service")]
        .into_iter()
        .find_map(|(field, expected)| field.as_ref().filter(|field| field.value.0 != expected));
    if let Some(wrong) = wrong {
        let message = format!("{:?} as backend is not built yet", wrong.value.0);
        checker.report(file, &wrong.place, message, "a backend is a Service of the group \"\"".to_owned());
        return None;
    }
    if let Some(other) = raw.namespace.as_ref().filter(|other| other.value.0 != entry.namespace()) {
        let message = "a backend in another namespace needs a ReferenceGrant, which is not built yet";
        let help = format!("leave it out, or write {}", entry.namespace());
        checker.report(file, &other.place, message, help);
        return None;
    }
    let service = declared(&raw.name, entry.namespace(), file, checker)?;
    if raw.port.is_none() {
        let message = "a backend that is a Service has a `port`";
        checker.report(file, &given.place, message, "write one of the service's ports".to_owned());
    }
    let port = port_of(&service, raw.port.as_ref(), file, checker)?;
    let weight = raw.weight.map_or(1, |weight| weight.0);
    Some(Backend { service, port, weight, request_headers: request, response_headers: response })
}
