//! `outrider upstreams`: what each sidecar sends to, and how it finds it.
//!
//! Fits into 100 columns: what is known of an upstream as a whole is written below its name, beside its endpoints. With
//! `-o wide` each figure has a column of its own.

use std::collections::BTreeMap;

use comfy_table::{Cell, Table};
use outrider_shared::api::{SidecarUpstreams, UpstreamsAnswer};
use outrider_shared::session::{ActorView, EndpointView, UpstreamView};
use outrider_shared::{ServiceId, SidecarId};
use serde_json::{Value, json};

use super::Shown;
use crate::table::{Palette, microseconds, number, short, table};

/// Columns for why an endpoint is left out; all of it is in `-o wide`. 20: about what its address takes.
const CAUSE_COLUMNS_MAX: usize = 20;

/// Columns for how permits lie at shards. 22: about what the name of an upstream takes.
const IDLE_COLUMNS_MAX: usize = 22;

pub struct Upstreams;

impl Shown for Upstreams {
    const PATH: &'static str = "/v1/upstreams";
    type Answer = UpstreamsAnswer;

    fn table(answer: &UpstreamsAnswer, palette: Palette) -> Table {
        let mut table = table(palette, &["from", "upstream", "endpoint", "state", "busy", "ewma"]);
        for sidecar in &answer.sidecars {
            for upstream in &sidecar.upstreams {
                let of = [sidecar.service.to_string(), short(sidecar.sidecar.as_str()).to_owned()];
                let mut of = of.into_iter().chain(overload(sidecar));
                let mut about = about(upstream).into_iter();
                let mut endpoints = endpoints(upstream, palette).into_iter();
                loop {
                    let (of, about, endpoint) = (of.next(), about.next(), endpoints.next());
                    if of.is_none() && about.is_none() && endpoint.is_none() {
                        break;
                    }
                    let mut row =
                        vec![Cell::new(of.unwrap_or_default()), Cell::new(about.unwrap_or_default())];
                    row.extend(endpoint.unwrap_or_else(empty));
                    table.add_row(row);
                }
            }
        }
        table
    }

    fn wide(answer: &UpstreamsAnswer, palette: Palette) -> Table {
        let mut table = table(
            palette,
            &[
                "from",
                "upstream",
                "requests",
                "failed",
                "refused",
                "moved",
                "p50",
                "p99",
                "permits",
                "idle by shard",
                "found",
                "actor",
                "endpoint",
                "state",
                "in flight",
                "ewma",
            ],
        );
        for sidecar in &answer.sidecars {
            for upstream in &sidecar.upstreams {
                let mut endpoints = upstream.endpoints.iter();
                let mut row = totals(sidecar, upstream);
                row.extend(endpoint(endpoints.next(), palette));
                table.add_row(row);
                for next in endpoints {
                    let mut row: Vec<Cell> = (0..12).map(|_| Cell::new("")).collect();
                    row.extend(endpoint(Some(next), palette));
                    table.add_row(row);
                }
            }
        }
        table
    }

    /// One object for each upstream of each sidecar that differs by more than the time that has passed.
    fn changes(before: Option<&UpstreamsAnswer>, now: &UpstreamsAnswer) -> Option<Vec<Value>> {
        let known = before.map(by_name).unwrap_or_default();
        let now = by_name(now);
        let mut changes = Vec::new();
        for (of, (service, upstream)) in &now {
            let same = known.get(of).is_some_and(|(_, known)| known.timeless() == upstream.timeless());
            if !same {
                changes.push(json!({ "sidecar": of.0, "service": service, "upstream": upstream }));
            }
        }
        for (of, (service, _)) in known.iter().filter(|(of, _)| !now.contains_key(*of)) {
            let gone = json!({ "name": of.1, "gone": true });
            changes.push(json!({ "sidecar": of.0, "service": service, "upstream": gone }));
        }
        Some(changes)
    }
}

type ByName<'a> = BTreeMap<(&'a SidecarId, &'a str), (&'a ServiceId, &'a UpstreamView)>;

fn by_name(answer: &UpstreamsAnswer) -> ByName<'_> {
    answer
        .sidecars
        .iter()
        .flat_map(|sidecar| {
            sidecar.upstreams.iter().map(|of| ((&sidecar.sidecar, of.name.as_str()), (&sidecar.service, of)))
        })
        .collect()
}

/// An upstream as a whole, in lines of at most 22 columns.
fn about(upstream: &UpstreamView) -> Vec<String> {
    let mut lines = vec![upstream.name.clone(), format!("{} requests", upstream.requests)];
    for (count, what) in
        [(upstream.failures, "failed"), (upstream.refusals, "refused"), (upstream.redispatches, "moved")]
    {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    }
    lines.push(format!("p50 {}, p99 {}", microseconds(upstream.p50_us), microseconds(upstream.p99_us)));
    lines.push(format!("{} of {} permits", upstream.in_use, upstream.limit));
    lines.extend((!upstream.leased_idle.is_empty()).then(|| idle(upstream)));
    if let Some(actor) = &upstream.actor {
        lines.extend(about_actor(upstream, actor));
    }
    lines
}

/// Idle permits by shard, in one line of 22 columns at most.
fn idle(upstream: &UpstreamView) -> String {
    let line = format!("idle {}", leases(upstream));
    if line.len() <= IDLE_COLUMNS_MAX {
        return line;
    }
    let sum: u64 = upstream.leased_idle.iter().copied().map(u64::from).sum();
    format!("idle {sum} of {} shards", upstream.leased_idle.len())
}

