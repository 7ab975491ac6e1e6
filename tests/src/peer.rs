//! Somebody who is no sidecar, at either end of a connection between sidecars.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use outrider_shared::names::{ALPN_MESH, header};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::authority::Credentials;
use crate::call::Answer;

static TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// How a peer comes to an inbound port.
#[derive(Debug, Clone)]
pub struct Hello {
    pub credentials: Option<Credentials>,
    pub alpn: Vec<Vec<u8>>,
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl Hello {
    /// As a sidecar does.
    pub fn of(credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), alpn: vec![ALPN_MESH.to_vec()], versions: TLS13 }
    }

    /// A handshake to its end, as far as this side can see it. Whoever answers is believed.
    pub async fn handshake(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(self.versions)
            .expect("the provider has these versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Believes));
        let mut config = match &self.credentials {
            None => builder.with_no_client_auth(),
            Some(Credentials { chain, key }) => builder
                .with_client_auth_cert(chain.clone(), PrivateKeyDer::Pkcs8(key.clone_key()))
                .expect("a key that was made for the chain"),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::IpAddress(address.ip().into()), tcp).await
    }

    /// A request with these headers over HTTP/2; an error where the connection is refused.
    pub async fn request(
        &self,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let tls = self.handshake(address).await.map_err(|error| format!("handshake: {error}"))?;
        let started = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(tls)).await;
        let (mut sender, connection) = started.map_err(|error| format!("HTTP/2: {error:?}"))?;
        tokio::spawn(connection);
        let mut request = Request::builder().uri(format!("http://app.test{path}")).version(Version::HTTP_2);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new()).expect("the case writes legal headers");
        let response = sender.send_request(request).await.map_err(|error| format!("no answer: {error:?}"))?;
        Answer::read(response).await.map_err(|error| format!("{error:?}"))
    }

    /// The header by which a sidecar says what it asks for.
    pub fn target(service_port: &str) -> (&'static str, &str) {
        (header::TARGET, service_port)
    }
}

/// Takes every certificate: these peers want to be judged, not to judge.
#[derive(Debug)]
struct Believes;

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A server at an endpoint's address that shows these credentials, asks for none, and closes what it has accepted once
/// the handshake is over.
pub async fn impostor(address: SocketAddr, credentials: Credentials) -> tokio::task::JoinHandle<()> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(TLS13)
        .expect("the provider has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(credentials.chain, PrivateKeyDer::Pkcs8(credentials.key))
        .expect("a key that was made for the chain");
    config.alpn_protocols = vec![ALPN_MESH.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.expect("the address belongs to this case");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            // However it ends: what matters is what the other side made of it.
            let _ = acceptor.accept(tcp).await;
        }
    })
}
