//! The pure machine of one upstream's checks: whom to ask next, and what the answers mean together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrider_shared::SidecarId;
use outrider_shared::traffic::HealthCheck;

/// The part of an interval that is drawn at random, around its middle. A tenth each way: callers that began together do not
/// ask together for long.
const JITTER: f64 = 0.2;
/// A check that has not ended so long after its timeout never will.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// An endpoint as the directory and its actor have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub sidecar: SidecarId,
    pub address: SocketAddr,
    /// What the actor goes by now: why it is left out.
    pub unwell: Option<String>,
}

/// What one check has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Well,
    /// Why not, for people.
    Unwell(String),
    /// Nothing about the app: why not, for people.
    Inconclusive(String),
}

impl Verdict {
    /// In metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unwell(_) => "unwell",
            Self::Inconclusive(_) => "inconclusive",
        }
    }
}

/// To be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    pub address: SocketAddr,
    /// Goes with the verdict: one of an endpoint that was replaced meanwhile counts for nobody.
    pub number: u64,
}

#[derive(Debug)]
struct Endpoint {
    sidecar: SidecarId,
    standing: Standing,
    turn: Turn,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// Failures in a row, fewer than leave it out.
    Well { failures: u32 },
    /// Successes in a row, fewer than bring it back.
    Unwell { successes: u32, why: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Waiting { until: Instant },
    UnderWay { number: u64, began: Instant },
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    policy: HealthCheck,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
    /// Of the last check.
    number: u64,
}

impl Machine {
    pub fn new(policy: HealthCheck) -> Self {
        Self { policy, endpoints: BTreeMap::new(), number: 0 }
    }

    pub fn policy(&self) -> &HealthCheck {
        &self.policy
    }

    /// Another policy holds. What is known stays, but for rows of answers to another question.
    pub fn configure(&mut self, policy: HealthCheck) {
        let same_question = self.policy.kind == policy.kind;
        self.policy = policy;
        for endpoint in self.endpoints.values_mut() {
            let (Standing::Well { failures: row } | Standing::Unwell { successes: row, .. }) =
                &mut endpoint.standing;
            *row = if same_question { *row } else { 0 };
        }
        self.settle();
        self.check_invariants();
    }

    /// These are the endpoints. A new one is asked within its first interval, at a time drawn from `unit` (uniform in
    /// [0, 1)), and is well until its checks say otherwise.
    pub fn list(&mut self, listed: Vec<Listed>, mut unit: impl FnMut() -> f64, now: Instant) {
        let mut next = BTreeMap::new();
        for Listed { sidecar, address, unwell } in listed {
            let kept = self.endpoints.remove(&address).filter(|known| known.sidecar == sidecar);
            let endpoint = kept.unwrap_or_else(|| Endpoint {
                sidecar,
                standing: match unwell {
                    None => Standing::Well { failures: 0 },
                    Some(why) => Standing::Unwell { successes: 0, why },
                },
                turn: Turn::Waiting { until: now + self.policy.interval.get().mul_f64(unit()) },
            });
            next.insert(address, endpoint);
        }
        self.endpoints = next;
        self.check_invariants();
    }

    /// When somebody is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.endpoints.values().map(|endpoint| self.due(endpoint)).min()
    }

    /// Whoever has been due for longest; it is under way from now on.
    pub fn next(&mut self, now: Instant) -> Option<Check> {
        let due = self.endpoints.iter().map(|(address, endpoint)| (self.due(endpoint), *address)).min();
        let (_, address) = due.filter(|(due, _)| *due <= now)?;
        self.number += 1;
        let number = self.number;
        self.endpoints.get_mut(&address)?.turn = Turn::UnderWay { number, began: now };
        Some(Check { address, number })
    }

    /// A check has ended. One that is no longer awaited says nothing.
    pub fn ended(&mut self, check: Check, verdict: Verdict, unit: f64, now: Instant) {
        let interval = self.policy.interval.get().mul_f64(1.0 + JITTER * (unit - 0.5));
        let Some(endpoint) = self.endpoints.get_mut(&check.address) else { return };
        let Turn::UnderWay { number, began } = endpoint.turn else { return };
        if number != check.number {
            return;
        }
        endpoint.turn = Turn::Waiting { until: (began + interval).max(now) };
        match (&mut endpoint.standing, verdict) {
            (_, Verdict::Inconclusive(_)) => {}
            (Standing::Well { failures }, Verdict::Well) => *failures = 0,
            (Standing::Unwell { successes, .. }, Verdict::Well) => {
                *successes += 1;
                if *successes >= self.policy.healthy_threshold {
                    endpoint.standing = Standing::Well { failures: 0 };
                }
            }
            (Standing::Well { failures }, Verdict::Unwell(why)) => {
                *failures += 1;
                if *failures >= self.policy.unhealthy_threshold {
                    endpoint.standing = Standing::Unwell { successes: 0, why };
                }
            }
            (Standing::Unwell { successes, why }, Verdict::Unwell(now_why)) => {
                (*successes, *why) = (0, now_why);
            }
        }
        self.check_invariants();
    }

    /// What the actor must be told of an endpoint, where what it goes by (`unwell`) is not what is known here. Asked again
    /// until it has taken it over.
    pub fn correction(&self, address: SocketAddr, unwell: Option<&str>) -> Option<Option<String>> {
        match (&self.endpoints.get(&address)?.standing, unwell) {
            (Standing::Well { .. }, None) | (Standing::Unwell { .. }, Some(_)) => None,
            (Standing::Well { .. }, Some(_)) => Some(None),
            (Standing::Unwell { why, .. }, None) => Some(Some(why.clone())),
        }
    }

    fn due(&self, endpoint: &Endpoint) -> Instant {
        match endpoint.turn {
            Turn::Waiting { until } => until,
            Turn::UnderWay { began, .. } => began + self.policy.timeout.get() + LOST_AFTER,
        }
    }

    /// A row that a new threshold makes long enough has its effect with the next answer that adds to it.
    fn settle(&mut self) {
        let (unhealthy, healthy) = (self.policy.unhealthy_threshold, self.policy.healthy_threshold);
        for endpoint in self.endpoints.values_mut() {
            match &mut endpoint.standing {
                Standing::Well { failures } => *failures = (*failures).min(unhealthy.saturating_sub(1)),
                Standing::Unwell { successes, .. } => {
                    *successes = (*successes).min(healthy.saturating_sub(1));
                }
            }
        }
    }

    fn check_invariants(&self) {
        let (unhealthy, healthy) = (self.policy.unhealthy_threshold, self.policy.healthy_threshold);
        let is_short = |standing: &Standing| match standing {
            Standing::Well { failures } => *failures < unhealthy,
            Standing::Unwell { successes, .. } => *successes < healthy,
        };
        debug_assert!(self.endpoints.values().all(|endpoint| is_short(&endpoint.standing)));
    }
}
