//! A shard's share of one outbound upstream: its view of the endpoints, its connections, its permits.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use crossbeam_utils::CachePadded;
use outrider_shared::SpiffeId;
use rand::RngCore as _;
use rand::rngs::SmallRng;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::balance::{PeakEwma, two_of};
use super::machine::Input;
use super::settings::Settings;
use super::wait::LastRefusal;
use super::{Health, Snapshot, Upstream};
use crate::leg::h2_client::{H2Connection, Lane};
use crate::mesh::{self, ConnectError, Dialer};
use crate::stats::{EndpointShardStats, ShardRecorder, Side, UpstreamShardStats};

/// HTTP/2 connections from one shard to one endpoint. 8: with 1,024 streams each, more than an upstream's permits.
const CONNECTIONS_MAX: usize = 8;
/// A shard leaves an endpoint out on its own after a failure for this long; by then the actor has published.
const AVOIDED: Duration = Duration::from_millis(500);
/// Pairs drawn before all endpoints are looked at in order.
const DRAWS_MAX: usize = 4;

/// One endpoint as a shard sees it.
pub struct Endpoint {
    pub address: SocketAddr,
    /// By the actor's word.
    ejected: Cell<bool>,
    /// By this shard's own failure to connect, until the actor's word must have come.
    avoided_until: Cell<Option<Instant>>,
    ewma: Cell<PeakEwma>,
    stats: Arc<CachePadded<EndpointShardStats>>,
    connections: RefCell<SmallVec<[H2Connection; 1]>>,
    /// The attempt under way, and how the last one ended.
    connecting: Cell<bool>,
    attempts: Cell<u64>,
    failure: RefCell<Option<Arc<ConnectError>>>,
    changed: Notify,
}

impl Endpoint {
    fn new(address: SocketAddr, stats: Arc<CachePadded<EndpointShardStats>>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            address,
            stats,
            ejected: Cell::new(false),
            avoided_until: Cell::new(None),
            ewma: Cell::new(PeakEwma::new(now)),
            connections: RefCell::default(),
            connecting: Cell::new(false),
            attempts: Cell::new(0),
            failure: RefCell::default(),
            changed: Notify::new(),
        })
    }

    fn is_fit(&self, now: Instant) -> bool {
        !self.ejected.get() && self.avoided_until.get().is_none_or(|until| until <= now)
    }

    fn cost(&self, now: Instant) -> f64 {
        self.ewma.get().cost(self.stats.in_flight.get(), now)
    }

    /// A request begins; the guard's end is its end.
    pub fn begin(self: &Rc<Self>) -> InFlight {
        self.stats.in_flight.increment();
        self.stats.requests.increment();
        InFlight(Rc::clone(self))
    }

    /// How long the head of an answer took.
    pub fn observe(&self, took: Duration, now: Instant) {
        let mut ewma = self.ewma.get();
        ewma.observe(took, now);
        self.ewma.set(ewma);
        self.stats.ewma_us.set(ewma.us());
    }

    /// A request to it failed.
    pub fn failed(&self) {
        self.stats.failures.increment();
    }

    fn count_connections(&self) {
        self.stats.connections.set(self.connections.borrow().len() as u64);
    }

    fn usable(&self, lane: Lane) -> Option<H2Connection> {
        self.connections.borrow().iter().find(|c| c.lane() == lane && c.has_room()).cloned()
    }
}

/// A request is under way at an endpoint.
pub struct InFlight(Rc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.stats.in_flight.decrement();
    }
}

/// A permit of the upstream; its drop gives it back.
pub struct Permit(Rc<Share>);

impl Permit {
    pub(super) fn new(share: &Rc<Share>) -> Self {
        share.stats.in_flight.increment();
        Self(Rc::clone(share))
    }

    /// What it is a permit of.
    pub fn share(&self) -> &Rc<Share> {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.stats.in_flight.decrement();
        self.0.upstream.give_back(self.0.shard);
    }
}

/// Why no connection was to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoConnection {
    #[error("connecting to an endpoint")]
    Connect(#[source] Arc<ConnectError>),
    /// All connections to the endpoint are full.
    #[error("{CONNECTIONS_MAX} connections to the endpoint have no stream left")]
    Full,
}

