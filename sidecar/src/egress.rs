//! What a shard keeps for the app's calls to hosts outside of the mesh: names that it has resolved, and connections.
//!
//! There is no actor and no policy behind it: such a host has no identity, no other endpoint and no route. What is here is
//! bounded, so that an app that calls a host for each customer costs no more than one that calls a few.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::leg::h1::client::H1Pool;
use crate::leg::h1::scan;
use crate::leg::h2_client::{H2Connection, Lane};
use crate::mesh::{self, ConnectError, Dialer};
use crate::stats::{ShardRecorder, Side, UpstreamShardStats};

#[cfg(test)]
mod tests;

/// Looking a name up. 2 s: a resolver that has lost one packet asks again within it.
const RESOLVE_MAX: Duration = Duration::from_secs(2);
/// Look-ups at once on one shard, each of which takes a thread while it lasts; more of them wait, within [`RESOLVE_MAX`].
const LOOKUPS_MAX: usize = 16;
/// Addresses of a name that are looked at. 4: two of each family.
const ADDRESSES_MAX: usize = 4;
/// A connect that only finds out whether an address leads anywhere. 300 ms: a usual round trip, and four fit into
/// [`RESOLVE_MAX`].
const PROBE_MAX: Duration = Duration::from_millis(300);
/// How long an answer is used. 5 s: the system does not tell how long it holds, and a name that moves is followed soon.
const NAME_AGE_MAX: Duration = Duration::from_secs(5);
/// Names and hosts kept. 256: an app calls a few; past that the cost is a look-up and a connect.
const KEPT_MAX: usize = 256;
/// A host that nothing was sent to for this time is forgotten with its connections.
const HOST_IDLE_MAX: Duration = Duration::from_mins(1);
/// How metrics call all of these hosts together: a label for each would have no bound.
const NAME: &str = "egress";

/// See the module.
pub struct Egress {
    names: RefCell<HashMap<Box<str>, Resolved>>,
    hosts: RefCell<HashMap<SocketAddr, Rc<Host>>>,
    lookups: Arc<Semaphore>,
    under_way: Rc<Cell<u32>>,
    /// Requests of this shard that may be under way.
    limit: u32,
    heads: scan::Limits,
    pub stats: Arc<CachePadded<UpstreamShardStats>>,
}

struct Resolved {
    address: SocketAddr,
    until: Instant,
}

/// One address outside, and connections to it.
pub struct Host {
    pub address: SocketAddr,
    pub h1: Rc<H1Pool>,
    h2: RefCell<Option<H2Connection>>,
    used: Cell<Instant>,
}

/// A request that is under way; its drop ends it.
pub struct Slot {
    under_way: Rc<Cell<u32>>,
    stats: Arc<CachePadded<UpstreamShardStats>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.under_way.set(self.under_way.get() - 1);
        self.stats.in_flight.decrement();
    }
}

/// Why a name has no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    #[error("the name has no address")]
    NoAddress,
    #[error("no answer within {RESOLVE_MAX:?}")]
    Timeout,
}

impl Egress {
    /// `limit`: requests of the whole sidecar that may be under way outside, of which this shard has its part.
    pub fn new(stats: &ShardRecorder, config: &Config) -> Self {
        let shards = u32::try_from(config.shards).unwrap_or(u32::MAX).max(1);
        Self {
            names: RefCell::default(),
            hosts: RefCell::default(),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            under_way: Rc::default(),
            heads: config.limits.heads(),
            limit: (config.concurrency_limit / shards).max(1),
            stats: stats.upstream(Side::Outbound, NAME),
        }
    }

    /// `Err`: as many requests are under way as may be, which is the number.
    pub fn enter(&self) -> Result<Slot, u32> {
        if self.under_way.get() >= self.limit {
            return Err(self.limit);
        }
        self.under_way.set(self.under_way.get() + 1);
        self.stats.in_flight.increment();
        Ok(Slot { under_way: Rc::clone(&self.under_way), stats: Arc::clone(&self.stats) })
    }

