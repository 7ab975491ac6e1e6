//! Retries of gRPC, which `GRPCRoute` has no field for yet: annotations of ours.

use super::super::{Checker, Entry};
use super::rules::{ATTEMPTS, BACKOFF};
use crate::policy::raw::did_you_mean;
use crate::policy::raw::route::{GrpcRouteSpec, HttpRouteSpec};
use crate::traffic::Retry;
use crate::units::BadDuration;

const RETRY: &str = "retry.outrider.mesh/";
const KEYS: [&str; 4] = ["grpc", "attempts", "backoff", "require-idempotency-key"];
/// Codes after which a call may be retried, as gRPC's own retry policy writes them.
const CODES: [(&str, u8); 6] = [
    ("cancelled", 1),
    ("deadline-exceeded", 4),
    ("internal", 13),
    ("resource-exhausted", 8),
    ("unavailable", 14),
    ("aborted", 10),
];
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

/// Holds for every rule of the route; `None`: none of them is retried.
pub(super) fn of_grpc(entry: &Entry<'_, GrpcRouteSpec>, checker: &mut Checker<'_>) -> Option<Retry> {
    let mut retry = Retry {
        attempts: ATTEMPTS,
        http: Vec::new(),
        grpc: Vec::new(),
        backoff: BACKOFF,
        idempotency_key_required: false,
    };
    let mut any = false;
    for (key, value) in &entry.metadata.annotations.0 {
        let Some(name) = key.strip_prefix(RETRY) else {
            refuse_ours(entry, key, checker);
            continue;
        };
        any = true;
        if let Err((message, help)) = set(&mut retry, name, value.value.as_str()) {
            checker.report(entry.file, &value.place, message, help);
        }
    }
    any.then_some(retry)
}

/// What is wrong, and what would be right.
type Refusal = (String, Option<String>);

fn set(retry: &mut Retry, name: &str, given: &str) -> Result<(), Refusal> {
    match name {
        "grpc" => {
            for word in given.split(',').map(str::trim) {
                let code = CODES.iter().find(|(known, _)| *known == word);
                let words = CODES.map(|(known, _)| known);
                let (_, code) =
                    code.ok_or_else(|| (format!("unknown code `{word}`"), did_you_mean(word, &words)))?;
                retry.grpc.push(*code);
            }
        }
        "attempts" => {
            let attempts = given.parse().ok().filter(|attempts| *attempts <= ATTEMPTS_MAX);
            retry.attempts = attempts.ok_or_else(|| {
                (format!("{given:?} is out of range"), Some(format!("accepted: \"0\" to \"{ATTEMPTS_MAX}\"")))
            })?;
        }
        "backoff" => retry.backoff = given.parse().map_err(|bad: BadDuration| (bad.to_string(), None))?,
        "require-idempotency-key" => {
            retry.idempotency_key_required = given.parse().map_err(|_| {
                (format!("unknown value `{given}`"), Some("accepted: \"true\", \"false\"".to_owned()))
            })?;
        }
        _ => return Err((format!("unknown annotation `{RETRY}{name}`"), did_you_mean(name, &KEYS))),
    }
    Ok(())
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
