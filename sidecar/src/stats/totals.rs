//! The sums over shards, as plain values.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use outrider_shared::session::{InboundTotals, LATENCY_BUCKETS};

use super::registry::Held;
use super::{
    AnswerClass, ClassHistograms, EndpointShardStats, Found, InboundPeerStats, LabelledCounters,
    LatencyHistogram, Listener, OTHER, ProcessStats, ShardStats, Side, UpstreamShardStats,
};
use crate::overload::machine::Resource;

/// A histogram summed over shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistogramTotals {
    /// One for each of [`outrider_shared::session::latency_bucket_us`]'s buckets.
    pub counts: [u64; LATENCY_BUCKETS],
    pub sum_us: u64,
}

impl Default for HistogramTotals {
    fn default() -> Self {
        Self { counts: [0; LATENCY_BUCKETS], sum_us: 0 }
    }
}

impl HistogramTotals {
    /// Of one that is not of a shard.
    pub fn of(one: &LatencyHistogram) -> Self {
        let mut totals = Self::default();
        totals.add_shard(one);
        totals
    }
    fn add_shard(&mut self, of_shard: &LatencyHistogram) {
        for (sum, n) in self.counts.iter_mut().zip(of_shard.counts()) {
            *sum += n;
        }
        self.sum_us = self.sum_us.saturating_add(of_shard.sum_us());
    }
    pub fn add(&mut self, other: &Self) {
        for (sum, n) in self.counts.iter_mut().zip(&other.counts) {
            *sum += n;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
    /// As reports carry it: buckets that hold something.
    pub fn sparse(&self) -> Vec<(u16, u64)> {
        (0_u16..).zip(self.counts).filter(|(_, n)| *n > 0).collect()
    }
}

/// Durations of the requests that ended in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassTotals {
    pub class: AnswerClass,
    /// Grows with the time at which the first of them was counted: see [`LatencyHistogram`].
    pub sequence: u64,
    pub latency: HistogramTotals,
}

/// A label and its count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelTotals {
    pub label: String,
    pub count: u64,
}

/// Connections of one kind of listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerTotals {
    pub listener: Listener,
    pub accepted: u64,
    pub open: u64,
}

/// Everything in [`ShardStats`] and [`ProcessStats`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShardTotals {
    pub listeners: Vec<ListenerTotals>,
    pub refusals_inbound: Vec<LabelTotals>,
    pub refusals_outbound: Vec<LabelTotals>,
    pub tls_handshake_failures: Vec<LabelTotals>,
    pub edge_handshake_failures: Vec<LabelTotals>,
    pub reset_floods: u64,
    pub malformed_requests: Vec<LabelTotals>,
    pub malformed_answers: Vec<LabelTotals>,
    pub plaintext_sources: Vec<LabelTotals>,
    pub allowed_by_default: u64,
    pub audit_matches: Vec<LabelTotals>,
    pub detected: Vec<DetectedTotals>,
    pub ahead_inbound: Vec<LabelTotals>,
    pub ahead_outbound: Vec<LabelTotals>,
    pub health_checks: Vec<LabelTotals>,
    pub overload_level: u8,
    pub pressures: Vec<(Resource, f64)>,
}

/// What was found out about connections to one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectedTotals {
    pub found: Found,
    /// `namespace/name:port`.
    pub port: String,
    pub count: u64,
}

/// Everything in [`InboundPeerStats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTotals {
    pub port: u16,
    pub peer: String,
    pub mtls: bool,
    pub requests: u64,
    pub refusals: u64,
    pub failures: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub latency: Vec<ClassTotals>,
}

/// Everything in [`UpstreamShardStats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTotals {
    pub side: Side,
    pub name: String,
    pub requests: u64,
    pub failures: u64,
    pub refusals: u64,
    pub redispatches: u64,
    pub retries: u64,
    pub retries_refused: u64,
    pub without_context: u64,
    pub tunnels: u64,
    pub in_flight: u64,
    pub latency: Vec<ClassTotals>,
}

impl UpstreamTotals {
    /// Of all requests, however they ended.
    pub fn latency_of_all(&self) -> HistogramTotals {
        sum_of_classes(&self.latency)
    }
}

