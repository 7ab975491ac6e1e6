//! TLS towards a collector: by whose roots it is believed, and which certificate it is shown if it asks for one.
//!
//! One connector for both protocols, so that they believe the same. Files are read once, at the start: they are the
//! operator's, not the mesh's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::Protocol;

pub(super) type Connector = HttpsConnector<HttpConnector>;

/// Files in PEM that `https://` to a collector needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `None`: the platform's roots.
    pub roots: Option<PathBuf>,
    /// For a collector that asks who exports.
    pub client: Option<ClientFiles>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFiles {
    /// The leaf first, then what leads to a root.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Why `https://` to a collector cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("reading the PEM file {} for the exporter's TLS", path.display())]
    File { path: PathBuf, source: pem::Error },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("a root certificate of {}", path.display())]
    Root { path: PathBuf, source: rustls::Error },
    #[error(
        "this machine has no root certificates: name the collector's with OTEL_EXPORTER_OTLP_CERTIFICATE"
    )]
    NoPlatformRoots,
    #[error("the exporter's certificate in {} with its key", path.display())]
    Client { path: PathBuf, source: rustls::Error },
    #[error("setting up TLS for the exporter")]
    Versions(#[source] rustls::Error),
}

/// What opens connections to a collector at `https://`.
pub(super) fn connector(protocol: Protocol, files: &TlsFiles) -> Result<Connector, TlsError> {
    let roots = match &files.roots {
        Some(path) => given_roots(path)?,
        None => platform_roots()?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Versions)?
        .with_root_certificates(roots);
    let config = match &files.client {
        None => config.with_no_client_auth(),
        Some(ClientFiles { chain, key }) => {
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|source| TlsError::File { path: key.clone(), source })?;
            config
                .with_client_auth_cert(certificates(chain)?, private)
                .map_err(|source| TlsError::Client { path: chain.clone(), source })?
        }
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
    Ok(match protocol {
        Protocol::HttpProtobuf => builder.enable_http1().build(),
        Protocol::Grpc => builder.enable_http2().build(),
    })
}

fn given_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(path)? {
        roots.add(root).map_err(|source| TlsError::Root { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

/// A certificate among the platform's that cannot be read is passed over, as other programs do.
fn platform_roots() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(
            error = crate::error_chain(error),
            "a root certificate of the platform is passed over"
        );
    }
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 { Err(TlsError::NoPlatformRoots) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(failed)?.collect();
    let all = all.map_err(failed)?;
    if all.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(all) }
}
