//! A shard's share of one upstream: its view of the endpoints, its connections, its permits.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};
use crossbeam_utils::CachePadded;
use outrider_shared::SpiffeId;
use outrider_shared::traffic::{Balancing, ConcurrencyAlgorithm};
use tokio::sync::Notify;

use super::breaker::{Position, Tally};
use super::budget::Block;
use super::digest::Pending;
use super::endpoint::Endpoint;
use super::settings::Settings;
use super::wait::LastRefusal;
use super::{Snapshot, Upstream};
use crate::leg::h2_client::H2Connection;
use crate::mesh::Dialer;
use crate::stats::{ShardRecorder, Side, UpstreamShardStats};

/// A tunnel is open; its drop says that it is no longer. It holds no permit: what nobody looks into says nothing of how
/// loaded the app is, and stays open for as long as it likes.
pub struct OpenTunnel(Rc<Share>);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.stats.tunnels.decrement();
    }
}

/// A permit of the upstream; its drop gives it back.
pub struct Permit {
    share: Rc<Share>,
    state: PermitState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermitState {
    Held,
    /// Given back already; what is left of the request counts as a stream.
    Streams,
}

impl Permit {
    pub(super) fn new(share: &Rc<Share>) -> Self {
        share.stats.in_flight.increment();
        share.peak.set(share.peak.get().max(share.in_flight()));
        Self { share: Rc::clone(share), state: PermitState::Held }
    }

    /// What it is a permit of.
    pub fn share(&self) -> &Rc<Share> {
        &self.share
    }

    /// Only bytes move from now on: the answer has begun, or the request's body takes its time. A limit that is learned
    /// from the time to an answer's head holds for as long as that; longer, and two downloads or two slow uploads would use
    /// up the limit of an app that is idle. A fixed limit holds to the end, and so does a permit where as many requests
    /// stream already as the sidecar takes at all.
    pub fn streams(&mut self) {
        let share = &self.share;
        if self.state == PermitState::Held
            && self.is_learned()
            && share.stats.streaming.get() < u64::from(share.most_beside_permits())
        {
            share.stats.streaming.increment();
            share.give_back();
            self.state = PermitState::Streams;
        }
    }

    /// Whether its limit is.
    pub fn is_learned(&self) -> bool {
        self.share.with_settings(|settings| settings.concurrency.algorithm) != ConcurrencyAlgorithm::Fixed
    }

    pub fn is_held(&self) -> bool {
        self.state == PermitState::Held
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        match self.state {
            PermitState::Held => self.share.give_back(),
            PermitState::Streams => self.share.stats.streaming.decrement(),
        }
    }
}

pub struct Share {
    pub upstream: Arc<Upstream>,
    pub stats: Arc<CachePadded<UpstreamShardStats>>,
    recorder: Rc<ShardRecorder>,
    pub(super) shard: usize,
    /// How many there are.
    shards: u32,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    seen_generation: Cell<Option<u64>>,
    pub(super) identity: RefCell<Option<SpiffeId>>,
    pub(super) endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    /// Of the service's breaker: its epoch, and where it stands; `None`: policy's scope is the endpoint.
    breaker: Cell<Option<(u64, Position)>>,
    pub(super) tally: RefCell<Tally>,
    /// Some endpoint's breaker is half open.
    probing: Cell<bool>,
    /// When this shard asked for a probe last.
    pub(super) probe_asked: Cell<Option<Instant>>,
    pub(super) pending: RefCell<Pending>,
    pub(super) digest_due: Cell<bool>,
    /// The most permits that were spent at once since the last digest.
    pub(super) peak: Cell<u32>,
    /// Retry tokens.
    pub(super) block: Cell<Option<Block>>,
    /// Tokens that the block began with.
    pub(super) block_size: Cell<u32>,
    /// Somebody asks for the next block; how often there was none; and who waits for one.
    pub(super) asks_for_tokens: Cell<bool>,
    pub(super) blocks_refused: Cell<u64>,
    pub(super) block_came: Notify,
    /// Where the search for an endpoint that may be probed begins.
    pub(super) probe_turn: Cell<usize>,
    /// Where the next turn of round robin begins.
    pub(super) turn: Cell<usize>,
    settings: RefCell<Arc<Settings>>,
    /// Numbers those that ask the actor for a permit.
    pub(super) asked: Cell<u64>,
    pub(super) last_refusal: RefCell<Option<LastRefusal>>,
    pub(super) dialer: Dialer,
}

impl Share {
    /// Of another service.
    pub fn of_service(
        upstream: Arc<Upstream>,
        shard: usize,
        recorder: &Rc<ShardRecorder>,
        dialer: Dialer,
    ) -> Rc<Self> {
        Rc::new(Self::new(upstream, Side::Outbound, shard, recorder, dialer))
    }

    /// Of a port of the app, which is its one endpoint.
    pub fn of_app(
        upstream: Arc<Upstream>,
        shard: usize,
        recorder: &Rc<ShardRecorder>,
        app: SocketAddr,
    ) -> Rc<Self> {
        let share = Self::new(upstream, Side::Inbound, shard, recorder, Dialer::App);
        share.adopt(&share.upstream.snapshot.load());
        let endpoint = share.new_endpoint(app, Instant::now());
        share.endpoints.replace(Rc::from([endpoint]));
        Rc::new(share)
    }

