//! Builds a path from a leaf to a root of the bundle, without a look at any name.
//!
//! webpki searches the path and verifies signatures, validity, usages and constraints, within its own budgets against
//! chains made to be expensive. What RFC 5280 asks beyond that is [`profile`]'s.

use std::cell::RefCell;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, VerifiedPath};

use super::bundle::TrustBundle;
use super::profile::{self, Role};
use super::refusal::PeerRefusal;
use super::spiffe;
use crate::SpiffeId;

/// Most certificates beside the leaf. The mesh's own chains have one; 8 leaves room for a company's CA above it.
pub const INTERMEDIATES_MAX: usize = 8;
/// Largest certificate, in bytes. The mesh's own have less than 1 KiB; a large RSA one with long names stays below 8.
pub const CERTIFICATE_BYTES_MAX: usize = 8 << 10;

/// What the leaf is used for here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The peer opened the connection.
    Client,
    /// The peer accepted the connection.
    Server,
    /// It signed something; no extended key usage is asked for.
    Signer,
}

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, ids: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self {
            Self::Client => KeyUsage::client_auth().validate(ids),
            Self::Server => KeyUsage::server_auth().validate(ids),
            Self::Signer => Ok(()),
        }
    }
}

/// Who the peer is: its chain ends in a root of the bundle, and its one name belongs to the bundle's trust domain.
pub fn verify_peer(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    usage: Usage,
    now: UnixTime,
) -> Result<SpiffeId, PeerRefusal> {
    match verify_path(leaf, intermediates, bundle, usage, now) {
        Ok(()) => spiffe::identity_of(leaf, bundle.trust_domain()),
        // Another mesh's peer comes with another mesh's root: say the cause, not the symptom.
        Err(PeerRefusal::UnknownIssuer) => match spiffe::identity_of(leaf, bundle.trust_domain()) {
            Err(foreign @ PeerRefusal::ForeignTrustDomain { .. }) => Err(foreign),
            _ => Err(PeerRefusal::UnknownIssuer),
        },
        Err(refusal) => Err(refusal),
    }
}

/// Whether some path from the leaf to a root of the bundle holds. Says nothing about names.
pub fn verify_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    bundle: &TrustBundle,
    usage: Usage,
    now: UnixTime,
) -> Result<(), PeerRefusal> {
    if intermediates.len() > INTERMEDIATES_MAX {
        return Err(PeerRefusal::ChainTooLong { got: intermediates.len() + 1, limit: INTERMEDIATES_MAX + 1 });
    }
    for certificate in std::iter::once(leaf).chain(intermediates) {
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return Err(PeerRefusal::CertificateTooLarge {
                got: certificate.len(),
                limit: CERTIFICATE_BYTES_MAX,
            });
        }
    }
    let end_entity = EndEntityCert::try_from(leaf)?;
    profile::check(leaf, Role::Leaf, now)?;
    // webpki goes on to other paths when one is refused, and knows only its own errors: ours is kept beside.
    let refused_path = RefCell::new(None);
    let fits = |path: &VerifiedPath<'_>| {
        check_path(path, bundle, now).map_err(|refusal| {
            refused_path.replace(Some(refusal));
            webpki::Error::UnknownIssuer
        })
    };
    end_entity
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            bundle.anchors(),
            intermediates,
            now,
            usage,
            None,
            Some(&fits),
        )
        .map(|_| ())
        .map_err(|error| refused_path.take().unwrap_or_else(|| error.into()))
}

/// The profile of every CA of a path that webpki has found.
fn check_path(path: &VerifiedPath<'_>, bundle: &TrustBundle, now: UnixTime) -> Result<(), PeerRefusal> {
    for intermediate in path.intermediate_certificates() {
        profile::check(&intermediate.der(), Role::Intermediate, now)?;
    }
    // Two roots may share name and key, as before and after a renewal: one that is fit is enough.
    let mut refusal = PeerRefusal::UnknownIssuer;
    for (root, anchor) in bundle.roots().iter().zip(bundle.anchors()) {
        if anchor == path.anchor() {
            match profile::check(root, Role::Root, now) {
                Ok(()) => return Ok(()),
                Err(unfit) => refusal = unfit,
            }
        }
    }
    Err(refusal)
}
