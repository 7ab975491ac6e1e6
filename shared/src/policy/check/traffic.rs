//! Traffic policies: relations between their fields, and the list of what has no effect yet.

use std::collections::BTreeMap;

use super::targets::{Reach, resolve};
use super::{Checker, Entry};
use crate::policy::raw::targets::TargetRef;
use crate::policy::raw::traffic::{
    BackendTrafficPolicySpec, CircuitBreaker, Concurrency, Priority, XBackendTrafficPolicySpec,
};
use crate::policy::raw::{Located, did_you_mean};

/// Checks them, and returns the ids of those that nothing enforces: all of them.
pub(super) fn check(
    ours: &[Entry<'_, BackendTrafficPolicySpec>],
    theirs: &[Entry<'_, XBackendTrafficPolicySpec>],
    checker: &mut Checker<'_>,
) -> Vec<String> {
    let mut not_enforced = Vec::new();
    let mut taken = BTreeMap::new();
    for entry in ours {
        let id = format!("BackendTrafficPolicy/{}", entry.name());
        targets(entry, &entry.spec.target_refs.0, &id, &mut taken, checker);
        if let Some(breaker) = entry.spec.client.as_ref().and_then(|client| client.circuit_breaker.as_ref()) {
            self::breaker(entry.file, breaker, checker);
        }
        if let Some(server) = &entry.spec.server {
            if let Some(limit) = &server.concurrency {
                concurrency(entry.file, limit, checker);
            }
            if let Some(priority) = server.queue.as_ref().and_then(|queue| queue.priority.as_ref()) {
                self::priority(entry.file, priority, checker);
            }
        }
        not_enforced.push(id);
    }
    let mut taken = BTreeMap::new();
    for entry in theirs {
        let id = format!("XBackendTrafficPolicy/{}", entry.name());
        targets(entry, &entry.spec.target_refs.0, &id, &mut taken, checker);
        not_enforced.push(id);
    }
    not_enforced
}

/// A service has one policy of a kind: two could contradict each other.
fn targets<S>(
    entry: &Entry<'_, S>,
    refs: &[Located<TargetRef>],
    id: &str,
    taken: &mut BTreeMap<super::targets::Target, String>,
    checker: &mut Checker<'_>,
) {
    for target in resolve(entry, refs, Reach::Services, "", checker) {
        if let Some(other) = taken.insert(target, id.to_owned()) {
            let message = format!("{other} applies to the same service");
            checker.report(
                entry.file,
                &entry.metadata.name.place,
                message,
                "make one policy of them".to_owned(),
            );
        }
    }
}

fn breaker(file: &str, breaker: &CircuitBreaker, checker: &mut Checker<'_>) {
    if let Some(open) = breaker.open.as_ref().filter(|open| open.value.max.0 < open.value.initial.0) {
        let message = "`max` is below `initial`, so the wait could not grow";
        checker.report(file, &open.place, message, "make `max` at least `initial`".to_owned());
    }
    if let Some(half_open) = &breaker.half_open {
        let (probes, successes) = (half_open.value.max_probes.0, half_open.value.success_threshold.0);
        if successes > probes {
            let message =
                format!("{probes} probes can never have {successes} successes, so it would not close");
            checker.report(
                file,
                &half_open.place,
                message,
                format!("accepted: 1 to {probes} as successThreshold"),
            );
        }
    }
}

fn concurrency(file: &str, limit: &Located<Concurrency>, checker: &mut Checker<'_>) {
    let initial = limit.value.initial.0;
    let min = limit.value.min.map_or(1, |min| min.0);
    let max = limit.value.max.map_or(u32::MAX, |max| max.0);
    if !(min..=max).contains(&initial) {
        let message = format!("the limit begins at {initial}, outside of {min} to {max} where it must stay");
        checker.report(file, &limit.place, message, "min <= initial <= max".to_owned());
    }
}

fn priority(file: &str, priority: &Priority, checker: &mut Checker<'_>) {
    let mut classes: Vec<&str> = Vec::new();
    for class in &priority.classes.value.0 {
        let name = class.value.0.as_str();
        if classes.contains(&name) {
            let message = format!("the class {name} is named twice");
            checker.report(file, &class.place, message, "keep one of them".to_owned());
        }
        classes.push(name);
    }
    let default = priority.default.value.0.as_str();
    if !classes.contains(&default) {
        let message = format!("the default {default} is not among the classes");
        checker.report(file, &priority.default.place, message, did_you_mean(default, &classes));
    }
}
