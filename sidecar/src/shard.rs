//! A shard: one arbiter with its connections, its pools, and its share of each upstream. Nothing in it is shared but what
//! it reads by snapshot and the counters that it alone writes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwapOption, Cache};
use http::uri::Authority;
use outrider_shared::ServiceId;
use outrider_shared::snapshot::AppProtocol;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::edges;
use crate::edges::tls::Agreed;
use crate::egress::Egress;
use crate::leg::coalesce::Broken;
use crate::leg::h1::client::H1Pool;
use crate::leg::service::Service;
use crate::leg::wire::Wire;
use crate::leg::{h1, h2_server, opaque};
use crate::limits::OfConnection;
use crate::listen::{Accepted, Entry, turned};
use crate::mesh::{self, Dialer};
use crate::node::{Node, Published};
use crate::overload;
use crate::pipeline::forwarded::{Hop, Scheme};
use crate::pipeline::rejection::Rejection;
use crate::pipeline::{AppConnection, InboundConnection};
use crate::stats::ShardRecorder;
use crate::upstream::share::Share;
use crate::upstream::supervisor::Ensure;
use crate::upstream::{Key, Upstream};

mod detected;

/// How often connections are looked at for age.
const SWEEP: Duration = Duration::from_secs(1);
/// A first use of an upstream waits this long for its actor.
const ENSURE_MAX: Duration = Duration::from_millis(500);
/// What tells HTTP/2 with prior knowledge from HTTP/1 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// The first byte of a TLS connection: the type of a handshake's record (RFC 8446, section 5.1).
const TLS_HANDSHAKE: [u8; 1] = [0x16];
/// A client that sends its preface byte by byte is looked at this often.
const PEEK_PAUSE: Duration = Duration::from_millis(2);

/// What is published, as a shard looks at it: a load and a comparison where nothing has changed.
type PublishedCache = Cache<Arc<ArcSwapOption<Published>>, Option<Arc<Published>>>;

/// Counted by this shard alone: cloning it writes to no cache line that another shard reads.
#[allow(clippy::redundant_allocation)]
pub type ThisShards<T> = Rc<Arc<T>>;

pub struct Shard {
    pub id: usize,
    pub node: Arc<Node>,
    pub stats: Rc<ShardRecorder>,
    pub rng: RefCell<SmallRng>,
    published: RefCell<PublishedCache>,
    /// The same as a plain count, so that requests do not write to a cache line that shards share.
    current: RefCell<Option<ThisShards<Published>>>,
    shares: RefCell<HashMap<ServiceId, Rc<Share>>>,
    app_ports: RefCell<HashMap<u16, Rc<AppPort>>>,
    pub egress: Egress,
    /// The app itself, as whoever waits in a queue of its sidecar.
    pub own: Arc<str>,
}

/// A port of the local app as a shard sees it.
pub struct AppPort {
    pub share: Rc<Share>,
    pub h1: Rc<H1Pool>,
}

impl Shard {
    pub fn new(id: usize, node: Arc<Node>, stats: Rc<ShardRecorder>) -> Rc<Self> {
        let published = Cache::new(Arc::clone(&node.published));
        let egress = Egress::new(&stats, &node.config);
        Rc::new(Self {
            id,
            node,
            stats,
            rng: RefCell::new(SmallRng::from_os_rng()),
            published: RefCell::new(published),
            current: RefCell::default(),
            shares: RefCell::default(),
            app_ports: RefCell::default(),
            egress,
            own: Arc::from("app"),
        })
    }

    /// Serves what the listeners hand over, until the process ends.
    pub async fn run(self: Rc<Self>, mut accepted: mpsc::Receiver<Accepted>) {
        actix_rt::spawn(Rc::clone(&self).sweep());
        actix_rt::spawn(overload::beat(self.node.started, Rc::clone(&self.stats)));
        while let Some(accepted) = accepted.recv().await {
            let shard = Rc::clone(&self);
            actix_rt::spawn(async move { shard.serve(accepted).await });
        }
    }

