//! The certificates that edges show: read from files at the start, and read again when the files change.
//!
//! They are looked at every two seconds rather than watched: a Kubernetes secret is a chain of symbolic links that are
//! swapped, a bind mount may not tell of changes at all, and reading a few kilobytes costs nothing. A pair that cannot be
//! used (half written, of different keys, unreadable) changes nothing: the one before it goes on being shown, and the log
//! and a counter say so. Connections that are open are not touched.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use super::Edges;
use crate::config::EdgeCertificate;

#[cfg(test)]
mod tests;

/// How often files are looked at. 2 s: a new certificate is shown long before anybody asks whether it is.
const PERIOD: Duration = Duration::from_secs(2);
/// Largest file. 256 KiB: a chain of five takes 10.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Why a certificate with its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("reading {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("reading PEM from {}", path.display())]
    Pem { path: PathBuf, source: rustls_pki_types::pem::Error },
    #[error("{} holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("the first certificate in {} cannot be read", path.display())]
    Malformed { path: PathBuf },
    /// It is of another key too.
    #[error("using the key in {} with the certificate in {}", key.display(), certificate.display())]
    Unusable { certificate: PathBuf, key: PathBuf, source: rustls::Error },
}

/// All certificates that the sidecar was given, by name.
#[derive(Debug)]
pub struct Certificates(Vec<Certificate>);

/// One certificate with its key, as it was last read.
#[derive(Debug)]
pub struct Certificate {
    files: EdgeCertificate,
    current: ArcSwap<Pair>,
    loaded: AtomicU64,
    refused: AtomicU64,
}

/// What the files held.
#[derive(Debug)]
struct Pair {
    key: Arc<CertifiedKey>,
    not_after_unix_s: i64,
    read: [u8; 32],
}

/// A certificate, as metrics show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateView {
    pub name: String,
    pub not_after_unix_s: i64,
    /// How often it was read since the start because its files had changed, and what came of it.
    pub loaded: u64,
    pub refused: u64,
}

impl Certificates {
    /// Reads every pair: a sidecar that was told of one and cannot use it does not start.
    pub fn load(given: &[EdgeCertificate]) -> Result<Self, CertificateError> {
        let load = |files: &EdgeCertificate| {
            Ok(Certificate {
                files: files.clone(),
                current: ArcSwap::from_pointee(Pair::read(files)?),
                loaded: AtomicU64::new(0),
                refused: AtomicU64::new(0),
            })
        };
        Ok(Self(given.iter().map(load).collect::<Result<_, CertificateError>>()?))
    }

    /// `None`: no flag names it.
    pub(super) fn current(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let found = self.0.iter().find(|certificate| certificate.files.name == name)?;
        Some(Arc::clone(&found.current.load().key))
    }

    pub fn view(&self) -> Vec<CertificateView> {
        let view = |certificate: &Certificate| CertificateView {
            name: certificate.files.name.clone(),
            not_after_unix_s: certificate.current.load().not_after_unix_s,
            loaded: certificate.loaded.load(Ordering::Relaxed),
            refused: certificate.refused.load(Ordering::Relaxed),
        };
        self.0.iter().map(view).collect()
    }

    /// Reads again what may have changed; the names of those that have. `said` holds each certificate's last complaint,
    /// so that one is logged once.
    fn look(&self, said: &mut [Option<String>]) -> Vec<String> {
        let mut changed = Vec::new();
        for (certificate, said) in self.0.iter().zip(said) {
            let name = &certificate.files.name;
            match Pair::read(&certificate.files) {
                Ok(pair) if pair.read == certificate.current.load().read => *said = None,
                Ok(pair) => {
                    tracing::info!(
                        certificate = name,
                        not_after_unix_s = pair.not_after_unix_s,
                        "read a new certificate"
                    );
                    certificate.current.store(Arc::new(pair));
                    certificate.loaded.fetch_add(1, Ordering::Relaxed);
                    changed.push(name.clone());
                    *said = None;
                }
                Err(error) => {
                    let error = crate::error_chain(&error);
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(
                            certificate = name,
                            error,
                            "cannot use what a certificate's files hold now; the one before is still shown"
                        );
                        certificate.refused.fetch_add(1, Ordering::Relaxed);
                        *said = Some(error);
                    }
                }
            }
        }
        changed
    }
}

/// Looks at the files until the process ends.
pub async fn watch(edges: Rc<Edges>) {
    let certificates = &edges.node.certificates;
    if certificates.0.is_empty() {
        return;
    }
    let mut said = vec![None; certificates.0.len()];
    let mut ticks = actix_rt::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        let changed = certificates.look(&mut said);
        if !changed.is_empty() {
            edges.renew(&changed);
        }
    }
}

impl Pair {
    fn read(files: &EdgeCertificate) -> Result<Self, CertificateError> {
        let EdgeCertificate { certificate, key, .. } = files;
        let (chain_text, key_text) = (bounded(certificate)?, bounded(key)?);
        let read = Sha256::new().chain_update(Sha256::digest(&chain_text)).chain_update(&key_text).finalize();
        let pem = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Pem { path, source }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain_text)
            .collect::<Result<_, _>>()
            .map_err(pem(certificate))?;
        let first =
            chain.first().ok_or_else(|| CertificateError::NoCertificate { path: certificate.clone() })?;
        let not_after_unix_s = x509_parser::parse_x509_certificate(first)
            .map_err(|_| CertificateError::Malformed { path: certificate.clone() })?
            .1
            .validity()
            .not_after
            .timestamp();
        let private = PrivateKeyDer::from_pem_slice(&key_text).map_err(pem(key))?;
        let certified =
            CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider()).map_err(|source| {
                CertificateError::Unusable { certificate: certificate.clone(), key: key.clone(), source }
            })?;
        Ok(Self { key: Arc::new(certified), not_after_unix_s, read: read.into() })
    }
}

fn bounded(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|source| CertificateError::Read { path: path.to_owned(), source })?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(CertificateError::TooLarge { path: path.to_owned() })
    }
}
