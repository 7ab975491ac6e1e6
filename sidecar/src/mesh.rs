//! Connections between sidecars: TLS 1.3 with both identities verified, then HTTP/2.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use outrider_shared::SpiffeId;
use outrider_shared::identity::{self, Material, PeerRefusal};
use outrider_shared::names::ALPN_MESH;
use rand::Rng as _;
use rustls_pki_types::{ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::leg::h2_client::{H2Connection, Lane};
use crate::leg::keepalive::Far;
use crate::leg::socket;

/// TCP connect to another sidecar. 1 s: one lost SYN is sent again within it.
pub const CONNECT_MAX: Duration = Duration::from_secs(1);
/// TLS and HTTP/2 handshakes, both ways. 5 s: a busy peer on one core signs some 2,000 a second.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// A connection closes this share of a leaf's remaining life before its end, less a jitter of as much again.
const RETIRE_SHARE: f64 = 0.05;
/// What the kernel waits for unacknowledged data before it gives the connection up. 20 s: twice the PING interval that
/// peers of this field use.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// The sidecar's own identity with what is made of it once.
pub struct Tls {
    pub material: Arc<Material>,
    pub server: Arc<rustls::ServerConfig>,
}

impl Tls {
    pub fn new(material: Arc<Material>) -> Arc<Self> {
        let server = identity::mesh_server_config(&material);
        Arc::new(Self { material, server })
    }
}

/// Dials one kind of endpoint.
#[derive(Clone)]
pub enum Dialer {
    /// Other sidecars, as ourselves.
    Mesh(Arc<ArcSwapOption<Tls>>),
    /// The own app, in plaintext.
    App,
}

/// Why no connection to an endpoint came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("this sidecar has no certificate yet")]
    NoIdentity,
    #[error("connecting to {address}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("no answer from {address} within {CONNECT_MAX:?}")]
    TcpTimeout { address: SocketAddr },
    #[error("the peer at {address} is not who it should be")]
    Peer { address: SocketAddr, source: PeerRefusal },
    #[error("the TLS handshake with {address}")]
    Tls { address: SocketAddr, source: io::Error },
    #[error("the handshake with {address} took longer than {HANDSHAKE_MAX:?}")]
    HandshakeTimeout { address: SocketAddr },
    #[error("the HTTP/2 handshake with {address}")]
    Http2 { address: SocketAddr, source: h2::Error },
}

/// Connects to an endpoint, which must prove `expected` where it is another sidecar.
pub async fn connect(
    dialer: &Dialer,
    address: SocketAddr,
    expected: Option<&SpiffeId>,
    lane: Lane,
) -> Result<H2Connection, ConnectError> {
    let tcp = actix_rt::time::timeout(CONNECT_MAX, TcpStream::connect(address))
        .await
        .map_err(|_| ConnectError::TcpTimeout { address })?
        .and_then(|tcp| tune(&tcp).map(|()| tcp))
        .map_err(|source| ConnectError::Tcp { address, source })?;
    let shaken = async {
        match dialer {
            Dialer::App => H2Connection::start(tcp, Far::App, lane, None).await,
            Dialer::Mesh(own) => {
                let own = own.load_full().ok_or(ConnectError::NoIdentity)?;
                let expected = expected.ok_or(ConnectError::NoIdentity)?;
                let tls = handshake(&own, address, tcp, expected).await?;
                let peer = identity::verified_peer(tls.get_ref().1.peer_certificates())
                    .map_err(|source| ConnectError::Peer { address, source })?;
                H2Connection::start(tls, Far::Sidecar, lane, retire_at(&own.material, &peer)).await
            }
        }
        .map_err(|source| ConnectError::Http2 { address, source })
    };
    actix_rt::time::timeout(HANDSHAKE_MAX, shaken)
        .await
        .map_err(|_| ConnectError::HandshakeTimeout { address })?
}

async fn handshake(
    own: &Tls,
    address: SocketAddr,
    tcp: TcpStream,
    expected: &SpiffeId,
) -> Result<client::TlsStream<TcpStream>, ConnectError> {
    let config = identity::mesh_client_config(&own.material, expected);
    // Names play no part: the verifier asks for the SPIFFE ID.
    let name = ServerName::IpAddress(address.ip().into());
    let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(|source| {
        match identity::peer_refusal_of_io(&source) {
            Some(refusal) => ConnectError::Peer { address, source: refusal },
            None => ConnectError::Tls { address, source },
        }
    })?;
    speaks_mesh(tls.get_ref().1).map_err(|source| ConnectError::Tls { address, source })?;
    Ok(tls)
}

/// Both sides must name the protocol: rustls refuses a wrong name, and lets an absent one pass.
fn speaks_mesh(connection: &rustls::CommonState) -> io::Result<()> {
    if connection.alpn_protocol() == Some(ALPN_MESH) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the peer does not name the mesh's protocol by ALPN"))
    }
}

/// A peer that has proved who it is.
pub struct Peer {
    pub tls: server::TlsStream<TcpStream>,
    pub identity: SpiffeId,
    pub retire_at: Option<Instant>,
}

/// Why a peer was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// What came first is no TLS record.
    #[error("plaintext")]
    Plaintext,
    #[error("the peer's certificate")]
    Peer(#[source] PeerRefusal),
    #[error("the TLS handshake")]
    Tls(#[source] io::Error),
    #[error("the handshake took longer than {HANDSHAKE_MAX:?}")]
    Timeout,
    /// The connection was closed before a handshake: a probe of the port.
    #[error("closed before the handshake")]
    Closed,
}

impl AcceptError {
    /// The label in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Peer(refusal) => refusal.label(),
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}

/// The server's half of a handshake.
pub async fn accept(own: &Tls, tcp: TcpStream) -> Result<Peer, AcceptError> {
    let accepted =
        actix_rt::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(Arc::clone(&own.server)).accept(tcp))
            .await
            .map_err(|_| AcceptError::Timeout)?;
    let tls = accepted.map_err(|error| {
        if let Some(refusal) = identity::peer_refusal_of_io(&error) {
            return AcceptError::Peer(refusal);
        }
        let rustls_error = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match rustls_error {
            Some(rustls::Error::InvalidMessage(_)) => AcceptError::Plaintext,
            Some(rustls::Error::NoCertificatesPresented) => AcceptError::Peer(PeerRefusal::NoCertificate),
            None if error.kind() == io::ErrorKind::UnexpectedEof => AcceptError::Closed,
            _ => AcceptError::Tls(error),
        }
    })?;
    speaks_mesh(tls.get_ref().1).map_err(AcceptError::Tls)?;
    let peer = identity::verified_peer(tls.get_ref().1.peer_certificates()).map_err(AcceptError::Peer)?;
    let retire_at = retire_at(&own.material, &peer);
    Ok(Peer { tls, identity: peer.identity, retire_at })
}

fn tune(tcp: &TcpStream) -> io::Result<()> {
    socket::tune(tcp)?;
    socket2::SockRef::from(tcp).set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// When a connection must take no more requests: before the earlier of both leaves ends.
fn retire_at(own: &Material, peer: &identity::Peer) -> Option<Instant> {
    let end = own.not_after.as_secs().min(peer.not_after.as_secs());
    let left = Duration::from_secs(end.saturating_sub(UnixTime::now().as_secs()));
    let early = left.mul_f64(RETIRE_SHARE * rand::rng().random_range(1.0..2.0));
    Instant::now().checked_add(left.saturating_sub(early))
}
