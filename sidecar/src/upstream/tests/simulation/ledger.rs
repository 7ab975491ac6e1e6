//! What must hold after each step, by name, and what is counted for it.

use std::time::{Duration, Instant};

use outrider_shared::traffic::RetryBudget;

use super::wire::{Waiter, Wire};
use crate::upstream::Snapshot;
use crate::upstream::supply::Supply;

pub struct Ledger {
    pub start: Instant,
    pub crashes: u32,
    pub refused: u32,
    pub retries: u32,
    /// First attempts and retries, by when they began.
    began: Vec<Instant>,
    retried: Vec<Instant>,
    /// The limit, and how many were spent when it was cut, less those that have come back since.
    limit: u32,
    cut: u32,
    /// That were spent when this was checked last: after each message, at least.
    held: u32,
    generation: u64,
}

impl Ledger {
    pub fn new(wire: &Wire, published: &Snapshot) -> Self {
        Self {
            start: wire.now.get(),
            crashes: 0,
            refused: 0,
            retries: 0,
            began: Vec::new(),
            retried: Vec::new(),
            limit: wire.leases.limit(),
            cut: 0,
            held: 0,
            generation: published.generation,
        }
    }

    pub fn check(&mut self, wire: &Wire, published: &Snapshot, supply: Option<&Supply<Waiter>>) {
        self.permits(wire);
        assert!(published.generation >= self.generation, "a generation never goes back");
        self.generation = published.generation;
        if let Some(supply) = supply {
            queue(wire, supply);
        }
        let probes_max = published.settings.client.breaker.probes_max;
        let most = wire.probes.borrow().values().copied().max().unwrap_or_default();
        assert!(most <= probes_max, "of one epoch more probes are under way than policy lets");
    }

    fn permits(&mut self, wire: &Wire) {
        let (held, limit) = (wire.held.get(), wire.leases.limit());
        assert_eq!(wire.leases.in_use(), held, "permits out equal permits in");
        if limit < self.limit {
            self.cut = self.cut.max(self.held);
        }
        self.limit = limit;
        assert!(held <= limit.max(self.cut), "{held} are spent, of {limit}: more than a cut left");
        self.cut = self.cut.min(held);
        self.held = held;
    }

    pub fn began(&mut self, now: Instant) {
        self.began.push(now);
    }

    /// The budget's promise, as its module states it, by looking at each window.
    pub fn retried(&mut self, budget: &RetryBudget, now: Instant) {
        self.retries += 1;
        self.retried.push(now);
        let within = |all: &[Instant], span: Duration| {
            all.iter().filter(|at| now.duration_since(**at) < span).count() as u128
        };
        let (span, span_min) = (budget.interval.get(), budget.rate_min_interval.get());
        let retries = within(&self.retried, span);
        let count = u128::from(budget.rate_min_count);
        let by_share = within(&self.began, span) * u128::from(budget.percent) / 100;
        let by_rate = (count * span.as_nanos()).div_ceil(span_min.as_nanos());
        let holds = retries <= by_share || (retries <= by_rate && within(&self.retried, span_min) <= count);
        assert!(holds, "{retries} retries within {span:?}, where {by_share} or {by_rate} may be");
    }
}

fn queue(wire: &Wire, supply: &Supply<Waiter>) {
    let leases = &wire.leases;
    let view = supply.queue_view(wire.now.get());
    assert_eq!(view.depth as u64, view.counters.depth(), "depth is what came less what went");
    assert!(view.depth <= view.depth_max, "the queue stays within its bound");
    assert_eq!(view.depth > 0, leases.is_queueing(), "who comes while others queue does not overtake");
    assert_eq!(supply.limiter_view().limit, leases.limit(), "the limit that was found is in force");
    let idle: u32 = leases.idle().iter().sum();
    assert!(
        view.depth == 0 || idle == 0 || wire.is_told() || wire.return_lost.get(),
        "a permit lies idle, somebody waits, and nobody tells the actor"
    );
}