    /// The snapshot in force.
    pub fn published(&self) -> Option<ThisShards<Published>> {
        let mut cache = self.published.borrow_mut();
        let latest = cache.load();
        let mut current = self.current.borrow_mut();
        let same = match (latest, current.as_deref()) {
            (Some(latest), Some(current)) => Arc::ptr_eq(latest, current),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *current = latest.as_ref().map(|latest| Rc::new(Arc::clone(latest)));
        }
        current.clone()
    }

    /// The share of an outbound upstream, which the directory has to list.
    pub async fn share(&self, service: &ServiceId) -> Result<Rc<Share>, Rejection> {
        if let Some(share) = self.shares.borrow().get(service).filter(|share| !share.upstream.is_retired()) {
            return Ok(Rc::clone(share));
        }
        let upstream = Box::pin(self.ensure(Key::Service(service.clone()))).await?;
        let upstream = upstream.ok_or(Rejection::NoEndpoint { ejected: 0 })?;
        let mut shares = self.shares.borrow_mut();
        // Others may have asked for it meanwhile.
        if let Some(share) = shares.get(service).filter(|share| Arc::ptr_eq(&share.upstream, &upstream)) {
            return Ok(Rc::clone(share));
        }
        let dialer = Dialer::Mesh(Arc::clone(&self.node.tls));
        let made = Share::of_service(upstream, self.id, &self.stats, dialer);
        if let Some(before) = shares.insert(service.clone(), Rc::clone(&made)) {
            before.retire();
        }
        Ok(made)
    }

    /// The share of a port of the app; only ports that the policy declares are asked for.
    pub async fn app_port(&self, port: u16) -> Result<Rc<AppPort>, Rejection> {
        if let Some(app) = self.app_ports.borrow().get(&port) {
            return Ok(Rc::clone(app));
        }
        let upstream = Box::pin(self.ensure(Key::AppPort(port))).await?.ok_or(Rejection::NotReady)?;
        let mut app_ports = self.app_ports.borrow_mut();
        let address = SocketAddr::new(self.node.config.app_host, port);
        let made = app_ports.entry(port).or_insert_with(|| {
            let share = Share::of_app(upstream, self.id, &self.stats, address);
            Rc::new(AppPort { share, h1: H1Pool::new(address, self.node.config.limits.heads()) })
        });
        Ok(Rc::clone(made))
    }

    /// `None`: the directory does not list it.
    async fn ensure(&self, key: Key) -> Result<Option<Arc<Upstream>>, Rejection> {
        if let Some(upstream) = self.node.upstreams.load().get(&key) {
            return Ok(Some(Arc::clone(upstream)));
        }
        let asked = self.node.supervisor.send(Ensure { key });
        let answered = actix_rt::time::timeout(ENSURE_MAX, asked).await.ok().and_then(Result::ok);
        answered.ok_or_else(|| {
            tracing::warn!("the upstreams' supervisor did not answer within {ENSURE_MAX:?}");
            Rejection::NotReady
        })
    }

