//! One endpoint as a shard sees it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use smallvec::SmallVec;
use tokio::sync::Notify;

use super::EndpointState;
use super::balance::PeakEwma;
use super::breaker::{Position, Tally};
use crate::leg::h2_client::{H2Connection, Lane};
use crate::mesh::ConnectError;
use crate::stats::EndpointShardStats;

pub struct Endpoint {
    pub address: SocketAddr,
    /// By the actor's word.
    left_out: Cell<bool>,
    barred: Cell<bool>,
    /// The epoch of its breaker in which requests are sent now.
    epoch: Cell<u64>,
    /// Its breaker is half open: a request may be a probe.
    probing: Cell<bool>,
    pub(super) tally: RefCell<Tally>,
    /// By this shard's own failure to connect, until the actor's word must have come.
    pub(super) avoided_until: Cell<Option<Instant>>,
    ewma: Cell<PeakEwma>,
    pub(super) stats: Arc<CachePadded<EndpointShardStats>>,
    pub(super) connections: RefCell<SmallVec<[H2Connection; 1]>>,
    /// The attempt under way, and how the last one ended.
    pub(super) connecting: Cell<bool>,
    pub(super) attempts: Cell<u64>,
    pub(super) failure: RefCell<Option<Arc<ConnectError>>>,
    pub(super) changed: Notify,
}

impl Endpoint {
    pub(super) fn new(
        address: SocketAddr,
        shard: usize,
        stats: Arc<CachePadded<EndpointShardStats>>,
        now: Instant,
    ) -> Rc<Self> {
        Rc::new(Self {
            address,
            stats,
            left_out: Cell::new(false),
            barred: Cell::new(false),
            epoch: Cell::new(0),
            probing: Cell::new(false),
            tally: RefCell::new(Tally::new(shard, 0, None)),
            avoided_until: Cell::new(None),
            ewma: Cell::new(PeakEwma::new(now)),
            connections: RefCell::default(),
            connecting: Cell::new(false),
            attempts: Cell::new(0),
            failure: RefCell::default(),
            changed: Notify::new(),
        })
    }

    pub(super) fn is_fit(&self, now: Instant) -> bool {
        !self.left_out.get() && self.avoided_until.get().is_none_or(|until| until <= now)
    }

    /// Not even where all are left out.
    pub(super) fn is_barred(&self) -> bool {
        self.barred.get()
    }

    pub(super) fn cost(&self, now: Instant) -> f64 {
        self.ewma.get().cost(self.stats.in_flight.get(), now)
    }

    /// Takes over what the actor has published of it.
    pub(super) fn adopt(&self, state: &EndpointState, consecutive_failures: Option<u32>) {
        self.left_out.set(state.left_out);
        self.barred.set(state.barred);
        let breaker = state.breaker.as_ref();
        self.epoch.set(breaker.map_or(0, |breaker| breaker.epoch));
        self.probing.set(breaker.is_some_and(|breaker| breaker.position == Position::HalfOpen));
        self.tally.borrow_mut().adopt(self.epoch.get(), consecutive_failures);
    }

    /// The epoch of its breaker, in which a request is sent now.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    pub(super) fn is_probing(&self) -> bool {
        self.probing.get()
    }

    pub(super) fn in_flight(&self) -> u32 {
        u32::try_from(self.stats.in_flight.get()).unwrap_or(u32::MAX)
    }

    /// A request begins; the guard's end is its end.
    pub fn begin(self: &Rc<Self>) -> InFlight {
        self.stats.in_flight.increment();
        self.stats.requests.increment();
        InFlight(Rc::clone(self))
    }

    /// What an answer is expected to take.
    pub(super) fn usual(&self, now: Instant) -> Duration {
        Duration::from_secs_f64(self.ewma.get().cost(0, now) / 1e6)
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

    pub(super) fn count_connections(&self) {
        self.stats.connections.set(self.connections.borrow().len() as u64);
    }

    pub(super) fn usable(&self, lane: Lane) -> Option<H2Connection> {
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