/// Everything in [`EndpointShardStats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointTotals {
    pub upstream: String,
    pub address: SocketAddr,
    pub requests: u64,
    pub failures: u64,
    pub connect_failures: u64,
    pub connections: u64,
    pub in_flight: u64,
    /// The highest of all shards.
    pub ewma_us: u64,
}

fn sum_of_classes(classes: &[ClassTotals]) -> HistogramTotals {
    let mut all = HistogramTotals::default();
    for of_class in classes {
        all.add(&of_class.latency);
    }
    all
}

fn add_classes(into: &mut Vec<ClassTotals>, of_shard: &ClassHistograms) {
    for (class, histogram) in of_shard.each() {
        let at = into.iter().position(|known| known.class == class).unwrap_or_else(|| {
            into.push(ClassTotals { class, sequence: u64::MAX, latency: HistogramTotals::default() });
            into.len() - 1
        });
        into[at].sequence = into[at].sequence.min(histogram.sequence());
        into[at].latency.add_shard(histogram);
    }
}

fn add_labels(into: &mut Vec<LabelTotals>, of_shard: &LabelledCounters) {
    for (label, count) in of_shard.counts() {
        match into.iter_mut().find(|known| known.label == label) {
            Some(known) => known.count += count,
            None => into.push(LabelTotals { label: label.to_owned(), count }),
        }
    }
}

/// Rows by key, in the order in which the keys first came.
fn merge<K: Eq + Hash, S, T>(
    all: impl IntoIterator<Item = (K, S)>,
    empty: impl Fn(&K) -> T,
    add: impl Fn(&mut T, &S),
) -> Vec<T> {
    let mut rows = Vec::new();
    let mut index = HashMap::new();
    for (key, stats) in all {
        let row = empty(&key);
        let at = *index.entry(key).or_insert_with(|| {
            rows.push(row);
            rows.len() - 1
        });
        add(&mut rows[at], &stats);
    }
    rows
}

pub(super) fn of_shards(shards: &[Arc<CachePadded<ShardStats>>], process: &ProcessStats) -> ShardTotals {
    let mut totals = ShardTotals {
        overload_level: process.overload.level(),
        pressures: process.overload.pressures().collect(),
        ..ShardTotals::default()
    };
    add_labels(&mut totals.health_checks, &process.health_checks);
    for listener in Listener::ALL {
        let accepted = shards.iter().map(|shard| shard.accepted(listener)).sum();
        let open = shards.iter().map(|shard| shard.open(listener)).sum();
        totals.listeners.push(ListenerTotals { listener, accepted, open });
    }
    for shard in shards {
        add_labels(&mut totals.refusals_inbound, shard.refusals(Side::Inbound));
        add_labels(&mut totals.refusals_outbound, shard.refusals(Side::Outbound));
        add_labels(&mut totals.tls_handshake_failures, &shard.tls_handshake_failures);
        add_labels(&mut totals.edge_handshake_failures, &shard.edge_handshake_failures);
        totals.reset_floods += shard.reset_floods.get();
        add_labels(&mut totals.malformed_requests, &shard.malformed_requests);
        add_labels(&mut totals.malformed_answers, &shard.malformed_answers);
        add_labels(&mut totals.plaintext_sources, &shard.plaintext_sources);
        totals.allowed_by_default += shard.allowed_by_default.get();
        add_labels(&mut totals.audit_matches, &shard.audit_matches);
        add_labels(&mut totals.ahead_inbound, shard.ahead(Side::Inbound));
        add_labels(&mut totals.ahead_outbound, shard.ahead(Side::Outbound));
    }
    for found in Found::ALL {
        let mut ports = Vec::new();
        for shard in shards {
            add_labels(&mut ports, shard.detected(found));
        }
        let row = |of: LabelTotals| DetectedTotals { found, port: of.label, count: of.count };
        totals.detected.extend(ports.into_iter().map(row));
    }
    totals
}

