//! What one shard writes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::{
    AnswerClass, ClassHistograms, Counter, Found, Gauge, LabelledCounters, OTHER, OfAhead, StatsRegistry,
};

/// Peers that a shard counts by name; the rest of each port is counted as [`OTHER`]. 256: a service called by more
/// identities than that is an edge, and its callers are told apart by their own sidecars.
pub const PEERS_MAX: usize = 256;

/// A side of the data path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    Inbound,
    Outbound,
}

impl Side {
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];
    pub fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Listener {
    /// mTLS from other sidecars.
    Inbound,
    /// From the app.
    Outbound,
    /// From outside.
    Edge,
}

impl Listener {
    pub const ALL: [Self; 3] = [Self::Inbound, Self::Outbound, Self::Edge];
    pub fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Edge => "edge",
        }
    }
    fn index(self) -> usize {
        match self {
            Self::Inbound => 0,
            Self::Outbound => 1,
            Self::Edge => 2,
        }
    }
}

/// A shard's own numbers.
#[derive(Debug, Default)]
pub struct ShardStats {
    accepted: [Counter; Listener::ALL.len()],
    open: [Gauge; Listener::ALL.len()],
    /// Requests that began, on both sides.
    pub requests: Counter,
    /// Those of them that have not ended.
    pub in_flight: Gauge,
    refusals_inbound: LabelledCounters,
    refusals_outbound: LabelledCounters,
    /// By the reason's label.
    pub tls_handshake_failures: LabelledCounters,
    /// Of clients from outside, by the reason's label.
    pub edge_handshake_failures: LabelledCounters,
    /// Connections ended since their client reset more streams than it may.
    pub reset_floods: Counter,
    /// HTTP/1.1 requests and answers that could not be understood, by the reason's label.
    pub malformed_requests: LabelledCounters,
    pub malformed_answers: LabelledCounters,
    /// Requests in plaintext to the mesh's port, by the address that they came from. For people who end a migration, not
    /// for metrics.
    pub plaintext_sources: LabelledCounters,
    /// Requests that the mesh's default let through, since no policy names the service.
    pub allowed_by_default: Counter,
    /// Requests that an audit rule matched, by the rule's id.
    pub audit_matches: LabelledCounters,
    /// By the port, `namespace/name:port`.
    detected: [LabelledCounters; Found::ALL.len()],
    ahead_inbound: LabelledCounters,
    ahead_outbound: LabelledCounters,
    /// See [`Beat`].
    pub beat_us: Gauge,
    pub lag_us: Gauge,
}

/// A sign of life of a shard's event loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// When it was given, in microseconds since the start; 0: never yet.
    pub at_us: u64,
    /// How late it was.
    pub lag_us: u64,
}

impl ShardStats {
    /// The label is the rejection table's.
    pub fn refused(&self, side: Side, label: &str) {
        self.refusals(side).increment(label);
    }
    pub fn refusals(&self, side: Side) -> &LabelledCounters {
        match side {
            Side::Inbound => &self.refusals_inbound,
            Side::Outbound => &self.refusals_outbound,
        }
    }
    /// What a connection to `port` speaks, or a tunnel to it carried.
    pub fn found(&self, found: Found, port: &str) {
        self.detected(found).increment(port);
    }
    pub fn detected(&self, found: Found) -> &LabelledCounters {
        &self.detected[found.index()]
    }
    pub fn was_ahead(&self, side: Side, outcome: OfAhead) {
        self.ahead(side).increment(outcome.label());
    }
    pub fn ahead(&self, side: Side) -> &LabelledCounters {
        match side {
            Side::Inbound => &self.ahead_inbound,
            Side::Outbound => &self.ahead_outbound,
        }
    }
    pub fn accepted(&self, listener: Listener) -> u64 {
        self.accepted[listener.index()].get()
    }
    pub fn open(&self, listener: Listener) -> u64 {
        self.open[listener.index()].get()
    }
    pub fn beat(&self) -> Beat {
        Beat { at_us: self.beat_us.get(), lag_us: self.lag_us.get() }
    }
}

/// One connection, counted as open until it is dropped; stays on its shard.
#[derive(Debug)]
pub struct OpenConnection {
    shard: Arc<CachePadded<ShardStats>>,
    listener: Listener,
    /// Keeps it off other threads, which would be second writers.
    _on_shard: std::marker::PhantomData<std::rc::Rc<()>>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shard.open[self.listener.index()].decrement();
    }
}

/// What the inbound side is told once of each request.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    pub class: AnswerClass,
    /// The sidecar itself made the answer.
    pub refused: bool,
    /// Bytes of bodies.
    pub bytes_received: u64,
    pub bytes_sent: u64,
    /// From the head of the request to the end of the answer.
    pub duration: Duration,
}

/// Requests of one peer to one port of the app, refused ones included, on one shard.
#[derive(Debug)]
pub struct InboundPeerStats {
    pub(super) port: u16,
    pub(super) peer: Box<str>,
    pub(super) mtls: bool,
    pub(super) requests: Counter,
    pub(super) refusals: Counter,
    pub(super) failures: Counter,
    pub(super) bytes_received: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) latency: ClassHistograms,
}

