//! The control plane's own numbers, in `OpenMetrics`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    pub outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Actor {
    pub actor: &'static str,
}

pub struct Metrics {
    registry: Registry,
    pub sessions: Gauge,
    pub pushes: Counter,
    /// `ack` or `nack`.
    pub settled: Family<Outcome, Counter>,
    pub revision: Gauge<u64, AtomicU64>,
    /// Problems of what lies in the policy directory now.
    pub policy_problems: Gauge,
    /// Reports that are none: too many rows, another boot's.
    pub reports_refused: Counter,
    /// `ok`, `refused`, or `throttled`; renewals are never throttled.
    pub joins: Family<Outcome, Counter>,
    pub renewals: Family<Outcome, Counter>,
    pub restarts: Family<Actor, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            registry: Registry::default(),
            sessions: Gauge::default(),
            pushes: Counter::default(),
            settled: Family::default(),
            revision: Gauge::default(),
            policy_problems: Gauge::default(),
            reports_refused: Counter::default(),
            joins: Family::default(),
            renewals: Family::default(),
            restarts: Family::default(),
        };
        registry.register("outrider_sessions", "Sidecars with a session", metrics.sessions.clone());
        registry.register("outrider_pushes", "Snapshots pushed", metrics.pushes.clone());
        registry.register("outrider_pushes_settled", "Snapshots taken or refused", metrics.settled.clone());
        registry.register("outrider_policy_revision", "The revision in force", metrics.revision.clone());
        registry.register(
            "outrider_policy_problems",
            "Problems of what lies in the policy directory; 0 when it is in force",
            metrics.policy_problems.clone(),
        );
        registry.register(
            "outrider_reports_refused",
            "Reports refused, each with the end of its session",
            metrics.reports_refused.clone(),
        );
        registry.register("outrider_joins", "Requests to join", metrics.joins.clone());
        registry.register("outrider_renewals", "Requests to renew a leaf", metrics.renewals.clone());
        registry.register(
            "outrider_actor_restarts",
            "Actors started anew after a failure",
            metrics.restarts.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    pub fn encode(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a String takes whatever is written");
        page
    }
}
