//! TLS towards callers from outside: 1.2 and 1.3, HTTP/2 or HTTP/1.1 by ALPN, the certificate by SNI.
//!
//! Sessions may be resumed here, unlike between sidecars: an edge takes no identity from a handshake, so a resumed
//! connection skips nothing, and clients that come back often are spared the costly half. They are kept in memory, so no
//! ticket key has to be guarded or rotated; nothing is sent early (0-RTT), since that may be replayed. With a new
//! certificate the sessions of the old one are gone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache,
};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Sessions kept for resumption by one edge. 1,024: at about 1 KiB each they take 1 MiB.
const SESSIONS_MAX: usize = 1_024;
const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// How an edge answers handshakes, with these certificates; the first is shown where none holds for the name asked for.
pub fn server_config(certificates: Vec<Arc<CertifiedKey>>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("aws-lc-rs speaks both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(BySni(certificates)));
    config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
    config.send_tls13_tickets = 1;
    Arc::new(config)
}

#[derive(Debug)]
struct BySni(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Of an ECDSA and an RSA certificate for one name, an old client may know but one.
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| {
            let name = ServerName::try_from(name).ok()?;
            self.0.iter().filter(usable).find(|key| holds_for(key, &name))
        });
        named.or_else(|| self.0.iter().find(usable)).cloned()
    }
}

fn holds_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// What a handshake agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreed {
    Http1,
    Http2,
}

/// Why a client from outside was not let in.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// What came first is no TLS record.
    #[error("plaintext")]
    Plaintext,
    /// No version, cipher or protocol that both know.
    #[error("nothing in common with the client")]
    Incompatible(#[source] io::Error),
    /// The client does not trust the certificate, mostly.
    #[error("the client broke it off")]
    ByClient(#[source] io::Error),
    #[error("the TLS handshake")]
    Tls(#[source] io::Error),
    #[error("the handshake took too long")]
    Timeout,
    #[error("closed before the handshake")]
    Closed,
}

impl HandshakeError {
    /// The label in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Incompatible(_) => "incompatible",
            Self::ByClient(_) => "by_client",
            Self::Tls(_) => "tls",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }

    fn of(error: io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (cause, error.kind()) {
            (Some(rustls::Error::InvalidMessage(_)), _) => Self::Plaintext,
            (Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol), _) => {
                Self::Incompatible(error)
            }
            (Some(rustls::Error::AlertReceived(_)), _) => Self::ByClient(error),
            (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => Self::Closed,
            _ => Self::Tls(error),
        }
    }
}

/// The server's half of a handshake, within `limit`. A client that names no protocol gets HTTP/1.1.
pub async fn accept(
    config: Arc<ServerConfig>,
    tcp: TcpStream,
    limit: Duration,
) -> Result<(TlsStream<TcpStream>, Agreed), HandshakeError> {
    let tls = actix_rt::time::timeout(limit, TlsAcceptor::from(config).accept(tcp))
        .await
        .map_err(|_| HandshakeError::Timeout)?
        .map_err(HandshakeError::of)?;
    let agreed = if tls.get_ref().1.alpn_protocol() == Some(H2) { Agreed::Http2 } else { Agreed::Http1 };
    Ok((tls, agreed))
}
