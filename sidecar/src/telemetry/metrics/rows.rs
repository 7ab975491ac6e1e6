//! A scrape as rows of each family, folded to their bound.

use outrider_shared::session::{ActorView, LATENCY_BUCKETS, UpstreamView, latency_bucket_us};

use super::families::{self as name, Family, Kind};
use super::{MailboxTotals, SERIES_MAX, Scrape, Session};
use crate::leg::pump::room::RoomView;
use crate::stats::{HistogramTotals, LabelTotals, ListenerTotals, OTHER, PeerTotals, Side, UpstreamTotals};

/// Values of the family's labels, in its order, and what is measured.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub labels: Vec<String>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Counter(u64),
    Gauge(f64),
    Histogram(Box<HistogramTotals>),
}

type Rows = (&'static Family, Vec<Row>);

/// Bounds that are shown, of the report's buckets: every doubling from 128 us to 16.8 s, 18 of them. Each shown bound is
/// one of the finer buckets' own, so the counts are exact.
const OCTAVE: usize = 4;
const FIRST_SHOWN: usize = OCTAVE;
const SHOWN: usize = 18;
/// Lines that a histogram takes for each label set: its buckets, `+Inf`, sum and count.
const HISTOGRAM_LINES: usize = SHOWN + 3;

/// Adding up is the library's, so each bucket here holds only what the ones before it do not.
pub(super) fn buckets(histogram: &HistogramTotals) -> Vec<(f64, u64)> {
    let mut shown = Vec::with_capacity(SHOWN + 1);
    let mut from = 0;
    for last in (FIRST_SHOWN..LATENCY_BUCKETS).step_by(OCTAVE).take(SHOWN) {
        let bound = latency_bucket_us(u16::try_from(last).expect("fewer than 100 buckets"));
        shown.push((seconds(bound), histogram.counts[from..=last].iter().sum()));
        from = last + 1;
    }
    shown.push((f64::INFINITY, histogram.counts[from..].iter().sum()));
    shown
}

/// Precise to the microsecond for 285 years.
#[allow(clippy::cast_precision_loss)]
pub(super) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Exact to 2^53, more than any level here.
#[allow(clippy::cast_precision_loss)]
fn level(n: u64) -> Value {
    Value::Gauge(n as f64)
}

/// Exact for every date that a certificate can name.
#[allow(clippy::cast_precision_loss)]
fn timestamp(unix_s: i64) -> Value {
    Value::Gauge(unix_s as f64)
}

fn row<const N: usize>(labels: [&str; N], value: Value) -> Row {
    Row { labels: labels.map(str::to_owned).to_vec(), value }
}

/// Every family that has rows, in the order of the page.
pub(super) fn of(scrape: &Scrape) -> Vec<Rows> {
    let mut page = vec![
        (&name::SERVER_DURATION, server_durations(&scrape.service, &scrape.peers)),
        (&name::CLIENT_DURATION, client_durations(&scrape.upstreams)),
    ];
    page.extend(of_peers(scrape));
    page.extend(of_shards(scrape));
    page.extend(of_upstreams(&scrape.upstreams));
    page.extend(of_actors(&scrape.upstream_views));
    page.extend(of_views(&scrape.upstream_views));
    page.extend(of_mailboxes(&scrape.mailboxes));
    page.extend(of_kept(scrape.kept));
    page.extend(of_process(scrape));

    let mut folded = Vec::new();
    for (family, rows) in &mut page {
        let sets = fold(family, rows, SERIES_MAX);
        if sets > 0 {
            folded.push(row([family.name], level(sets)));
        }
    }
    page.push((&name::FOLDED, folded));
    page.retain(|(_, rows)| !rows.is_empty());
    page
}

/// Keeps the first rows and adds the rest up into one whose labels are all [`OTHER`]; returns how many those were. Rows
/// come in the order in which they began, so that one which is shown stays shown.
pub(super) fn fold(family: &Family, rows: &mut Vec<Row>, series_max: usize) -> u64 {
    let lines = if family.kind == Kind::Histogram { HISTOGRAM_LINES } else { 1 };
    let sets_max = series_max / lines;
    if rows.len() <= sets_max {
        return 0;
    }
    let rest = rows.split_off(sets_max.saturating_sub(1));
    let count = rest.len();
    let sum = rest.into_iter().map(|row| row.value).reduce(add);
    rows.extend(sum.map(|value| Row { labels: vec![OTHER.to_owned(); family.labels.len()], value }));
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn add(left: Value, right: Value) -> Value {
    match (left, right) {
        (Value::Counter(left), Value::Counter(right)) => Value::Counter(left.saturating_add(right)),
        (Value::Gauge(left), Value::Gauge(right)) => Value::Gauge(left + right),
        (Value::Histogram(mut left), Value::Histogram(right)) => {
            left.add(&right);
            Value::Histogram(left)
        }
        (kept @ (Value::Counter(_) | Value::Gauge(_) | Value::Histogram(_)), _) => {
            debug_assert!(false, "a family has values of one kind");
            kept
        }
    }
}

fn server_durations(service: &str, peers: &[PeerTotals]) -> Vec<Row> {
    let mut sets: Vec<_> =
        peers.iter().flat_map(|peer| peer.latency.iter().map(move |class| (peer, class))).collect();
    sets.sort_by_key(|(_, class)| class.sequence);
    sets.into_iter()
        .map(|(peer, class)| {
            let value = Value::Histogram(Box::new(class.latency.clone()));
            row([service, &peer.port.to_string(), &peer.peer, class.class.label()], value)
        })
        .collect()
}

/// The outbound side alone: what the app was asked for is a server's duration.
fn client_durations(upstreams: &[UpstreamTotals]) -> Vec<Row> {
    let outbound = upstreams.iter().filter(|upstream| upstream.side == Side::Outbound);
    let mut sets: Vec<_> = outbound.flat_map(|of| of.latency.iter().map(move |class| (of, class))).collect();
    sets.sort_by_key(|(_, class)| class.sequence);
    sets.into_iter()
        .map(|(upstream, class)| {
            let value = Value::Histogram(Box::new(class.latency.clone()));
            row([&upstream.name, class.class.label()], value)
        })
        .collect()
}

fn of_peers(scrape: &Scrape) -> [Rows; 3] {
    let each = |value: fn(&PeerTotals) -> u64| {
        let of = |peer: &PeerTotals| {
            row([&scrape.service, &peer.port.to_string(), &peer.peer], Value::Counter(value(peer)))
        };
        scrape.peers.iter().map(of).collect()
    };
    [
        (&name::REQUESTS, each(|peer| peer.requests)),
        (&name::REQUEST_BYTES, each(|peer| peer.bytes_received)),
        (&name::RESPONSE_BYTES, each(|peer| peer.bytes_sent)),
    ]
}

fn of_shards(scrape: &Scrape) -> [Rows; 14] {
    let shards = &scrape.shards;
    let labelled = |counts: &[LabelTotals]| -> Vec<Row> {
        counts.iter().map(|of| row([&of.label], Value::Counter(of.count))).collect()
    };
    let paired = |first: &str, counts: &[LabelTotals]| -> Vec<Row> {
        counts.iter().map(|of| row([first, &of.label], Value::Counter(of.count))).collect()
    };
    let listeners = |value: fn(&ListenerTotals) -> Value| {
        shards.listeners.iter().map(|of| row([of.listener.label()], value(of))).collect()
    };
    let mut refused = paired(Side::Inbound.label(), &shards.refusals_inbound);
    refused.extend(paired(Side::Outbound.label(), &shards.refusals_outbound));
    let mut malformed = paired("request", &shards.malformed_requests);
    malformed.extend(paired("answer", &shards.malformed_answers));
    let mut ahead = paired(Side::Inbound.label(), &shards.ahead_inbound);
    ahead.extend(paired(Side::Outbound.label(), &shards.ahead_outbound));
    let detected = shards.detected.iter();
    let detected = detected.map(|of| row([&of.port, of.found.label()], Value::Counter(of.count))).collect();
    [
        (&name::REFUSALS, refused),
        (&name::MALFORMED, malformed),
        (&name::TLS_FAILURES, labelled(&shards.tls_handshake_failures)),
        (&name::EDGE_TLS_FAILURES, labelled(&shards.edge_handshake_failures)),
        (&name::ALLOWED_BY_DEFAULT, vec![row([], Value::Counter(shards.allowed_by_default))]),
        (&name::AUDIT_MATCHES, labelled(&shards.audit_matches)),
        (&name::DETECTED, detected),
        (&name::TUNNELS_AHEAD, ahead),
        (&name::CONNECTIONS_OPEN, listeners(|of| level(of.open))),
        (&name::CONNECTIONS_ACCEPTED, listeners(|of| Value::Counter(of.accepted))),
        (
            &name::CONNECTIONS_CUT,
            vec![
                row(["per_address"], Value::Counter(scrape.refused_by_address)),
                row(["reset_flood"], Value::Counter(shards.reset_floods)),
            ],
        ),
        (&name::HEALTH_CHECKS, labelled(&shards.health_checks)),
        (&name::OVERLOAD_LEVEL, vec![row([], level(shards.overload_level.into()))]),
        (
            &name::OVERLOAD_PRESSURE,
            shards.pressures.iter().map(|(of, used)| row([of.label()], Value::Gauge(*used))).collect(),
        ),
    ]
}

fn of_upstreams(upstreams: &[UpstreamTotals]) -> [Rows; 8] {
    let each = |value: fn(&UpstreamTotals) -> Value| {
        upstreams.iter().map(|of| row([of.side.label(), &of.name], value(of))).collect()
    };
    [
        (&name::IN_FLIGHT, each(|of| level(of.in_flight))),
        (&name::UPSTREAM_FAILURES, each(|of| Value::Counter(of.failures))),
        (&name::UPSTREAM_REFUSALS, each(|of| Value::Counter(of.refusals))),
        (&name::REDISPATCHES, each(|of| Value::Counter(of.redispatches))),
        (&name::RETRIES, each(|of| Value::Counter(of.retries))),
        (&name::RETRIES_REFUSED, each(|of| Value::Counter(of.retries_refused))),
        (&name::WITHOUT_CONTEXT, each(|of| Value::Counter(of.without_context))),
        (&name::TUNNELS_OPEN, each(|of| level(of.tunnels))),
    ]
}

/// What the actors say.
fn of_actors(views: &[UpstreamView]) -> [Rows; 6] {
    fn each<'v>(
        views: &'v [UpstreamView],
        rows: impl Fn(&'v UpstreamView, &'v ActorView) -> Vec<Row>,
    ) -> Vec<Row> {
        views.iter().filter_map(|view| Some(rows(view, view.actor.as_ref()?))).flatten().collect()
    }
    let of = |view: &UpstreamView, value| row([&view.side, &view.name], value);
    let breakers = |view: &UpstreamView, actor: &ActorView| {
        let all = view.endpoints.iter().filter_map(|endpoint| endpoint.breaker.as_ref());
        let all: Vec<&str> = all.chain(actor.breaker.as_ref()).map(|of| of.state.as_str()).collect();
        [("closed", "Closed"), ("open", "Open"), ("half_open", "HalfOpen")]
            .map(|(label, state)| {
                let count = all.iter().filter(|of| **of == state).count();
                row([&view.side, &view.name, label], level(count as u64))
            })
            .to_vec()
    };
    let outcomes = |view: &UpstreamView, ActorView { queue, .. }: &ActorView| {
        [
            ("dispatched", queue.dispatched),
            ("shed", queue.shed.saturating_sub(queue.cancelled)),
            ("refused", queue.refused),
            ("cancelled", queue.cancelled),
        ]
        .map(|(outcome, count)| row([&view.side, &view.name, outcome], Value::Counter(count)))
        .to_vec()
    };
    let depths = |view: &UpstreamView, actor: &ActorView| {
        let classes = actor.queue.classes.iter();
        classes.map(|class| row([&view.side, &view.name, &class.name], level(class.depth))).collect()
    };
    let oldest = |view: &UpstreamView, actor: &ActorView| {
        vec![of(view, Value::Gauge(seconds(actor.queue.oldest_ms.unwrap_or(0) * 1_000)))]
    };
    [
        (&name::BUDGET_LEFT, each(views, |view, actor| vec![of(view, level(actor.budget.left))])),
        (&name::BREAKER, each(views, breakers)),
        (&name::PANIC, views.iter().map(|view| of(view, level(view.panic.is_some().into()))).collect()),
        (&name::QUEUE_DEPTH, each(views, depths)),
        (&name::QUEUE_OLDEST, each(views, oldest)),
        (&name::QUEUE_OUTCOMES, each(views, outcomes)),
    ]
}

fn of_views(views: &[UpstreamView]) -> [Rows; 4] {
    let each = |value: fn(&UpstreamView) -> u64| {
        views.iter().map(|view| row([&view.side, &view.name], level(value(view)))).collect()
    };
    let endpoints = |view: &UpstreamView| {
        let ejected = view
            .endpoints
            .iter()
            .filter(|endpoint| matches!(endpoint.state.as_str(), "Ejected" | "Unwell" | "Open" | "HalfOpen"))
            .count();
        [("healthy", view.endpoints.len() - ejected), ("ejected", ejected)].map(|(state, count)| {
            row([&view.side, &view.name, state], level(u64::try_from(count).unwrap_or(u64::MAX)))
        })
    };
    [
        (&name::ENDPOINTS, views.iter().flat_map(endpoints).collect()),
        (&name::PERMITS_LIMIT, each(|view| view.limit.into())),
        (&name::PERMITS_IN_USE, each(|view| view.in_use.into())),
        (&name::INCARNATION, each(|view| view.incarnation)),
    ]
}

fn of_kept(kept: RoomView) -> [Rows; 3] {
    let not_kept = [("no_room", kept.no_room), ("too_long", kept.too_long)];
    [
        (&name::KEPT_BYTES, vec![row([], level(kept.bytes))]),
        (&name::KEPT_BYTES_LIMIT, vec![row([], level(kept.bytes_max))]),
        (
            &name::BODIES_NOT_KEPT,
            not_kept.map(|(reason, count)| row([reason], Value::Counter(count))).to_vec(),
        ),
    ]
}

fn of_mailboxes(mailboxes: &[MailboxTotals]) -> [Rows; 3] {
    let each = |value: fn(&MailboxTotals) -> Value| {
        let labels = |of: &MailboxTotals| match &of.upstream {
            Some((side, name)) => ["upstream".to_owned(), side.label().to_owned(), name.clone()],
            None => ["supervisor".to_owned(), String::new(), String::new()],
        };
        mailboxes.iter().map(|of| row(labels(of).each_ref().map(String::as_str), value(of))).collect()
    };
    [
        (&name::MAILBOX_CAPACITY, each(|of| level(of.capacity))),
        (&name::MAILBOX_DEPTH, each(|of| level(of.depth))),
        (&name::MESSAGE_LATENCY, each(|of| Value::Histogram(Box::new(of.latency.clone())))),
    ]
}

fn of_process(scrape: &Scrape) -> Vec<Rows> {
    let actors = |value: fn(&super::ActorCounts) -> u64| -> Vec<Row> {
        scrape.actors.iter().map(|of| row([of.actor], Value::Counter(value(of)))).collect()
    };
    let mut families: Vec<Rows> = vec![
        (&name::ACTOR_RESTARTS, actors(|of| of.restarts)),
        (&name::MAILBOX_FULL, actors(|of| of.mailbox_full)),
    ];
    if let Some(leaf) = &scrape.leaf {
        let identity = leaf.identity.as_str();
        families.push((&name::NOT_BEFORE, vec![row([identity], timestamp(leaf.not_before_unix_s))]));
        families.push((&name::NOT_AFTER, vec![row([identity], timestamp(leaf.not_after_unix_s))]));
    }
    let ends = scrape.edge_certificates.iter().map(|of| row([&of.name], timestamp(of.not_after_unix_s)));
    families.push((&name::EDGE_CERTIFICATE_NOT_AFTER, ends.collect()));
    let reads = scrape.edge_certificates.iter().flat_map(|of| {
        [("loaded", of.loaded), ("refused", of.refused)]
            .map(|(outcome, count)| row([&of.name, outcome], Value::Counter(count)))
    });
    families.push((&name::EDGE_CERTIFICATE_READS, reads.collect()));
    if let Some(snapshot) = scrape.snapshot {
        families.push((&name::SNAPSHOT_EPOCH, vec![row([], level(snapshot.version.epoch))]));
        families.push((&name::SNAPSHOT_SEQUENCE, vec![row([], level(snapshot.version.sequence))]));
        let staleness = Value::Gauge(snapshot.staleness.as_secs_f64());
        families.push((&name::SNAPSHOT_STALENESS, vec![row([], staleness)]));
    }
    let connected = match scrape.session {
        Session::Connected => 1,
        Session::Disconnected => 0,
    };
    families.push((&name::SESSION, vec![row([], level(connected))]));
    families.push((&name::SPANS_EXPORTED, vec![row([], Value::Counter(scrape.traces.exported))]));
    let dropped = [
        row(["queue_full"], Value::Counter(scrape.traces.dropped_queue_full)),
        row(["export_failed"], Value::Counter(scrape.traces.dropped_export_failed)),
    ];
    families.push((&name::SPANS_DROPPED, dropped.to_vec()));
    families
}
