//! What is drawn once: policy, bounds, and how much happens.

use std::net::SocketAddr;
use std::time::Duration;

use outrider_shared::traffic::{
    Breaker, BreakerScope, ClientTraffic, Concurrency, ConcurrencyAlgorithm, FairBy, Priority, PriorityClass,
    Queue, QueueDrop, QueueOrder, RetryBudget,
};
use outrider_shared::units::GepDuration;

use super::dice::Dice;
use crate::upstream::digest::Scope;
use crate::upstream::machine::Input;
use crate::upstream::settings::Settings;
use crate::upstream::tests::{address, directory};

pub struct Plan {
    pub shards: usize,
    /// Requests, and crashes, that may still come.
    pub arrivals: u32,
    pub crashes: u32,
    pub mailbox_max: usize,
    /// How soon the actor comes to its messages, against what else may happen.
    pub eagerness: u64,
    /// Retries of one request.
    pub retries: u32,
    pub scopes: Vec<Scope>,
    pub time_passes: bool,
    /// Other settings, other weather, endpoints that come and go.
    pub changes: bool,
    client: ClientTraffic,
    /// One limit, one class, one peer, no deadlines.
    is_plain: bool,
}

fn millis(dice: &mut Dice, low: u64, high: u64) -> GepDuration {
    GepDuration::from_millis(small(dice, low, high))
}

fn small(dice: &mut Dice, low: u64, high: u64) -> u32 {
    u32::try_from(dice.between(low, high)).expect("small")
}

impl Plan {
    pub fn drawn(dice: &mut Dice) -> Self {
        let scope = if dice.once_in(2) { BreakerScope::Service } else { BreakerScope::Endpoint };
        let breaker = Breaker {
            scope,
            consecutive_failures: Some(small(dice, 1, 4)),
            open_initial: millis(dice, 20, 100),
            open_max: millis(dice, 100, 400),
            probes_max: small(dice, 1, 3),
            success_threshold: small(dice, 1, 3),
            ..Breaker::default()
        };
        let retry_budget = RetryBudget {
            percent: small(dice, 0, 60),
            interval: millis(dice, 200, 1_000),
            rate_min_count: small(dice, 0, 5),
            rate_min_interval: millis(dice, 50, 300),
        };
        let shards = usize::try_from(dice.between(1, 3)).expect("small");
        Self {
            shards,
            arrivals: small(dice, 20, 300),
            crashes: small(dice, 0, 4),
            // Some so small that it is full now and then, and some actors slow.
            mailbox_max: usize::try_from(dice.between(2, 20)).expect("small"),
            eagerness: dice.pick(&[(1, 40), (1, 3)]),
            retries: small(dice, 0, 2),
            scopes: scopes(scope),
            time_passes: true,
            changes: true,
            client: ClientTraffic { breaker, retry_budget, ..ClientTraffic::default() },
            is_plain: false,
        }
    }

    /// As little as shows everything about one permit, and no time: to go through all that can happen.
    pub fn least(arrivals: u32, crashes: u32) -> Self {
        Self {
            shards: 2,
            arrivals,
            crashes,
            mailbox_max: 8,
            eagerness: 1,
            retries: 0,
            scopes: vec![Scope::Service],
            time_passes: false,
            changes: false,
            client: ClientTraffic::default(),
            is_plain: true,
        }
    }

    pub fn settings(&self, dice: &mut Dice) -> Settings {
        let client = self.client.clone();
        if self.is_plain {
            let concurrency =
                Concurrency { algorithm: ConcurrencyAlgorithm::Fixed, initial: 1, min: 1, max: 1 };
            return Settings { cap: 64, concurrency, queue: Queue::default(), client };
        }
        let algorithm = dice.pick(&[
            (1, ConcurrencyAlgorithm::Fixed),
            (1, ConcurrencyAlgorithm::Aimd),
            (1, ConcurrencyAlgorithm::Gradient),
        ]);
        let (min, max) = (small(dice, 1, 3), small(dice, 3, 9));
        let concurrency = Concurrency { algorithm, initial: small(dice, min.into(), max.into()), min, max };
        let class = |name: &str, weight| PriorityClass { name: name.into(), weight };
        let classes =
            dice.pick(&[(1, None), (1, Some([None, None, None])), (1, Some([Some(5), Some(2), Some(1)]))]);
        let priority = classes.map(|[a, b, c]| Priority {
            header: "x-class".into(),
            classes: vec![class("high", a), class("middle", b), class("low", c)],
            default: 1,
            trusted_from: Vec::new(),
        });
        let queue = Queue {
            depth_max: if dice.once_in(8) { 0 } else { small(dice, 1, 12) },
            wait_max: millis(dice, 10, 200),
            order: dice.pick(&[(1, QueueOrder::Deadline), (1, QueueOrder::Fifo), (1, QueueOrder::Lifo)]),
            drop: dice.pick(&[(1, QueueDrop::None), (1, QueueDrop::CoDel)]),
            fair_by: dice.pick(&[(1, FairBy::Peer), (1, FairBy::None)]),
            priority,
        };
        Settings { cap: 64, concurrency, queue, client }
    }

    pub fn directory() -> Input {
        directory(&[1, 2])
    }

    pub fn any_endpoint(dice: &mut Dice) -> SocketAddr {
        address(dice.pick(&[(1, 1), (1, 2)]))
    }

    pub fn any_shard(&self, dice: &mut Dice) -> usize {
        usize::try_from(dice.below(self.shards as u64)).expect("small")
    }

    pub fn any_scope(&self, dice: &mut Dice) -> Scope {
        let index = dice.below(self.scopes.len() as u64);
        self.scopes[usize::try_from(index).expect("small")]
    }

    /// Its class, and the number of the peer.
    pub fn any_caller(&self, dice: &mut Dice) -> (usize, u64) {
        if self.is_plain {
            return (0, 0);
        }
        (usize::try_from(dice.below(3)).expect("small"), dice.below(3))
    }

    pub fn any_deadline(&self, dice: &mut Dice) -> Option<Duration> {
        if self.is_plain || dice.once_in(2) {
            return None;
        }
        Some(Duration::from_millis(dice.between(1, 300)))
    }
}

fn scopes(of: BreakerScope) -> Vec<Scope> {
    match of {
        BreakerScope::Service => vec![Scope::Service],
        BreakerScope::Endpoint => vec![Scope::Endpoint(address(1)), Scope::Endpoint(address(2))],
    }
}
