//! Why a peer's certificates were refused: one closed list, for the log, the metric and the test alike.

use std::io;
use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use crate::{SpiffeId, TrustDomain};

/// Why a peer was refused. The peer is at fault in each; nothing of ours failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    #[error("the peer showed no certificate")]
    NoCertificate,
    #[error("a chain of {got} certificates, and at most {limit} are read")]
    ChainTooLong { got: usize, limit: usize },
    #[error("a certificate of {got} bytes, and at most {limit} are read")]
    CertificateTooLarge { got: usize, limit: usize },
    #[error("a certificate that {why}")]
    BadCertificate { why: &'static str },
    #[error("a certificate expired at {not_after_unix_s} (Unix seconds)")]
    Expired { not_after_unix_s: i64 },
    #[error("a certificate is not valid before {not_before_unix_s} (Unix seconds)")]
    NotYetValid { not_before_unix_s: i64 },
    /// Also a signature that does not fit: another mesh's root may have the name of ours, and a forger's too.
    #[error("no root that is trusted here has signed the chain")]
    UnknownIssuer,
    #[error("a certificate whose extended key usage does not allow this side of a connection")]
    WrongUsage,
    #[error("a name in the chain breaks a name constraint of its issuer")]
    NameConstraint,
    #[error("a CA's certificate is shown as a leaf")]
    CaAsLeaf,
    #[error("the leaf has no URI name")]
    NoUriSan,
    #[error("the leaf has {got} URI names, and a SPIFFE certificate has exactly one")]
    ManyUriSans { got: usize },
    #[error("the leaf's URI name {given:?} is no SPIFFE ID: it {why}")]
    BadSpiffeId { given: String, why: &'static str },
    /// Where the issuer is unknown too, the name is claimed, not proved: it says only why no issuer could be found.
    #[error("the leaf belongs to the trust domain {got:?}, not to {expected}")]
    ForeignTrustDomain { expected: TrustDomain, got: String },
    #[error("the peer proved to be {got}, and {expected} was expected")]
    UnexpectedIdentity { expected: SpiffeId, got: SpiffeId },
    #[error("no certificate of the chain has the pinned key")]
    PinNotFound,
}

impl PeerRefusal {
    /// The label under which it is counted.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::ChainTooLong { .. } => "chain_too_long",
            Self::CertificateTooLarge { .. } => "certificate_too_large",
            Self::BadCertificate { .. } => "bad_certificate",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongUsage => "wrong_usage",
            Self::NameConstraint => "name_constraint",
            Self::CaAsLeaf => "ca_as_leaf",
            Self::NoUriSan => "no_uri_san",
            Self::ManyUriSans { .. } => "many_uri_sans",
            Self::BadSpiffeId { .. } => "bad_spiffe_id",
            Self::ForeignTrustDomain { .. } => "foreign_trust_domain",
            Self::UnexpectedIdentity { .. } => "unexpected_identity",
            Self::PinNotFound => "pin_not_found",
        }
    }

    /// As what a verifier returns to rustls, which sends the peer an alert without the details.
    pub(super) fn into_rustls(self) -> rustls::Error {
        CertificateError::Other(OtherError(Arc::new(self))).into()
    }
}

impl From<webpki::Error> for PeerRefusal {
    fn from(error: webpki::Error) -> Self {
        let bad = |why| Self::BadCertificate { why };
        match error {
            webpki::Error::CertExpired { not_after, .. } => {
                Self::Expired { not_after_unix_s: unix_s(not_after.as_secs()) }
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                Self::NotYetValid { not_before_unix_s: unix_s(not_before.as_secs()) }
            }
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => Self::UnknownIssuer,
            webpki::Error::SignatureAlgorithmMismatch => bad("names two signature algorithms"),
            webpki::Error::EmptyEkuExtension | webpki::Error::RequiredEkuNotFoundContext(_) => {
                Self::WrongUsage
            }
            webpki::Error::NameConstraintViolation => Self::NameConstraint,
            webpki::Error::CaUsedAsEndEntity => Self::CaAsLeaf,
            webpki::Error::EndEntityUsedAsCa => bad("signs another one without being a CA's"),
            webpki::Error::PathLenConstraintViolated => bad("stands below more CAs than its issuer allows"),
            webpki::Error::UnsupportedCertVersion => bad("is not of version 3"),
            webpki::Error::UnsupportedCriticalExtension => bad("has a critical extension that is not known"),
            webpki::Error::InvalidSerialNumber => bad("has a serial number that is not allowed"),
            webpki::Error::InvalidCertValidity => bad("ends before it begins"),
            webpki::Error::MaximumNameConstraintComparisonsExceeded
            | webpki::Error::MaximumPathBuildCallsExceeded
            | webpki::Error::MaximumPathDepthExceeded
            | webpki::Error::MaximumSignatureChecksExceeded => bad("costs too much to verify"),
            webpki::Error::UnsupportedSignatureAlgorithmContext(_)
            | webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                bad("is signed by an algorithm that is not accepted")
            }
            // The library's list is open: whatever it adds is still a certificate that cannot be used.
            _ => bad("cannot be read"),
        }
    }
}

fn unix_s(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// The refusal inside a TLS error, where one of our verifiers made it.
pub fn peer_refusal(error: &rustls::Error) -> Option<PeerRefusal> {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
            inner.downcast_ref::<PeerRefusal>().cloned()
        }
        rustls::Error::NoCertificatesPresented => Some(PeerRefusal::NoCertificate),
        _ => None,
    }
}

/// The same for what tokio-rustls returns: the TLS error lies in an [`io::Error`].
pub fn peer_refusal_of_io(error: &io::Error) -> Option<PeerRefusal> {
    error.get_ref()?.downcast_ref::<rustls::Error>().and_then(peer_refusal)
}