    async fn sweep(self: Rc<Self>) {
        let mut ticks = actix_rt::time::interval(SWEEP);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let in_use = self.node.upstreams.load();
            self.shares.borrow_mut().retain(|_, share| {
                let kept = in_use.get(&share.upstream.key).is_some_and(|u| Arc::ptr_eq(u, &share.upstream));
                if kept {
                    share.sweep(now);
                } else {
                    share.retire();
                }
                kept
            });
            self.egress.sweep(now);
            for app in self.app_ports.borrow().values() {
                app.h1.sweep();
                app.share.sweep(now);
            }
        }
    }

    async fn serve(self: Rc<Self>, accepted: Accepted) {
        let Accepted { stream, peer, entry, place } = accepted;
        let Ok(tcp) = TcpStream::from_std(stream) else { return };
        let open = self.stats.connection(entry.listener());
        // Each boxed: an idle connection of one kind must not hold the room that another kind's handshake takes.
        match &*entry {
            Entry::Inbound => Box::pin(Rc::clone(&self).serve_peer(tcp, peer)).await,
            Entry::Outbound => Box::pin(Rc::clone(&self).serve_app(tcp, None)).await,
            Entry::Upstream { service, port } => {
                Box::pin(Rc::clone(&self).serve_app(tcp, Some((service.clone(), *port)))).await;
            }
            Entry::Edge { port } => {
                Box::pin(Rc::clone(&self).serve_outside(tcp, peer, *port)).await;
            }
        }
        drop((open, place));
    }

    /// Whoever sends plaintext to the mesh's port, where a port of the app permits it.
    async fn serve_plaintext(self: Rc<Self>, tcp: TcpStream, address: SocketAddr) {
        let finish = self.node.finish.outside.subscribe();
        let hop = Hop { address: address.ip(), scheme: Scheme::Http };
        let connection = InboundConnection::of_plaintext(Rc::clone(&self), hop);
        self.serve_plain(tcp, finish, self.node.config.limits.of_outside(), connection).await;
    }

    /// Another sidecar.
    async fn serve_peer(self: Rc<Self>, tcp: TcpStream, address: SocketAddr) {
        let permissive = self.published().is_some_and(|published| published.table.takes_plaintext());
        if permissive && is_plaintext(&tcp).await {
            return Box::pin(self.serve_plaintext(tcp, address)).await;
        }
        let Some(own) = self.node.tls.load_full() else {
            self.stats.shard().tls_handshake_failures.increment("not_ready");
            return;
        };
        let peer = match mesh::accept(&own, tcp).await {
            Ok(peer) => peer,
            Err(error) => {
                self.stats.shard().tls_handshake_failures.increment(error.label());
                // A probe of the port (the control plane's, an orchestrator's) is no event.
                if !matches!(error, mesh::AcceptError::Closed) {
                    tracing::warn!(peer = %address, reason = error.label(), error = crate::error_chain(&error), "refused a connection");
                }
                return;
            }
        };
        let connection = InboundConnection::of_peer(Rc::clone(&self), peer.identity.clone());
        let finish = self.node.finish.outside.subscribe();
        let retire_at = peer.retire_at;
        let told = async move {
            let aged = async {
                match retire_at {
                    Some(at) => actix_rt::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = turned(finish) => {}
                () = aged => {}
            }
        };
        if let Err(error) =
            h2_server::serve(peer.tls, told, self.node.config.limits.of_peer(), connection).await
        {
            tracing::debug!(peer = %address, error = crate::error_chain(&error), "a peer's connection ended");
        }
    }

    /// The own app.
    async fn serve_app(self: Rc<Self>, tcp: TcpStream, upstream: Option<(ServiceId, u16)>) {
        let finish = self.node.finish.app.subscribe();
        let declared = upstream.as_ref().and_then(|(service, port)| self.declared(service, *port));
        match (declared, upstream) {
            (Some(AppProtocol::Tcp), Some(upstream)) => {
                let authority = authority_of(&upstream);
                let connection = AppConnection::new(self, Some(upstream));
                if let Err(error) = Box::pin(opaque::serve(tcp.into(), authority, connection)).await {
                    tracing::debug!(
                        error = crate::error_chain(&error),
                        "an opaque connection of the app ended"
                    );
                }
            }
            (Some(AppProtocol::Detect), Some(upstream)) => self.serve_detected(tcp, upstream, finish).await,
            (_, upstream) => {
                let connection = AppConnection::new(Rc::clone(&self), upstream);
                self.serve_plain(tcp, finish, self.node.config.limits.of_app(), connection).await;
            }
        }
    }

    /// What an upstream's port is declared to speak; `None`: nobody knows it.
    fn declared(&self, service: &ServiceId, port: u16) -> Option<AppProtocol> {
        let published = self.published()?;
        Some(published.table.outbound_to(service, Some(port)).ok()?.target.app_protocol)
    }

    /// A client from outside the mesh.
    async fn serve_outside(self: Rc<Self>, tcp: TcpStream, address: SocketAddr, port: u16) {
        let finish = self.node.finish.outside.subscribe();
        let tls = self.node.edge_tls.load().get(&port).map(|edge| Arc::clone(&edge.server));
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        let hop = Hop { address: address.ip(), scheme };
        let connection = InboundConnection::of_outside(Rc::clone(&self), port, hop);
        let limits = self.node.config.limits;
        let of_client = limits.of_outside();
        let Some(config) = tls else { return self.serve_plain(tcp, finish, of_client, connection).await };
        let shaken = tokio::select! {
            shaken = edges::tls::accept(config, tcp, limits.handshake_time()) => shaken,
            () = turned(finish.clone()) => return,
        };
        match shaken {
            Ok((tls, Agreed::Http2)) => Box::pin(self.serve_http2(tls, finish, of_client, connection)).await,
            Ok((tls, Agreed::Http1)) => serve_http1(tls, finish, of_client, connection).await,
            Err(error) => {
                self.stats.shard().edge_handshake_failures.increment(error.label());
                tracing::debug!(peer = %address, port, error = crate::error_chain(&error), "a handshake at an edge failed");
            }
        }
    }

    /// Plaintext HTTP/1.1, or HTTP/2 with prior knowledge, told apart by the first bytes.
    async fn serve_plain<S: Service>(
        &self,
        tcp: TcpStream,
        finish: watch::Receiver<bool>,
        limits: OfConnection,
        service: S,
    ) {
        let first = tokio::select! {
            first = actix_rt::time::timeout(limits.head_time, speaks_http2(&tcp)) => first,
            () = turned(finish.clone()) => return,
        };
        let Ok(Ok(http2)) = first else { return };
        if http2 {
            Box::pin(self.serve_http2(tcp, finish, limits, service)).await;
        } else {
            serve_http1(tcp, finish, limits, service).await;
        }
    }

    async fn serve_http2<T, S>(&self, io: T, finish: watch::Receiver<bool>, limits: OfConnection, service: S)
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service,
    {
        match h2_server::serve(io, turned(finish), limits, service).await {
            Ok(()) => {}
            Err(error) => {
                if matches!(error, Broken::ResetFlood) {
                    self.stats.shard().reset_floods.increment();
                }
                let error = crate::error_chain(&error);
                tracing::debug!(error, "an HTTP/2 connection of an app or of a client ended");
            }
        }
    }
}

