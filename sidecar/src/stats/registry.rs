//! Where shards' numbers are found again; locked at registration and at a scrape, never by a request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crossbeam_utils::CachePadded;
use outrider_shared::session::{InboundTotals, REPORT_ROWS_MAX};

use super::totals::{self, EndpointTotals, PeerTotals, ShardTotals, UpstreamTotals};
use super::{
    Beat, EndpointShardStats, InboundPeerStats, Listener, ProcessStats, ShardStats, Side, UpstreamShardStats,
};

/// All numbers of a process.
#[derive(Debug, Default)]
pub struct StatsRegistry {
    /// Read without the lock.
    pub process: ProcessStats,
    registered: Mutex<Registered>,
}

#[derive(Debug, Default)]
struct Registered {
    shards: Vec<Arc<CachePadded<ShardStats>>>,
    /// Kept for the life of the process, since reports are cumulative; bounded by
    /// [`PEERS_MAX`](super::PEERS_MAX) a shard, and one more for each port.
    peers: Vec<Arc<CachePadded<InboundPeerStats>>>,
    upstreams: Vec<Registration<(Side, Arc<str>), UpstreamShardStats>>,
    endpoints: Vec<Registration<(Arc<str>, SocketAddr), EndpointShardStats>>,
}

/// Something that a shard counts for as long as it holds it.
#[derive(Debug)]
struct Registration<K, S> {
    shard: usize,
    key: K,
    stats: Weak<CachePadded<S>>,
}

/// A [`Registration`] that someone still holds.
#[derive(Debug)]
pub(super) struct Held<K, S> {
    pub key: K,
    pub stats: Arc<CachePadded<S>>,
}

impl StatsRegistry {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Numbers are whole at any moment, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Registered> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_shard(&self) -> (usize, Arc<CachePadded<ShardStats>>) {
        let mut registered = self.lock();
        let stats = Arc::<CachePadded<ShardStats>>::default();
        registered.shards.push(Arc::clone(&stats));
        (registered.shards.len() - 1, stats)
    }

    pub(super) fn add_peer(&self, stats: Arc<CachePadded<InboundPeerStats>>) {
        self.lock().peers.push(stats);
    }

    pub(super) fn upstream(
        &self,
        shard: usize,
        side: Side,
        name: &str,
    ) -> Arc<CachePadded<UpstreamShardStats>> {
        let mut registered = self.lock();
        find_or_add(
            &mut registered.upstreams,
            shard,
            |key| key.0 == side && &*key.1 == name,
            || (side, name.into()),
        )
    }

    pub(super) fn endpoint(
        &self,
        shard: usize,
        upstream: &str,
        address: SocketAddr,
    ) -> Arc<CachePadded<EndpointShardStats>> {
        let mut registered = self.lock();
        find_or_add(
            &mut registered.endpoints,
            shard,
            |key| key.1 == address && &*key.0 == upstream,
            || (upstream.into(), address),
        )
    }

    /// Requests that have not ended, of all shards.
    pub fn in_flight(&self) -> u64 {
        self.lock().shards.iter().map(|shard| shard.in_flight.get()).sum()
    }

    /// Whether anything that came in for the app is under way: requests, streams and tunnels.
    pub fn serves_app(&self) -> bool {
        let busy = |stats: &UpstreamShardStats| {
            [&stats.in_flight, &stats.streaming, &stats.tunnels].iter().any(|of| of.get() > 0)
        };
        let of_app = |registered: &&Registration<(Side, Arc<str>), UpstreamShardStats>| {
            registered.key.0 == Side::Inbound
        };
        self.lock()
            .upstreams
            .iter()
            .filter(of_app)
            .any(|of| of.stats.upgrade().is_some_and(|stats| busy(&stats)))
    }

    /// Descriptors of connections, as far as they are counted: those that were accepted, those to endpoints, and one to
    /// the app for each request under way.
    pub fn open_connections(&self) -> u64 {
        let registered = self.lock();
        let accepted = registered.shards.iter().map(|shard| {
            Listener::ALL.iter().map(|listener| shard.open(*listener)).sum::<u64>() + shard.in_flight.get()
        });
        let endpoints = registered.endpoints.iter().filter_map(|endpoint| endpoint.stats.upgrade());
        accepted.sum::<u64>() + endpoints.map(|endpoint| endpoint.connections.get()).sum::<u64>()
    }

    /// Of each shard, its last sign of life.
    pub fn beats(&self) -> Vec<Beat> {
        self.lock().shards.iter().map(|shard| shard.beat()).collect()
    }

    /// The sum over all shards, and what the control arbiter counts.
    pub fn shard_totals(&self) -> ShardTotals {
        totals::of_shards(&self.lock().shards, &self.process)
    }

    /// By port and peer, in the order in which they were first seen.
    pub fn peer_totals(&self) -> Vec<PeerTotals> {
        let peers = self.lock().peers.clone();
        totals::of_peers(&peers)
    }

    /// What a report carries: [`Self::peer_totals`], folded to [`REPORT_ROWS_MAX`] rows.
    pub fn inbound_totals(&self) -> Vec<InboundTotals> {
        totals::report_rows(self.peer_totals(), REPORT_ROWS_MAX)
    }

    /// By side and name, in the order in which they were first used.
    pub fn upstream_totals(&self) -> Vec<UpstreamTotals> {
        totals::of_upstreams(alive(&mut self.lock().upstreams))
    }

    /// By upstream and address, in the order in which they were first used.
    pub fn endpoint_totals(&self) -> Vec<EndpointTotals> {
        totals::of_endpoints(alive(&mut self.lock().endpoints))
    }
}

fn find_or_add<K, S: Default>(
    all: &mut Vec<Registration<K, S>>,
    shard: usize,
    is_it: impl Fn(&K) -> bool,
    key: impl FnOnce() -> K,
) -> Arc<CachePadded<S>> {
    all.retain(|registration| registration.stats.strong_count() > 0);
    let known = all.iter().find(|r| r.shard == shard && is_it(&r.key)).and_then(|r| r.stats.upgrade());
    known.unwrap_or_else(|| {
        let stats = Arc::<CachePadded<S>>::default();
        all.push(Registration { shard, key: key(), stats: Arc::downgrade(&stats) });
        stats
    })
}

fn alive<K: Clone, S>(all: &mut Vec<Registration<K, S>>) -> Vec<Held<K, S>> {
    all.retain(|registration| registration.stats.strong_count() > 0);
    all.iter().filter_map(|r| Some(Held { key: r.key.clone(), stats: r.stats.upgrade()? })).collect()
}