impl InboundPeerStats {
    fn new(port: u16, peer: &str, mtls: bool) -> Self {
        Self {
            port,
            peer: peer.into(),
            mtls,
            requests: Counter::default(),
            refusals: Counter::default(),
            failures: Counter::default(),
            bytes_received: Counter::default(),
            bytes_sent: Counter::default(),
            latency: ClassHistograms::default(),
        }
    }

    pub fn record(&self, request: &Recorded) {
        self.requests.increment();
        if request.refused {
            self.refusals.increment();
        }
        if request.class.is_failure() {
            self.failures.increment();
        }
        self.bytes_received.add(request.bytes_received);
        self.bytes_sent.add(request.bytes_sent);
        self.latency.observe(request.class, request.duration);
    }
}

/// Requests to one upstream, on one shard.
#[derive(Debug, Default)]
pub struct UpstreamShardStats {
    pub requests: Counter,
    pub failures: Counter,
    /// What the sidecar refused before or instead of sending it on.
    pub refusals: Counter,
    pub redispatches: Counter,
    /// Attempts that were made again.
    pub retries: Counter,
    /// Those that the budget did not allow.
    pub retries_refused: Counter,
    /// Calls of the app of which no deadline or class is known, since it passes on no trace.
    pub without_context: Counter,
    /// Open now; inbound alone.
    pub tunnels: Gauge,
    pub in_flight: Gauge,
    /// Have given their permit back, and still move bytes.
    pub streaming: Gauge,
    pub latency: ClassHistograms,
}

impl UpstreamShardStats {
    /// Counts a request that is over.
    pub fn record(&self, class: AnswerClass, duration: Duration) {
        self.requests.increment();
        if class.is_failure() {
            self.failures.increment();
        }
        self.latency.observe(class, duration);
    }
}

/// Attempts at one endpoint of an upstream, on one shard.
#[derive(Debug, Default)]
pub struct EndpointShardStats {
    pub requests: Counter,
    pub failures: Counter,
    pub connect_failures: Counter,
    pub connections: Gauge,
    pub in_flight: Gauge,
    /// What an answer's head is expected to take, in microseconds.
    pub ewma_us: Gauge,
}

/// A shard's own way to its numbers; it stays on the shard's thread.
#[derive(Debug)]
pub struct ShardRecorder {
    registry: Arc<StatsRegistry>,
    id: usize,
    shard: Arc<CachePadded<ShardStats>>,
    peers: RefCell<Peers>,
}

#[derive(Debug, Default)]
struct Peers {
    /// By port, then by principal, so that a look-up needs no owned key.
    by_port: HashMap<u16, HashMap<Box<str>, Arc<CachePadded<InboundPeerStats>>>>,
    named: usize,
}

impl ShardRecorder {
    /// Once for each shard.
    pub fn new(registry: &Arc<StatsRegistry>) -> Self {
        let (id, shard) = registry.add_shard();
        Self { registry: Arc::clone(registry), id, shard, peers: RefCell::default() }
    }

    pub fn shard(&self) -> &Arc<CachePadded<ShardStats>> {
        &self.shard
    }

    pub fn connection(&self, listener: Listener) -> OpenConnection {
        self.shard.accepted[listener.index()].increment();
        self.shard.open[listener.index()].increment();
        OpenConnection { shard: Arc::clone(&self.shard), listener, _on_shard: std::marker::PhantomData }
    }

    /// The numbers of a principal at a port: ask once for each connection and port. `mtls` says whether its certificate
    /// was verified; what is counted as [`OTHER`] never claims that it was.
    pub fn peer(&self, port: u16, principal: &str, mtls: bool) -> Arc<CachePadded<InboundPeerStats>> {
        let mut peers = self.peers.borrow_mut();
        let Peers { by_port, named } = &mut *peers;
        let of_port = by_port.entry(port).or_default();
        if let Some(known) = of_port.get(principal) {
            return Arc::clone(known);
        }
        let (name, mtls) = if *named < PEERS_MAX { (principal, mtls) } else { (OTHER, false) };
        if let Some(known) = of_port.get(name) {
            return Arc::clone(known);
        }
        let stats = Arc::new(CachePadded::new(InboundPeerStats::new(port, name, mtls)));
        *named += usize::from(name != OTHER);
        of_port.insert(name.into(), Arc::clone(&stats));
        self.registry.add_peer(Arc::clone(&stats));
        stats
    }

    /// The numbers of an upstream (`namespace/name:port`, or `inbound:port`), which live as long as someone holds them:
    /// one that is built anew finds the old numbers if it asks before the old one is dropped.
    pub fn upstream(&self, side: Side, name: &str) -> Arc<CachePadded<UpstreamShardStats>> {
        self.registry.upstream(self.id, side, name)
    }

    /// The numbers of an endpoint, which live as [`Self::upstream`]'s do.
    pub fn endpoint(&self, upstream: &str, address: SocketAddr) -> Arc<CachePadded<EndpointShardStats>> {
        self.registry.endpoint(self.id, upstream, address)
    }
}
