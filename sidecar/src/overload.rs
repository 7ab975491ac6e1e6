//! Sheds load when the sidecar itself is short of something: memory, descriptors, or time on its threads.
//!
//! Limits and queues protect the app; this protects the process that everything passes through. It refuses requests that
//! come in, the least important class first, before the kernel ends the process, accepts fail, or every answer is late. The
//! first class of the policy is served as long as the sidecar is. Each request is asked once, where it enters: a call of the own
//! app only while no request that came in is under way, and then as one of the default class.
//!
//! ```text
//!   shard: beat (how late is the loop) ─┐
//!   /proc: resident memory ─────────────┼─▶ Machine ─▶ level, 0 to 10 ─▶ one atomic ─▶ admission
//!   counters: open connections ─────────┘   each 100 ms
//! ```
//!
//! A request reads one number that seldom changes, and nothing else. Refusals are `never-reached-app`: the shortage is this
//! process's own, so another endpoint may well take the request, and a caller's breaker must not take it for the app's
//! failure. It costs no more than the two re-dispatches that any refusal of that kind may cost.
//!
//! Readiness is not touched: an overloaded sidecar that is taken out leaves its load to the next one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::node::Node;
use crate::stats::{Beat, ShardRecorder};

pub mod machine;
mod readings;
#[cfg(test)]
mod tests;

pub use machine::share_refused;

use machine::{Machine, Reading};

/// Between readings, and between a shard's beats. 100 ms: a process that grows by 100 MiB a second is still seen in time, and
/// ten wake-ups a second cost nothing that can be measured.
const PERIOD: Duration = Duration::from_millis(100);

/// What the sidecar may use, in bytes; `None`: nobody has set a bound. `given`: `--memory-limit`.
pub fn memory_bytes(given: Option<u64>) -> Option<u64> {
    readings::Limits::read(given).memory_bytes
}

/// Tells how late a shard's event loop is. Runs on the shard until the process ends.
pub async fn beat(started: Instant, stats: Rc<ShardRecorder>) {
    loop {
        let due = Instant::now() + PERIOD;
        actix_rt::time::sleep_until(due.into()).await;
        let now = Instant::now();
        stats.shard().lag_us.set(micros(now.saturating_duration_since(due)));
        stats.shard().beat_us.set(micros(now.saturating_duration_since(started)));
    }
}

/// Reads, decides and publishes until the process ends.
pub async fn watch(node: Arc<Node>) {
    let limits = readings::Limits::read(node.config.memory_limit);
    let mut machine = Machine::default();
    let mut level = 0;
    let mut ticks = actix_rt::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let view = machine.handle(&read(&node, &limits, now), now);
        node.stats.process.overload.publish(&view);
        if (level == 0) != (view.level == 0) {
            let short_of = view.shortest_of.label();
            if view.level > 0 {
                tracing::warn!(short_of, level = view.level, "overloaded: refusing what is less important");
            } else {
                tracing::info!(short_of, "no longer overloaded");
            }
        }
        level = view.level;
    }
}

fn read(node: &Node, limits: &readings::Limits, now: Instant) -> Reading {
    let now_us = micros(now.saturating_duration_since(node.started));
    let late = |beat: Beat| {
        let overdue = now_us.saturating_sub(beat.at_us).saturating_sub(micros(PERIOD));
        // Before its first beat a shard is starting.
        Duration::from_micros(if beat.at_us == 0 { 0 } else { beat.lag_us.max(overdue) })
    };
    Reading {
        memory: limits.memory(),
        connections: limits.connections(node.stats.open_connections()),
        lags: node.stats.beats().into_iter().map(late).collect(),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
