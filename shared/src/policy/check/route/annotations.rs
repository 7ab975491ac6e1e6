//! Retries of gRPC, which `GRPCRoute` has no field for yet: annotations of ours, checked and without effect.

use super::super::{Checker, Entry};
use crate::policy::raw::did_you_mean;
use crate::policy::raw::route::{GrpcRouteSpec, HttpRouteSpec};
use crate::units::GepDuration;

const RETRY: &str = "retry.outrider.mesh/";
const KEYS: [&str; 4] = ["grpc", "attempts", "backoff", "require-idempotency-key"];
/// Codes after which a call may be retried, as gRPC's own retry policy writes them.
const CODES: [&str; 6] =
    ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", "aborted"];
/// Retries beside the first attempt; Gateway API bounds an `HTTPRoute`'s nowhere, we do both.
const ATTEMPTS_MAX: u32 = 100;

/// `HTTPRoute` has `retry`, so ours are refused there; returns nothing, since nothing is accepted.
pub(super) fn of_http(entry: &Entry<'_, HttpRouteSpec>, checker: &mut Checker<'_>) {
    for (key, value) in &entry.metadata.annotations.0 {
        if key.starts_with(RETRY) {
            let message = format!("`{key}` is for GRPCRoute");
            checker.report(entry.file, &value.place, message, "write `retry` into the rule".to_owned());
        } else {
            refuse_ours(entry, key, checker);
        }
    }
}

/// What every rule of the route has without effect.
pub(super) fn of_grpc(entry: &Entry<'_, GrpcRouteSpec>, checker: &mut Checker<'_>) -> Vec<String> {
    let mut not_enforced = Vec::new();
    for (key, value) in &entry.metadata.annotations.0 {
        let Some(name) = key.strip_prefix(RETRY) else {
            refuse_ours(entry, key, checker);
            continue;
        };
        let given = value.value.as_str();
        let refusal = match name {
            "grpc" => given
                .split(',')
                .map(str::trim)
                .find(|code| !CODES.contains(code))
                .map(|code| (format!("unknown code `{code}`"), did_you_mean(code, &CODES))),
            "attempts" => (!given.parse().is_ok_and(|n: u32| n <= ATTEMPTS_MAX)).then(|| {
                (format!("{given:?} is out of range"), Some(format!("accepted: \"0\" to \"{ATTEMPTS_MAX}\"")))
            }),
            "backoff" => given.parse::<GepDuration>().err().map(|bad| (bad.to_string(), None)),
            "require-idempotency-key" => (!matches!(given, "true" | "false")).then(|| {
                (format!("unknown value `{given}`"), Some("accepted: \"true\", \"false\"".to_owned()))
            }),
            _ => Some((format!("unknown annotation `{key}`"), did_you_mean(name, &KEYS))),
        };
        match refusal {
            Some((message, help)) => checker.report(entry.file, &value.place, message, help),
            None => not_enforced.push(key.clone()),
        }
    }
    not_enforced
}

/// An annotation in our own domain that nothing reads is a mistake; others' are left alone.
fn refuse_ours<S>(entry: &Entry<'_, S>, key: &str, checker: &mut Checker<'_>) {
    let domain = key.split('/').next().unwrap_or(key);
    if domain == "outrider.mesh" || domain.ends_with(".outrider.mesh") {
        let known: Vec<String> = KEYS.iter().map(|name| format!("{RETRY}{name}")).collect();
        let place = entry
            .metadata
            .annotations
            .0
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, value)| &value.place);
        let place = place.unwrap_or(&entry.place);
        checker.report(entry.file, place, format!("unknown annotation `{key}`"), did_you_mean(key, &known));
    }
}