pub struct Share {
    pub upstream: Arc<Upstream>,
    pub stats: Arc<CachePadded<UpstreamShardStats>>,
    recorder: Rc<ShardRecorder>,
    pub(super) shard: usize,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    seen_generation: Cell<Option<u64>>,
    identity: RefCell<Option<SpiffeId>>,
    endpoints: RefCell<Rc<[Rc<Endpoint>]>>,
    settings: RefCell<Arc<Settings>>,
    /// Numbers those that ask the actor for a permit.
    pub(super) asked: Cell<u64>,
    pub(super) last_refusal: RefCell<Option<LastRefusal>>,
    dialer: Dialer,
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
        Self {
            stats: recorder.upstream(side, &upstream.key.to_string()),
            recorder: Rc::clone(recorder),
            upstream,
            shard,
            snapshot: RefCell::new(snapshot),
            seen_generation: Cell::new(None),
            identity: RefCell::default(),
            endpoints: RefCell::new(Rc::from([])),
            settings,
            asked: Cell::new(0),
            last_refusal: RefCell::default(),
            dialer,
        }
    }

    fn new_endpoint(&self, address: SocketAddr, now: Instant) -> Rc<Endpoint> {
        let stats = self.recorder.endpoint(&self.upstream.key.to_string(), address);
        Endpoint::new(address, stats, now)
    }

    /// What policy says, by the snapshot that was looked at last.
    pub(super) fn settings(&self) -> Arc<Settings> {
        self.look();
        Arc::clone(&self.settings.borrow())
    }

    /// Whether a request without a permit may wait for one.
    pub(super) fn queues(&self) -> bool {
        self.look();
        self.settings.borrow().queues()
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
        let next: Rc<[Rc<Endpoint>]> = snapshot
            .endpoints
            .iter()
            .map(|state| {
                let known = before.iter().find(|e| e.address == state.address);
                let endpoint = known.map_or_else(|| self.new_endpoint(state.address, now), Rc::clone);
                endpoint.ejected.set(matches!(state.health, Health::Ejected { .. }));
                endpoint
            })
            .collect();
        for gone in before.iter().filter(|e| !next.iter().any(|kept| kept.address == e.address)) {
            gone.connections.take().iter().for_each(H2Connection::retire);
        }
        let identity_changed = *self.identity.borrow() != snapshot.identity;
        if identity_changed {
            self.identity.replace(snapshot.identity.clone());
            for endpoint in next.iter() {
                endpoint.connections.take().iter().for_each(H2Connection::retire);
            }
        }
        *self.endpoints.borrow_mut() = next;
    }

    /// Chooses an endpoint that is not among `tried`; ejected ones only where all are.
    pub fn choose(&self, tried: &[SocketAddr], rng: &mut SmallRng, now: Instant) -> Option<Rc<Endpoint>> {
        let endpoints = self.endpoints();
        if endpoints.is_empty() {
            return None;
        }
        let fit = |e: &Rc<Endpoint>| e.is_fit(now) && !tried.contains(&e.address);
        for _ in 0..DRAWS_MAX {
            let (first, second) = two_of(endpoints.len(), rng.next_u64());
            let (first, second) = (&endpoints[first], &endpoints[second]);
            match (fit(first), fit(second)) {
                (true, true) => {
                    return Some(Rc::clone(if second.cost(now) < first.cost(now) { second } else { first }));
                }
                (true, false) => return Some(Rc::clone(first)),
                (false, true) => return Some(Rc::clone(second)),
                (false, false) => {}
            }
        }
        let cheapest = |a: &&Rc<Endpoint>, b: &&Rc<Endpoint>| a.cost(now).total_cmp(&b.cost(now));
        let untried = || endpoints.iter().filter(|e| !tried.contains(&e.address));
        untried().filter(|e| fit(e)).min_by(cheapest).or_else(|| untried().min_by(cheapest)).map(Rc::clone)
    }

    /// A connection to `endpoint` with room for a request.
    pub async fn connection(
        self: &Rc<Self>,
        endpoint: &Rc<Endpoint>,
        lane: Lane,
    ) -> Result<H2Connection, NoConnection> {
        match endpoint.usable(lane) {
            Some(connection) => Ok(connection),
            // Boxed: rare, and large.
            None => Box::pin(self.new_connection(endpoint, lane)).await,
        }
    }

    /// Several callers share one attempt, which none of them can
    /// cancel.
    async fn new_connection(
        self: &Rc<Self>,
        endpoint: &Rc<Endpoint>,
        lane: Lane,
    ) -> Result<H2Connection, NoConnection> {
        let seen = endpoint.attempts.get();
        loop {
            if let Some(connection) = endpoint.usable(lane) {
                return Ok(connection);
            }
            if endpoint.attempts.get() != seen
                && let Some(failure) = endpoint.failure.borrow().clone()
            {
                return Err(NoConnection::Connect(failure));
            }
            let changed = endpoint.changed.notified();
            if !endpoint.connecting.get() {
                endpoint.connections.borrow_mut().retain(|c| c.is_open());
                if endpoint.connections.borrow().len() >= CONNECTIONS_MAX {
                    return Err(NoConnection::Full);
                }
                endpoint.connecting.set(true);
                actix_rt::spawn(connect(Rc::clone(self), Rc::clone(endpoint), lane));
            }
            changed.await;
        }
    }

    /// Retires connections whose certificates are about to end, that are old, or that nobody uses. Called by the shard each second.
    pub fn sweep(&self, now: Instant) {
        for endpoint in self.endpoints().iter() {
            endpoint.connections.borrow_mut().retain(|connection| {
                if connection.is_due(now) {
                    connection.retire();
                }
                connection.is_open()
            });
            endpoint.count_connections();
        }
    }

    /// All connections take no new requests: the upstream is no longer in use.
    pub fn retire(&self) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.connections.take().iter().for_each(H2Connection::retire);
        }
    }
}

/// One attempt, in a task of its own: whoever began it may be cancelled.
async fn connect(share: Rc<Share>, endpoint: Rc<Endpoint>, lane: Lane) {
    let identity = share.identity.borrow().clone();
    let connected = mesh::connect(&share.dialer, endpoint.address, identity.as_ref(), lane).await;
    match connected {
        Ok(connection) => {
            endpoint.failure.take();
            endpoint.connections.borrow_mut().push(connection);
            endpoint.count_connections();
            share.upstream.tell(Input::Connected { address: endpoint.address });
        }
        Err(error) => {
            let cause = crate::error_chain(&error);
            tracing::warn!(upstream = %share.upstream.key, address = %endpoint.address, cause, "cannot connect to an endpoint");
            endpoint.stats.connect_failures.increment();
            endpoint.avoided_until.set(Some(Instant::now() + AVOIDED));
            share.upstream.tell(Input::ConnectFailed { address: endpoint.address, cause });
            endpoint.failure.replace(Some(Arc::new(error)));
        }
    }
    endpoint.attempts.set(endpoint.attempts.get() + 1);
    endpoint.connecting.set(false);
    endpoint.changed.notify_waiters();
}
