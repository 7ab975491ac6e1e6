//! Accepts connections and hands each to the shard that has been least busy.
//!
//! One task for each listener, on the control arbiter. Not `SO_REUSEPORT` and not the number of connections: both may put
//! the few connections that carry most requests (HTTP/2 from busy peers) on one core.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use outrider_shared::ServiceId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use self::addresses::{Addresses, Place};
use crate::leg::socket;
use crate::limits::Limits;
use crate::stats::{Counter, Listener, ShardStats};

mod addresses;

#[cfg(test)]
mod tests;

/// Connections that wait for the kernel's accept. 1,024: what a burst of reconnecting peers needs; the kernel caps it.
const BACKLOG: u32 = 1_024;
/// Accepted connections that wait for a shard; past that they are closed.
pub const HANDOVER_MAX: usize = 1_024;
/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How often a shard's busyness is sampled at most.
const SAMPLE: Duration = Duration::from_millis(100);

/// What a listener is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Other sidecars over mTLS; where a port permits it, plaintext too.
    Inbound,
    /// The app, to any service by Host.
    Outbound,
    /// The app, to one upstream.
    Upstream { service: ServiceId, port: u16 },
    /// From outside, in plaintext or over TLS as policy says; principal `external`.
    Edge { port: u16 },
}

impl Entry {
    /// How it is counted.
    pub fn listener(&self) -> Listener {
        match self {
            Self::Inbound => Listener::Inbound,
            Self::Outbound | Self::Upstream { .. } => Listener::Outbound,
            Self::Edge { .. } => Listener::Edge,
        }
    }
}

/// A connection on its way to a shard.
pub struct Accepted {
    pub stream: std::net::TcpStream,
    pub peer: SocketAddr,
    pub entry: Arc<Entry>,
    /// Of clients that are bounded by their address.
    pub place: Option<Place>,
}

/// Where a shard takes connections, and how busy it is.
#[derive(Clone)]
pub struct ShardDoor {
    pub send: mpsc::Sender<Accepted>,
    pub stats: Arc<CachePadded<ShardStats>>,
}

/// Binds a listener; the error names the address.
pub fn bind(address: SocketAddr, flag: &str) -> io::Result<TcpListener> {
    let bound = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket::tune(&socket)?;
        socket::keep_alive(&socket)?;
        socket.listen(i32::try_from(BACKLOG).expect("a small constant"))?;
        TcpListener::from_std(socket.into())
    };
    bound().map_err(|error| {
        io::Error::new(error.kind(), format!("{flag} {address}: {error}; move it with {flag}"))
    })
}

/// Accepts until `stop` turns true.
pub async fn accept(listener: TcpListener, entry: Entry, doors: Rc<Doors>, stop: watch::Receiver<bool>) {
    let entry = Arc::new(entry);
    let mut stop = std::pin::pin!(turned(stop));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((stream, peer)) => doors.hand_over(stream, peer, &entry),
            Err(error) => {
                tracing::warn!(%error, listener = entry.listener().label(), "cannot accept a connection");
                actix_rt::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits until `told` turns true.
pub async fn turned(mut told: watch::Receiver<bool>) {
    // The sender lives as long as the process does; its end means the same as `true`.
    let _ = told.wait_for(|told| *told).await;
}

/// All shards, and how busy each has been.
pub struct Doors {
    shards: Vec<ShardDoor>,
    addresses: Addresses,
    /// Connections closed at once, since their address had as many as it may have.
    refused: Arc<Counter>,
    picker: std::cell::RefCell<Picker>,
}

impl Doors {
    pub fn new(doors: Vec<ShardDoor>, limits: &Limits, refused: Arc<Counter>) -> Rc<Self> {
        let now = Instant::now();
        let picker = Picker::new(doors.len(), now);
        let addresses = Addresses::new(limits.connections_per_address, now);
        Rc::new(Self { shards: doors, addresses, refused, picker: picker.into() })
    }

    fn hand_over(&self, stream: TcpStream, peer: SocketAddr, entry: &Arc<Entry>) {
        let place = match &**entry {
            Entry::Outbound | Entry::Upstream { .. } => None,
            Entry::Inbound | Entry::Edge { .. } => {
                let Ok(place) = self.addresses.enter(peer.ip(), Instant::now()) else {
                    tracing::debug!(%peer, "closed a connection: its address has as many as it may have");
                    self.refused.increment();
                    return;
                };
                Some(place)
            }
        };
        let shard = self.pick();
        let Ok(stream) = stream.into_std() else { return };
        let door = &self.shards[shard];
        if door.send.try_send(Accepted { stream, peer, entry: Arc::clone(entry), place }).is_err() {
            // Closing it is all that can be done: the shard is further behind than any client waits.
            tracing::warn!(%peer, shard, "closed a connection: its shard is too far behind");
        }
    }

    fn pick(&self) -> usize {
        let loads = |shard: usize| {
            let stats = &self.shards[shard].stats;
            (stats.requests.get(), Listener::ALL.iter().map(|&listener| stats.open(listener)).sum())
        };
        self.picker.borrow_mut().pick(loads, Instant::now())
    }
}

/// Pure: which shard has been least busy.
#[derive(Debug)]
pub struct Picker {
    sampled_at: Instant,
    shards: Vec<Sample>,
}

#[derive(Debug, Clone, Default)]
struct Sample {
    requests: u64,
    /// Requests in the last sample's time, halved with each sample, so that a burst is forgotten.
    recent: u64,
    /// Handed over since the last sample, when their requests are not counted yet.
    handed: u64,
}

impl Picker {
    pub fn new(shards: usize, now: Instant) -> Self {
        Self { sampled_at: now, shards: vec![Sample::default(); shards] }
    }

    /// `loads` gives a shard's requests so far and its open connections.
    pub fn pick(&mut self, loads: impl Fn(usize) -> (u64, u64), now: Instant) -> usize {
        if now.saturating_duration_since(self.sampled_at) >= SAMPLE {
            self.sampled_at = now;
            for (shard, sample) in self.shards.iter_mut().enumerate() {
                let (requests, _) = loads(shard);
                sample.recent = sample.recent / 2 + requests.saturating_sub(sample.requests);
                sample.requests = requests;
                sample.handed = 0;
            }
        }
        let least = (0..self.shards.len())
            .min_by_key(|&shard| {
                let sample = &self.shards[shard];
                (sample.recent / 64, loads(shard).1 + sample.handed)
            })
            .expect("there is at least one shard");
        self.shards[least].handed += 1;
        least
    }
}
