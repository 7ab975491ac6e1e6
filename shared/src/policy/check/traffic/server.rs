//! What the service's own sidecars do: relations between fields, and what they mean.

use super::super::Checker;
use crate::policy::raw::traffic::{
    Concurrency as RawConcurrency, ConcurrencyAlgorithm as RawAlgorithm, FairBy as RawFairBy,
    Priority as RawPriority, Queue as RawQueue, QueueDrop as RawDrop, QueueOrder as RawOrder,
    ServerTraffic as RawServer,
};
use crate::policy::raw::{Located, did_you_mean};
use crate::traffic::{
    Concurrency, ConcurrencyAlgorithm, FairBy, Priority, PriorityClass, Queue, QueueDrop, QueueOrder,
    ServerTraffic,
};

/// The most where policy names none, unless the limit begins higher: what a sidecar takes at all.
const LIMIT_MAX: u32 = 1_024;

pub(super) fn relations(file: &str, given: &RawServer, checker: &mut Checker<'_>) {
    if let Some(limit) = &given.concurrency {
        concurrency(file, limit, checker);
    }
    if let Some(priority) = given.queue.as_ref().and_then(|queue| queue.priority.as_ref()) {
        self::priority(file, priority, checker);
    }
}

pub(super) fn concurrency(file: &str, limit: &Located<RawConcurrency>, checker: &mut Checker<'_>) {
    let initial = limit.value.initial.0;
    let min = limit.value.min.map_or(1, |min| min.0);
    let max = limit.value.max.map_or(u32::MAX, |max| max.0);
    if !(min..=max).contains(&initial) {
        let message = format!("the limit begins at {initial}, outside of {min} to {max} where it must stay");
        checker.report(file, &limit.place, message, "min <= initial <= max".to_owned());
    }
}

fn priority(file: &str, priority: &RawPriority, checker: &mut Checker<'_>) {
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
    if let Some(weights) = priority.weights.as_ref().filter(|weights| weights.value.0.len() != classes.len())
    {
        let message = format!("{} weights for {} classes", weights.value.0.len(), classes.len());
        checker.report(file, &weights.place, message, "write one weight for each class".to_owned());
    }
}

pub(super) fn apply(server: &mut ServerTraffic, given: &RawServer) {
    if let Some(concurrency) = &given.concurrency {
        server.concurrency = limit(&concurrency.value);
    }
    if let Some(queue) = &given.queue {
        apply_queue(&mut server.queue, queue);
    }
}

pub(super) fn limit(given: &RawConcurrency) -> Concurrency {
    let initial = given.initial.0;
    Concurrency {
        algorithm: match given.algorithm {
            RawAlgorithm::Fixed => ConcurrencyAlgorithm::Fixed,
            RawAlgorithm::Aimd => ConcurrencyAlgorithm::Aimd,
            RawAlgorithm::Gradient => ConcurrencyAlgorithm::Gradient,
        },
        initial,
        min: given.min.map_or(1, |min| min.0),
        max: given.max.map_or(LIMIT_MAX.max(initial), |max| max.0),
    }
}

fn apply_queue(queue: &mut Queue, given: &RawQueue) {
    queue.depth_max = given.max_depth.0;
    if let Some(wait) = given.max_wait {
        queue.wait_max = wait.gep();
    }
    if let Some(order) = given.order {
        queue.order = match order {
            RawOrder::Deadline => QueueOrder::Deadline,
            RawOrder::Fifo => QueueOrder::Fifo,
            RawOrder::Lifo => QueueOrder::Lifo,
        };
    }
    if let Some(drop) = given.drop {
        queue.drop = match drop {
            RawDrop::None => QueueDrop::None,
            RawDrop::CoDel => QueueDrop::CoDel,
        };
    }
    if let Some(fair_by) = given.fair_by {
        queue.fair_by = match fair_by {
            RawFairBy::Peer => FairBy::Peer,
            RawFairBy::None => FairBy::None,
        };
    }
    if let Some(given) = &given.priority {
        queue.priority = classes(given);
    }
}

/// `None`: the default is no class, which was reported.
fn classes(given: &RawPriority) -> Option<Priority> {
    let weight = |index: usize| {
        given.weights.as_ref().and_then(|weights| weights.value.0.get(index)).map(|weight| weight.0)
    };
    let names = given.classes.value.0.iter().map(|class| class.value.0.clone());
    let classes: Vec<PriorityClass> =
        names.enumerate().map(|(index, name)| PriorityClass { weight: weight(index), name }).collect();
    let default = classes.iter().position(|class| class.name == given.default.value.0)?;
    let trusted = given.trusted_from.0.iter();
    Some(Priority {
        header: given.header.0.to_ascii_lowercase(),
        default,
        classes,
        trusted_from: trusted.map(|id| id.0.parse().expect("it was read as a SPIFFE ID")).collect(),
    })
}