    fn new(
        upstream: Arc<Upstream>,
        side: Side,
        shard: usize,
        recorder: &Rc<ShardRecorder>,
        dialer: Dialer,
    ) -> Self {
        let snapshot = Cache::new(Arc::clone(&upstream.snapshot));
        let settings = RefCell::new(Arc::clone(&upstream.snapshot.load().settings));
        let shards = u32::try_from(upstream.leases.idle().len()).expect("as many shards as cores");
        Self {
            stats: recorder.upstream(side, &upstream.key.to_string()),
            recorder: Rc::clone(recorder),
            upstream,
            shard,
            shards,
            snapshot: RefCell::new(snapshot),
            seen_generation: Cell::new(None),
            identity: RefCell::default(),
            endpoints: RefCell::new(Rc::from([])),
            breaker: Cell::new(None),
            tally: RefCell::new(Tally::new(shard, 0, None)),
            probing: Cell::new(false),
            probe_asked: Cell::new(None),
            pending: RefCell::new(Pending::new(Instant::now())),
            digest_due: Cell::new(false),
            peak: Cell::new(0),
            block: Cell::new(None),
            block_size: Cell::new(0),
            asks_for_tokens: Cell::new(false),
            blocks_refused: Cell::new(0),
            block_came: Notify::new(),
            probe_turn: Cell::new(0),
            turn: Cell::new(0),
            settings,
            asked: Cell::new(0),
            last_refusal: RefCell::default(),
            dialer,
        }
    }

    fn new_endpoint(&self, address: SocketAddr, now: Instant) -> Rc<Endpoint> {
        let stats = self.recorder.endpoint(&self.upstream.key.to_string(), address);
        Endpoint::new(address, self.shard, stats, now)
    }

    /// What policy says, by the snapshot that was looked at last.
    pub fn settings(&self) -> Arc<Settings> {
        self.look();
        Arc::clone(&self.settings.borrow())
    }

    /// Reads what policy says, by the snapshot that was looked at last.
    pub fn with_settings<T>(&self, read: impl FnOnce(&Settings) -> T) -> T {
        read(&self.settings.borrow())
    }

    /// Whether a request without a permit may wait for one.
    pub(super) fn queues(&self) -> bool {
        self.look();
        self.settings.borrow().queues()
    }

    /// One more tunnel; `None`: this shard has its part of as many as the sidecar takes.
    pub fn open_tunnel(self: &Rc<Self>) -> Option<OpenTunnel> {
        (self.stats.tunnels.get() < u64::from(self.most_beside_permits())).then(|| {
            self.stats.tunnels.increment();
            OpenTunnel(Rc::clone(self))
        })
    }

    /// Of tunnels, and of requests that only stream, this shard's part of as many as the sidecar takes.
    fn most_beside_permits(&self) -> u32 {
        self.with_settings(|settings| settings.cap).div_ceil(self.shards)
    }

    fn give_back(&self) {
        self.stats.in_flight.decrement();
        self.upstream.give_back(self.shard);
    }

    /// Permits that are spent here.
    pub(super) fn in_flight(&self) -> u32 {
        u32::try_from(self.stats.in_flight.get()).unwrap_or(u32::MAX)
    }

    pub(super) fn balancing(&self) -> Balancing {
        self.settings.borrow().client.balancing
    }

    /// Of the service's breaker, by the latest snapshot.
    pub(super) fn breaker(&self) -> Option<(u64, Position)> {
        self.look();
        self.breaker.get()
    }

    /// Whether some endpoint may get a probe.
    pub fn is_probing(&self) -> bool {
        self.look();
        self.probing.get()
    }

    /// The endpoints that are known, without a look at the latest snapshot.
    pub(super) fn seen_endpoints(&self) -> Rc<[Rc<Endpoint>]> {
        Rc::clone(&self.endpoints.borrow())
    }

    /// Takes over what the actor has published, if anything has changed.
    fn look(&self) {
        let mut cache = self.snapshot.borrow_mut();
        let snapshot = cache.load();
        if self.seen_generation.get() != Some(snapshot.generation) {
            self.adopt(snapshot);
        }
    }

    /// The endpoints of the snapshot that is in force now. The app's is never published, so it stays.
    pub fn endpoints(&self) -> Rc<[Rc<Endpoint>]> {
        self.look();
        Rc::clone(&self.endpoints.borrow())
    }

    fn adopt(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        self.settings.replace(Arc::clone(&snapshot.settings));
        self.seen_generation.set(Some(snapshot.generation));
        if let Dialer::App = self.dialer {
            // No directory lists it.
            return;
        }
        let before = Rc::clone(&self.endpoints.borrow());
        let consecutive = snapshot.settings.client.breaker.consecutive_failures;
        let breaker = snapshot.breaker.as_ref().map(|breaker| (breaker.epoch, breaker.position));
        self.breaker.set(breaker);
        self.tally.borrow_mut().adopt(breaker.map_or(0, |(epoch, _)| epoch), consecutive);
        let next: Rc<[Rc<Endpoint>]> = snapshot
            .endpoints
            .iter()
            .map(|state| {
                let known = before.iter().find(|e| e.address == state.address);
                let endpoint = known.map_or_else(|| self.new_endpoint(state.address, now), Rc::clone);
                endpoint.adopt(state, consecutive);
                endpoint
            })
            .collect();
        for gone in before.iter().filter(|e| !next.iter().any(|kept| kept.address == e.address)) {
            gone.connections.take().iter().for_each(H2Connection::retire);
        }
        self.probing.set(next.iter().any(|endpoint| endpoint.is_probing()));
        let identity_changed = *self.identity.borrow() != snapshot.identity;
        if identity_changed {
            self.identity.replace(snapshot.identity.clone());
            for endpoint in next.iter() {
                endpoint.connections.take().iter().for_each(H2Connection::retire);
            }
        }
        *self.endpoints.borrow_mut() = next;
    }
}