/// Idle permits, shard by shard.
fn leases(upstream: &UpstreamView) -> String {
    upstream.leased_idle.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
}

/// How short the sidecar itself is, and of what.
fn overload(sidecar: &SidecarUpstreams) -> Vec<String> {
    let of = sidecar.overload.iter().filter(|overload| overload.level > 0);
    of.flat_map(|of| [format!("overloaded {}/10", of.level), format!("by {}", of.short_of)]).collect()
}

/// What its actor says, where it says more than that all is well.
fn about_actor(upstream: &UpstreamView, actor: &ActorView) -> Vec<String> {
    let mut lines = Vec::new();
    let queue = &actor.queue;
    if queue.admitted + queue.refused > 0 {
        lines.push(format!("{} of {} wait", queue.depth, queue.depth_max));
        lines.extend(queue.oldest_ms.map(|ms| format!("oldest {ms} ms")));
        lines.push(format!("{} dropped", queue.shed + queue.refused));
        for waiting in queue.classes.iter().filter(|class| class.depth > 0 && queue.classes.len() > 1) {
            lines.push(format!("class {} {}", waiting.name, waiting.depth));
        }
    }
    if upstream.retries + upstream.retries_refused > 0 {
        lines.push(format!("{} retries", upstream.retries));
        lines.push(format!("{} of {} left", actor.budget.left, actor.budget.of));
    }
    if let Some(breaker) = actor.breaker.as_ref().filter(|breaker| breaker.state != "Closed") {
        lines.push(format!("breaker {}", breaker.state));
        lines.push(cut(&breaker.cause));
    }
    if upstream.panic.is_some() {
        lines.push("panic: all are used".to_owned());
    }
    lines
}

/// A line for each endpoint, and one more for why it is left out.
fn endpoints(upstream: &UpstreamView, palette: Palette) -> Vec<[Cell; 4]> {
    if upstream.endpoints.is_empty() {
        return vec![endpoint(None, palette)];
    }
    let mut lines = Vec::new();
    for one in &upstream.endpoints {
        let state = match one.retry_in_ms {
            Some(ms) => format!("{} {}.{} s", one.state, ms / 1_000, ms / 100 % 10),
            None => one.state.clone(),
        };
        lines.push([
            Cell::new(&one.address),
            if one.cause.is_some() { palette.bad(state) } else { palette.good(state) },
            number(one.in_flight),
            number(microseconds(one.ewma_us)),
        ]);
        if let Some(cause) = &one.cause {
            let [_, state, in_flight, ewma] = empty();
            lines.push([Cell::new(cut(cause)), state, in_flight, ewma]);
        }
    }
    lines
}

/// The end of a cause is what the system said.
fn cut(cause: &str) -> String {
    let length = cause.chars().count();
    if length <= CAUSE_COLUMNS_MAX {
        return cause.to_owned();
    }
    let end: String = cause.chars().skip(length + 1 - CAUSE_COLUMNS_MAX).collect();
    format!("…{end}")
}

fn empty() -> [Cell; 4] {
    [(); 4].map(|()| Cell::new(""))
}

fn totals(sidecar: &SidecarUpstreams, upstream: &UpstreamView) -> Vec<Cell> {
    let mut from = vec![format!("{} {}", sidecar.service, short(sidecar.sidecar.as_str()))];
    from.extend(overload(sidecar));
    vec![
        Cell::new(from.join("\n")),
        Cell::new(&upstream.name),
        number(upstream.requests),
        number(upstream.failures),
        number(upstream.refusals),
        number(upstream.redispatches),
        number(microseconds(upstream.p50_us)),
        number(microseconds(upstream.p99_us)),
        number(format!("{}/{}", upstream.in_use, upstream.limit)),
        number(leases(upstream)),
        Cell::new(found(upstream)),
        Cell::new(match upstream.incarnation {
            0 => "the first".to_owned(),
            times => format!("started anew {times} times"),
        }),
    ]
}

/// What connections to ports without `appProtocol` turned out to speak.
fn found(upstream: &UpstreamView) -> String {
    let port = |name: &str| name.rsplit_once(':').map_or_else(String::new, |(_, port)| port.to_owned());
    let each = upstream.detected.iter();
    let lines: Vec<String> =
        each.map(|of| format!("{}: {} {}", port(&of.port), of.connections, of.verdict)).collect();
    lines.join("\n")
}

fn endpoint(endpoint: Option<&EndpointView>, palette: Palette) -> [Cell; 4] {
    let Some(endpoint) = endpoint else {
        return [palette.bad("none"), Cell::new(""), Cell::new(""), Cell::new("")];
    };
    let since = endpoint.breaker.as_ref().filter(|breaker| breaker.state == endpoint.state);
    let state = match since {
        Some(breaker) => format!("{} for {} ms", endpoint.state, breaker.since_ms),
        None => endpoint.state.clone(),
    };
    let state = match (&endpoint.cause, endpoint.retry_in_ms) {
        (Some(cause), Some(ms)) => format!("{state}: {cause}, tried again in {ms} ms"),
        (Some(cause), None) => format!("{state}: {cause}"),
        (None, _) => endpoint.state.clone(),
    };
    [
        Cell::new(&endpoint.address),
        if endpoint.cause.is_some() { palette.bad(state) } else { palette.good(state) },
        number(endpoint.in_flight),
        number(microseconds(endpoint.ewma_us)),
    ]
}
