//! What the sidecar shows of itself: to people by the admin port, to the control plane by reports.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outrider_shared::session::{
    ActorView, BreakerView, BudgetView, DetectedView, EndpointView, LimitView, MailboxView, OverloadView,
    QueueView, REPORT_EVENTS_MAX, REPORT_UPSTREAMS_MAX, Report, UpstreamView, WaitingView,
    latency_quantile_us,
};
use outrider_shared::traffic::ConcurrencyAlgorithm;

use crate::drain;
use crate::node::Node;
use crate::session::SessionStatus;
use crate::stats::{DetectedTotals, EndpointTotals, HistogramTotals, Side, UpstreamTotals};
use crate::telemetry::metrics::{ActorCounts, MailboxTotals, Scrape, Session, SnapshotInForce};
use crate::upstream::actor::View;
use crate::upstream::breaker::{self, Position};
use crate::upstream::concurrency::Phase;
use crate::upstream::mailbox::{self, Mailbox};
use crate::upstream::supervisor;
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
        events: node.events.latest(REPORT_EVENTS_MAX),
        leaf: node.tls.load().as_ref().map(|tls| tls.material.view()),
        draining: *node.phase.borrow() != drain::Phase::Serving,
        bypassable: node.bypassable.load(Ordering::Relaxed),
        overload: overload(node),
    }
}

/// `None`: it is not overloaded.
pub fn overload(node: &Node) -> Option<OverloadView> {
    let overload = &node.stats.process.overload;
    let level = overload.level();
    (level > 0).then(|| OverloadView { level, short_of: overload.shortest_of().label().to_owned() })
}

/// Everything that metrics show.
pub fn scrape(node: &Node, session: &SessionStatus) -> Scrape {
    let staleness = if session.connected { Duration::ZERO } else { Duration::from_millis(session.since_ms) };
    let snapshot = node.snapshot.load();
    let upstream_views = upstreams(node);
    let (restarts, mailbox_full) = (&node.actors.restarts, &node.actors.refused);
    Scrape {
        service: node.name.clone(),
        shards: node.stats.shard_totals(),
        peers: node.stats.peer_totals(),
        upstreams: node.stats.upstream_totals(),
        refused_by_address: node.refused_by_address.get(),
        kept: node.kept_bodies.view(),
        upstream_views,
        actors: vec![
            ActorCounts {
                actor: "upstream",
                restarts: restarts.load(Ordering::Relaxed),
                mailbox_full: mailbox_full.load(Ordering::Relaxed),
            },
            // It is never started anew.
            ActorCounts { actor: "supervisor", restarts: 0, mailbox_full: node.supervisor.mailbox.refused() },
        ],
        mailboxes: mailboxes(node),
        leaf: node.tls.load().as_ref().map(|tls| tls.material.view()),
        edge_certificates: node.certificates.view(),
        snapshot: snapshot.as_ref().map(|snapshot| SnapshotInForce { version: snapshot.version, staleness }),
        session: if session.connected { Session::Connected } else { Session::Disconnected },
        traces: node.tracer.counts(),
    }
}

/// Every upstream in use, by name: what its actor knows, of one instant; where its permits are, now; counters of the shards.
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

/// The supervisor's, and the upstreams' in the order in which they began, so that one which is shown stays shown.
fn mailboxes(node: &Node) -> Vec<MailboxTotals> {
    let map = node.upstreams.load();
    let mut upstreams: Vec<_> = map.values().collect();
    upstreams.sort_by_key(|upstream| upstream.mailbox.latency().sequence());
    let of = |upstream: &Arc<Upstream>| {
        let key = Some((upstream.key.side(), upstream.key.to_string()));
        mailbox_totals(&upstream.mailbox, mailbox::CAPACITY, key)
    };
    let supervisor = mailbox_totals(&node.supervisor.mailbox, supervisor::MAILBOX_MAX, None);
    std::iter::once(supervisor).chain(upstreams.into_iter().map(of)).collect()
}

fn mailbox_totals(mailbox: &Mailbox, capacity: usize, upstream: Option<(Side, String)>) -> MailboxTotals {
    MailboxTotals {
        upstream,
        capacity: capacity as u64,
        depth: mailbox.depth(),
        latency: HistogramTotals::of(mailbox.latency()),
    }
}

fn mailbox_view(mailbox: &Mailbox) -> MailboxView {
    let latency = HistogramTotals::of(mailbox.latency()).sparse();
    MailboxView {
        capacity: mailbox::CAPACITY as u64,
        depth: mailbox.depth(),
        refused: mailbox.refused(),
        p50_us: latency_quantile_us(&latency, 0.5),
        p99_us: latency_quantile_us(&latency, 0.99),
    }
}