pub(super) fn of_peers(peers: &[Arc<CachePadded<InboundPeerStats>>]) -> Vec<PeerTotals> {
    merge(
        peers.iter().map(|stats| ((stats.port, &*stats.peer, stats.mtls), stats)),
        |&(port, peer, mtls)| PeerTotals {
            port,
            peer: peer.to_owned(),
            mtls,
            requests: 0,
            refusals: 0,
            failures: 0,
            bytes_received: 0,
            bytes_sent: 0,
            latency: Vec::new(),
        },
        |row, stats| {
            row.requests += stats.requests.get();
            row.refusals += stats.refusals.get();
            row.failures += stats.failures.get();
            row.bytes_received += stats.bytes_received.get();
            row.bytes_sent += stats.bytes_sent.get();
            add_classes(&mut row.latency, &stats.latency);
        },
    )
}

pub(super) fn of_upstreams(all: Vec<Held<(Side, Arc<str>), UpstreamShardStats>>) -> Vec<UpstreamTotals> {
    merge(
        all.into_iter().map(|held| (held.key, held.stats)),
        |(side, name)| UpstreamTotals {
            side: *side,
            name: name.to_string(),
            requests: 0,
            failures: 0,
            refusals: 0,
            redispatches: 0,
            retries: 0,
            retries_refused: 0,
            without_context: 0,
            tunnels: 0,
            in_flight: 0,
            latency: Vec::new(),
        },
        |row, stats| {
            row.requests += stats.requests.get();
            row.failures += stats.failures.get();
            row.refusals += stats.refusals.get();
            row.redispatches += stats.redispatches.get();
            row.retries += stats.retries.get();
            row.retries_refused += stats.retries_refused.get();
            row.without_context += stats.without_context.get();
            row.tunnels += stats.tunnels.get();
            row.in_flight += stats.in_flight.get();
            add_classes(&mut row.latency, &stats.latency);
        },
    )
}

pub(super) fn of_endpoints(
    all: Vec<Held<(Arc<str>, SocketAddr), EndpointShardStats>>,
) -> Vec<EndpointTotals> {
    merge(
        all.into_iter().map(|held| (held.key, held.stats)),
        |(upstream, address)| EndpointTotals {
            upstream: upstream.to_string(),
            address: *address,
            requests: 0,
            failures: 0,
            connect_failures: 0,
            connections: 0,
            in_flight: 0,
            ewma_us: 0,
        },
        |row, stats| {
            row.requests += stats.requests.get();
            row.failures += stats.failures.get();
            row.connect_failures += stats.connect_failures.get();
            row.connections += stats.connections.get();
            row.in_flight += stats.in_flight.get();
            row.ewma_us = row.ewma_us.max(stats.ewma_us.get());
        },
    )
}

/// At most `rows_max` rows: the first ones stay as they are, so that each row only ever grows; the rest becomes one row of
/// the peer [`OTHER`] and port 0.
pub(super) fn report_rows(peers: Vec<PeerTotals>, rows_max: usize) -> Vec<InboundTotals> {
    let kept = if peers.len() > rows_max { rows_max.saturating_sub(1) } else { peers.len() };
    let mut rows: Vec<InboundTotals> = Vec::with_capacity(peers.len().min(rows_max));
    let mut rest = HistogramTotals::default();
    for (at, totals) in peers.into_iter().enumerate() {
        let latency = sum_of_classes(&totals.latency);
        if at < kept {
            rows.push(InboundTotals {
                port: totals.port,
                peer: totals.peer,
                mtls: totals.mtls,
                requests: totals.requests,
                refusals: totals.refusals,
                failures: totals.failures,
                bytes_received: totals.bytes_received,
                bytes_sent: totals.bytes_sent,
                latency: latency.sparse(),
            });
            continue;
        }
        if at == kept {
            rows.push(InboundTotals { peer: OTHER.to_owned(), ..InboundTotals::default() });
        }
        let row = rows.last_mut().expect("the row for the rest was pushed at the first of them");
        row.requests += totals.requests;
        row.refusals += totals.refusals;
        row.failures += totals.failures;
        row.bytes_received += totals.bytes_received;
        row.bytes_sent += totals.bytes_sent;
        rest.add(&latency);
        row.latency = rest.sparse();
    }
    rows
}
