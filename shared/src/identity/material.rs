//! A member's own certificate and key, ready for handshakes.

use std::fmt::{self, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};

use super::bundle::TrustBundle;
use super::chain::{self, Usage};
use super::refusal::PeerRefusal;
use super::{profile, spiffe};
use crate::SpiffeId;
use crate::session::LeafView;

/// A leaf, its chain and key, and the roots by which peers are judged. Immutable: a renewal makes a new one.
#[derive(Clone)]
pub struct Material {
    pub identity: SpiffeId,
    pub certified_key: Arc<CertifiedKey>,
    pub bundle: Arc<TrustBundle>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    /// Lower-case hex.
    pub serial: String,
}

/// Why a chain and key are of no use to their owner.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    #[error("a chain without a certificate")]
    Empty,
    #[error("the leaf is none of the mesh's")]
    Leaf(#[source] PeerRefusal),
    #[error("the private key cannot be used with the leaf")]
    Key(#[source] rustls::Error),
}

impl Material {
    /// `chain`: the leaf, then its intermediates. An expired leaf is taken, since it can still be renewed;
    /// [`Material::verify`] says whether peers will accept it.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivatePkcs8KeyDer<'static>,
        bundle: Arc<TrustBundle>,
    ) -> Result<Self, MaterialError> {
        let leaf = chain.first().ok_or(MaterialError::Empty)?;
        let identity = spiffe::identity_of(leaf, bundle.trust_domain()).map_err(MaterialError::Leaf)?;
        let (not_before, not_after, serial) = {
            let certificate = profile::parse(leaf).map_err(MaterialError::Leaf)?;
            let validity = certificate.validity();
            (
                unix_time(validity.not_before.timestamp()),
                unix_time(validity.not_after.timestamp()),
                hex(certificate.raw_serial()),
            )
        };
        let certified_key =
            CertifiedKey::from_der(chain, PrivateKeyDer::Pkcs8(key), &aws_lc_rs::default_provider())
                .map_err(MaterialError::Key)?;
        Ok(Self { identity, certified_key: Arc::new(certified_key), bundle, not_before, not_after, serial })
    }

    /// Whether a peer with the same bundle accepts the leaf now, at either end of a connection.
    pub fn verify(&self, now: UnixTime) -> Result<(), PeerRefusal> {
        let (leaf, intermediates) = self.certified_key.cert.split_first().expect("checked when it was made");
        for usage in [Usage::Client, Usage::Server] {
            chain::verify_peer(leaf, intermediates, &self.bundle, usage, now)?;
        }
        Ok(())
    }

    /// As reports and the admin port show it.
    pub fn view(&self) -> LeafView {
        let unix_s = |time: UnixTime| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        LeafView {
            identity: self.identity.clone(),
            serial: self.serial.clone(),
            not_before_unix_s: unix_s(self.not_before),
            not_after_unix_s: unix_s(self.not_after),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes whatever is written");
        text
    })
}

/// Times before 1970 count as 1970.
fn unix_time(unix_s: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(unix_s).unwrap_or(0)))
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("identity", &self.identity.as_str())
            .field("serial", &self.serial)
            .field("not_after_unix_s", &self.not_after.as_secs())
            .finish_non_exhaustive()
    }
}