    /// The first address that the system's resolver gives, in its order of preference; of a name with addresses of both
    /// families the first that can be connected to, since one of them often leads nowhere. Cancelled by the client's going
    /// away; the look-up itself goes on to its end, and holds its place until then.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<SocketAddr, Unresolved> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address.to_canonical(), port));
        }
        let key = format!("{host}:{port}");
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let name = host.to_owned();
        let found = actix_rt::time::timeout(RESOLVE_MAX, async {
            let place = Arc::clone(&self.lookups).acquire_owned().await.ok()?;
            // Somebody before us in the queue may have asked for the same name.
            if let Some(known) = self.known(&key) {
                return Some(known);
            }
            let looked_up = actix_rt::spawn(async move {
                let found = tokio::net::lookup_host((name.as_str(), port)).await;
                drop(place);
                preferred(found.ok()?.take(ADDRESSES_MAX).collect()).await
            });
            looked_up.await.ok().flatten()
        })
        .await
        .map_err(|_| Unresolved::Timeout)?
        .ok_or(Unresolved::NoAddress)?;
        self.keep(&key, found);
        Ok(found)
    }

    fn known(&self, key: &str) -> Option<SocketAddr> {
        let names = self.names.borrow();
        names.get(key).filter(|known| known.until > Instant::now()).map(|known| known.address)
    }

    fn keep(&self, key: &str, address: SocketAddr) {
        let now = Instant::now();
        let mut names = self.names.borrow_mut();
        if names.len() >= KEPT_MAX {
            names.retain(|_, known| known.until > now);
        }
        if names.len() < KEPT_MAX {
            names.insert(key.into(), Resolved { address, until: now + NAME_AGE_MAX });
        }
    }

    pub fn host(&self, address: SocketAddr) -> Rc<Host> {
        let now = Instant::now();
        let mut hosts = self.hosts.borrow_mut();
        if let Some(host) = hosts.get(&address) {
            host.used.set(now);
            return Rc::clone(host);
        }
        if hosts.len() >= KEPT_MAX {
            let oldest = hosts.values().min_by_key(|host| host.used.get()).map(|host| host.address);
            if let Some(host) = oldest.and_then(|oldest| hosts.remove(&oldest)) {
                host.retire();
            }
        }
        let h1 = H1Pool::new(address, self.heads);
        let host = Rc::new(Host { address, h1, h2: RefCell::default(), used: Cell::new(now) });
        hosts.insert(address, Rc::clone(&host));
        host
    }

    /// Called by the shard each second.
    pub fn sweep(&self, now: Instant) {
        self.hosts.borrow_mut().retain(|_, host| {
            host.h1.sweep();
            let kept = now.saturating_duration_since(host.used.get()) < HOST_IDLE_MAX;
            if !kept {
                host.retire();
            }
            kept
        });
    }
}

impl Host {
    /// An HTTP/2 connection with room for another request.
    pub async fn http2(&self) -> Result<H2Connection, ConnectError> {
        let open = self.h2.borrow().as_ref().filter(|open| open.has_room()).cloned();
        if let Some(open) = open {
            return Ok(open);
        }
        let fresh = mesh::connect(&Dialer::App, self.address, None, Lane::Short).await?;
        if let Some(before) = self.h2.replace(Some(fresh.clone())) {
            before.retire();
        }
        Ok(fresh)
    }

    fn retire(&self) {
        if let Some(open) = self.h2.take() {
            open.retire();
        }
    }
}

async fn preferred(addresses: Vec<SocketAddr>) -> Option<SocketAddr> {
    let first = *addresses.first()?;
    if addresses.iter().any(|address| address.is_ipv4() != first.is_ipv4()) {
        for address in addresses {
            let connected = actix_rt::time::timeout(PROBE_MAX, TcpStream::connect(address)).await;
            if connected.is_ok_and(|connected| connected.is_ok()) {
                return Some(address);
            }
        }
    }
    Some(first)
}

/// Whether a listener of this sidecar is at `address`: a request there would come in again as somebody else's.
pub fn is_own(address: SocketAddr, config: &Config, edges: impl Iterator<Item = u16>) -> bool {
    let fixed = [config.inbound, config.outbound, config.admin, config.health];
    let upstreams = config.upstreams.iter().map(|upstream| upstream.listen);
    let edges = edges.map(|port| config.edge_address(port));
    fixed.into_iter().chain(upstreams).chain(edges).any(|own| {
        own.port() == address.port()
            && (own.ip() == address.ip()
                || address.ip().is_unspecified()
                || (own.ip().is_unspecified() && is_local(address.ip())))
    })
}

/// Whether an address is this host's: the kernel lets nobody bind another one's.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