fn view(
    upstream: &Upstream,
    counted: Option<&UpstreamTotals>,
    of_endpoints: &[EndpointTotals],
) -> UpstreamView {
    let now = Instant::now();
    let shown = upstream.view.load();
    // What the actor has shown is of one instant. Before it has, there is only what shards go by.
    let latest = upstream.snapshot.load_full();
    let of_this_actor = shown.as_ref().filter(|view| view.snapshot.incarnation == latest.incarnation);
    let snapshot = of_this_actor.map_or(latest, |view| Arc::clone(&view.snapshot));
    let leases = upstream.leases.view();
    let breaker = |address: SocketAddr| {
        let shown = shown.as_ref()?;
        shown.endpoints.iter().find(|(of, _)| *of == address).map(|(_, view)| view)
    };
    let latency = counted.map(|totals| totals.latency_of_all().sparse()).unwrap_or_default();
    let endpoints = match upstream.key {
        Key::Service(_) => snapshot
            .endpoints
            .iter()
            .map(|state| {
                let totals = of_endpoints.iter().find(|totals| totals.address == state.address);
                endpoint(Some(state), breaker(state.address), state.address.to_string(), totals, now)
            })
            .collect(),
        // The app is its own port's one endpoint, and no directory lists it.
        Key::AppPort(_) => of_endpoints
            .iter()
            .map(|totals| endpoint(None, None, totals.address.to_string(), Some(totals), now))
            .collect(),
    };
    UpstreamView {
        name: upstream.key.to_string(),
        side: upstream.key.side().label().to_owned(),
        generation: snapshot.generation,
        incarnation: snapshot.incarnation,
        limit: leases.limit,
        in_use: leases.in_use,
        leased_idle: leases.idle,
        endpoints,
        requests: counted.map_or(0, |totals| totals.requests),
        failures: counted.map_or(0, |totals| totals.failures),
        refusals: counted.map_or(0, |totals| totals.refusals),
        redispatches: counted.map_or(0, |totals| totals.redispatches),
        p50_us: latency_quantile_us(&latency, 0.5),
        p95_us: latency_quantile_us(&latency, 0.95),
        p99_us: latency_quantile_us(&latency, 0.99),
        retries: counted.map_or(0, |totals| totals.retries),
        retries_refused: counted.map_or(0, |totals| totals.retries_refused),
        without_context: counted.map_or(0, |totals| totals.without_context),
        actor: shown.as_ref().map(|view| actor_view(view, leases.limit, now)),
        panic: snapshot.panic.clone(),
        mailbox: Some(mailbox_view(&upstream.mailbox)),
        detected: Vec::new(),
    }
}

/// A word, why, and until when.
fn standing(state: Option<&EndpointState>) -> (&'static str, Option<String>, Option<Instant>) {
    let Some(state) = state else { return ("Healthy", None, None) };
    match (&state.health, &state.unwell, &state.breaker) {
        (Health::Ejected { until, cause }, ..) => ("Ejected", Some(cause.clone()), Some(*until)),
        (Health::Trial { cause }, ..) => ("Trial", Some(cause.clone()), None),
        (Health::Healthy, Some((_, why)), _) => ("Unwell", Some(why.clone()), None),
        (Health::Healthy, None, Some(breaker)) if breaker.position != Position::Closed => {
            let until = match breaker.position {
                Position::Open { until } => Some(until),
                Position::Closed | Position::HalfOpen => None,
            };
            (breaker.position.word(), Some(breaker.cause().to_string()), until)
        }
        (Health::Healthy, None, _) => ("Healthy", None, None),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn breaker_view(view: &breaker::View, now: Instant) -> BreakerView {
    BreakerView {
        state: view.position.word().to_owned(),
        since_ms: ms(now.saturating_duration_since(view.since)),
        cause: view.cause.clone(),
        next_probe_in_ms: view.next_probe_at.map(|at| ms(at.saturating_duration_since(now))),
        requests: view.counts.requests(),
        failures: view.counts.failures,
        slow: view.counts.slow,
        failures_in_a_row: view.failures_in_a_row,
    }
}

fn actor_view(view: &View, limit: u32, now: Instant) -> ActorView {
    let since = now.saturating_duration_since(view.at);
    let waiting = |name: &str, depth: usize, oldest: Option<Duration>| WaitingView {
        name: name.to_owned(),
        depth: depth as u64,
        oldest_ms: oldest.map(|oldest| ms(oldest + since)),
    };
    let (queue, limiter, budget) = (&view.queue, &view.limiter, &view.budget);
    ActorView {
        limit: LimitView {
            algorithm: match limiter.algorithm {
                ConcurrencyAlgorithm::Fixed => "Fixed",
                ConcurrencyAlgorithm::Aimd => "AIMD",
                ConcurrencyAlgorithm::Gradient => "Gradient",
            }
            .to_owned(),
            limit,
            latency_us: limiter.latency.map(us),
            least_latency_us: limiter.least.map(us),
            is_learning: limiter.phase == Phase::Dip,
        },
        queue: QueueView {
            depth: queue.depth as u64,
            depth_max: queue.depth_max as u64,
            oldest_ms: queue.oldest.map(|oldest| ms(oldest + since)),
            admitted: queue.counters.admitted,
            dispatched: queue.counters.dispatched,
            shed: queue.counters.shed.total() + queue.counters.cancelled,
            cancelled: queue.counters.cancelled,
            refused: queue.counters.refused.total(),
            classes: queue.classes.iter().map(|of| waiting(&of.name, of.depth, of.oldest)).collect(),
            peers: queue.peers.iter().map(|of| waiting(&of.peer.0, of.depth, Some(of.oldest))).collect(),
        },
        budget: BudgetView {
            left: budget.left,
            of: budget.of,
            retries: budget.retries,
            requests: budget.requests,
        },
        breaker: view.breaker.as_ref().map(|breaker| breaker_view(breaker, now)),
    }
}

fn endpoint(
    state: Option<&EndpointState>,
    breaker: Option<&breaker::View>,
    address: String,
    totals: Option<&EndpointTotals>,
    now: Instant,
) -> EndpointView {
    let (word, cause, until) = standing(state);
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    EndpointView {
        address,
        sidecar: state.map(|state| state.sidecar.clone()),
        state: word.to_owned(),
        cause,
        breaker: breaker.map(|view| breaker_view(view, now)),
        retry_in_ms: until.map(|until| ms(until.saturating_duration_since(now))),
        connections: totals.map_or(0, |totals| small(totals.connections)),
        in_flight: totals.map_or(0, |totals| small(totals.in_flight)),
        requests: totals.map_or(0, |totals| totals.requests),
        ewma_us: totals.map_or(0, |totals| totals.ewma_us),
    }
}
