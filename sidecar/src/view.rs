//! What the sidecar shows of itself: to people by the admin port, to the control plane by reports.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrider_shared::session::{
    DetectedView, EndpointView, REPORT_UPSTREAMS_MAX, Report, UpstreamView, latency_quantile_us,
};

use crate::drain::Phase;
use crate::node::Node;
use crate::session::SessionStatus;
use crate::stats::{DetectedTotals, EndpointTotals, UpstreamTotals};
use crate::telemetry::metrics::{ActorCounts, Scrape, Session, SnapshotInForce};
use crate::upstream::{EndpointState, Health, Key, Upstream};

/// The boot's counters, and how it stands.
pub fn report(node: &Node) -> Report {
    let mut upstreams = upstreams(node);
    upstreams.truncate(REPORT_UPSTREAMS_MAX);
    Report {
        boot: node.boot.clone(),
        uptime_ms: u64::try_from(node.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        inbound: node.stats.inbound_totals(),
        upstreams,
        leaf: node.tls.load().as_ref().map(|tls| tls.material.view()),
        draining: *node.phase.borrow() != Phase::Serving,
        bypassable: node.bypassable.load(Ordering::Relaxed),
    }
}

/// Everything that metrics show.
pub fn scrape(node: &Node, session: &SessionStatus) -> Scrape {
    let staleness = if session.connected { Duration::ZERO } else { Duration::from_millis(session.since_ms) };
    let snapshot = node.snapshot.load();
    let upstream_views = upstreams(node);
    let restarts = upstream_views.iter().map(|view| view.incarnation).sum();
    Scrape {
        service: node.name.clone(),
        shards: node.stats.shard_totals(),
        peers: node.stats.peer_totals(),
        upstreams: node.stats.upstream_totals(),
        refused_by_address: node.refused_by_address.get(),
        upstream_views,
        actors: vec![ActorCounts { actor: "upstream", restarts, mailbox_full: mailbox_full(node) }],
        leaf: node.tls.load().as_ref().map(|tls| tls.material.view()),
        edge_certificates: node.certificates.view(),
        snapshot: snapshot.as_ref().map(|snapshot| SnapshotInForce { version: snapshot.version, staleness }),
        session: if session.connected { Session::Connected } else { Session::Disconnected },
        traces: node.tracer.counts(),
    }
}

/// Every upstream in use, by name: health from its actor's snapshot, counters from the shards.
pub fn upstreams(node: &Node) -> Vec<UpstreamView> {
    let counted: HashMap<String, UpstreamTotals> =
        node.stats.upstream_totals().into_iter().map(|totals| (totals.name.clone(), totals)).collect();
    let mut of_endpoints: HashMap<String, Vec<EndpointTotals>> = HashMap::new();
    for totals in node.stats.endpoint_totals() {
        of_endpoints.entry(totals.upstream.clone()).or_default().push(totals);
    }
    let detected = node.stats.shard_totals().detected;
    let map = node.upstreams.load();
    let mut upstreams: Vec<_> = map.values().collect();
    upstreams.sort_by(|a, b| a.key.cmp(&b.key));
    upstreams
        .into_iter()
        .map(|upstream| {
            let name = upstream.key.to_string();
            let endpoints = of_endpoints.remove(&name).unwrap_or_default();
            let detected = detected_of(&name, &detected);
            UpstreamView { detected, ..view(upstream, counted.get(&name), &endpoints) }
        })
        .collect()
}

fn detected_of(upstream: &str, all: &[DetectedTotals]) -> Vec<DetectedView> {
    let of_it = all.iter().filter(|of| of.port.rsplit_once(':').is_some_and(|(name, _)| name == upstream));
    of_it
        .map(|of| DetectedView {
            port: of.port.clone(),
            verdict: of.found.label().to_owned(),
            connections: of.count,
        })
        .collect()
}

/// Events that found an actor's mailbox full.
fn mailbox_full(node: &Node) -> u64 {
    node.upstreams.load().values().map(|upstream| upstream.mailbox_full.load(Ordering::Relaxed)).sum()
}

fn view(
    upstream: &Upstream,
    counted: Option<&UpstreamTotals>,
    of_endpoints: &[EndpointTotals],
) -> UpstreamView {
    let snapshot = upstream.snapshot.load();
    let now = Instant::now();
    let latency = counted.map(|totals| totals.latency_of_all().sparse()).unwrap_or_default();
    let endpoints = match upstream.key {
        Key::Service(_) => snapshot
            .endpoints
            .iter()
            .map(|state| {
                let totals = of_endpoints.iter().find(|totals| totals.address == state.address);
                endpoint(Some(state), state.address.to_string(), totals, now)
            })
            .collect(),
        // The app is its own port's one endpoint, and no directory lists it.
        Key::AppPort(_) => of_endpoints
            .iter()
            .map(|totals| endpoint(None, totals.address.to_string(), Some(totals), now))
            .collect(),
    };
    UpstreamView {
        name: upstream.key.to_string(),
        side: match upstream.key {
            Key::Service(_) => "outbound".to_owned(),
            Key::AppPort(_) => "inbound".to_owned(),
        },
        generation: snapshot.generation,
        incarnation: snapshot.incarnation,
        limit: upstream.leases.limit(),
        in_use: upstream.leases.in_use(),
        leased_idle: upstream.leases.idle(),
        endpoints,
        requests: counted.map_or(0, |totals| totals.requests),
        failures: counted.map_or(0, |totals| totals.failures),
        refusals: counted.map_or(0, |totals| totals.refusals),
        redispatches: counted.map_or(0, |totals| totals.redispatches),
        p50_us: latency_quantile_us(&latency, 0.5),
        p95_us: latency_quantile_us(&latency, 0.95),
        p99_us: latency_quantile_us(&latency, 0.99),
        detected: Vec::new(),
    }
}

fn endpoint(
    state: Option<&EndpointState>,
    address: String,
    totals: Option<&EndpointTotals>,
    now: Instant,
) -> EndpointView {
    let (word, cause, until) = match state.map(|state| &state.health) {
        None | Some(Health::Healthy) => ("Healthy", None, None),
        Some(Health::Trial { cause }) => ("Trial", Some(cause.clone()), None),
        Some(Health::Ejected { until, cause }) => ("Ejected", Some(cause.clone()), Some(*until)),
    };
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    EndpointView {
        address,
        sidecar: state.map(|state| state.sidecar.clone()),
        state: word.to_owned(),
        cause,
        retry_in_ms: until
            .map(|until| u64::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX)),
        connections: totals.map_or(0, |totals| small(totals.connections)),
        in_flight: totals.map_or(0, |totals| small(totals.in_flight)),
        requests: totals.map_or(0, |totals| totals.requests),
        ewma_us: totals.map_or(0, |totals| totals.ewma_us),
    }
}