/// What a tunnel to an upstream is asked for by.
fn authority_of((service, port): &(ServiceId, u16)) -> Authority {
    let name = format!("{}.{}:{port}", service.name(), service.namespace());
    Authority::try_from(name).expect("names of services are DNS labels")
}

async fn serve_http1<S: Service>(
    io: impl Into<Wire>,
    finish: watch::Receiver<bool>,
    limits: OfConnection,
    service: S,
) {
    if let Err(error) = h1::server::serve(io.into(), finish, limits, service).await {
        tracing::debug!(
            error = crate::error_chain(&error),
            "an HTTP/1.1 connection of an app or of a client ended"
        );
    }
}

/// Whether what comes first is no handshake of TLS. Where nothing comes, the handshake's own bounds end it.
async fn is_plaintext(tcp: &TcpStream) -> bool {
    let mut first = [0];
    let peeked = actix_rt::time::timeout(mesh::HANDSHAKE_MAX, tcp.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))) && first != TLS_HANDSHAKE
}

async fn speaks_http2(tcp: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let n = tcp.peek(&mut first).await?;
        if n == PREFACE.len() || n == 0 || first[..n] != PREFACE[..n] {
            return Ok(n > 0 && first[..n] == PREFACE[..n]);
        }
        actix_rt::time::sleep(PEEK_PAUSE).await;
    }
}
