//! The roots that a member of the mesh trusts.

use std::fmt;

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::profile;
use crate::TrustDomain;

/// Most roots in a bundle. A rotation needs two at a time; 16 leaves room for several that overlap.
pub const ROOTS_MAX: usize = 16;

/// The roots of one trust domain. Made once, shared by every handshake.
#[derive(Clone)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    roots: Vec<CertificateDer<'static>>,
    /// Of `roots`, in the same order.
    anchors: Vec<TrustAnchor<'static>>,
}

/// Why a list of roots is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("a trust bundle without a root")]
    Empty,
    #[error("a trust bundle of {got} roots, and at most {limit} are kept")]
    TooMany { got: usize, limit: usize },
    #[error("root {index} of the trust bundle cannot be read")]
    Root {
        index: usize,
        #[source]
        source: webpki::Error,
    },
}

impl TrustBundle {
    /// Whether each root is fit to sign is judged with the path that ends in it, so that one that is not does no harm
    /// to the others.
    pub fn new(trust_domain: TrustDomain, roots: Vec<CertificateDer<'static>>) -> Result<Self, BundleError> {
        if roots.is_empty() {
            return Err(BundleError::Empty);
        }
        if roots.len() > ROOTS_MAX {
            return Err(BundleError::TooMany { got: roots.len(), limit: ROOTS_MAX });
        }
        let anchors = roots
            .iter()
            .enumerate()
            .map(|(index, root)| {
                webpki::anchor_from_trusted_cert(root)
                    .map(|anchor| anchor.to_owned())
                    .map_err(|source| BundleError::Root { index, source })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { trust_domain, roots, anchors })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// DER of each root.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Whether a root has this SHA-256 of its key, as join credentials pin it.
    pub fn has_pin(&self, pin: &[u8; 32]) -> bool {
        self.roots.iter().any(|root| profile::spki_pin(root).is_ok_and(|own| own == *pin))
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && self.roots == other.roots
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({}, {} roots)", self.trust_domain, self.roots.len())
    }
}
