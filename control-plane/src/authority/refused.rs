//! Why the authority gives nothing, and how the API says so.

use outrider_shared::{ServiceId, SidecarId};

use super::pki::PkiError;
use crate::store::StoreError;

/// Why a request was refused. The caller's fault in all but the last two.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the credential is not known here")]
    UnknownCredential,
    #[error("no credential has this id: the audit trail lists those that were minted")]
    NoCredential,
    #[error("the token was used already, by sidecar {by}: mint another with outrider token create")]
    TokenUsed { by: SidecarId },
    #[error("the credential expired: mint another")]
    Expired,
    #[error("the credential was revoked")]
    Revoked,
    #[error("the credential is bound to {bound}, and {asked} asked to join with it")]
    OtherService { bound: ServiceId, asked: ServiceId },
    #[error("no document declares the service {0}")]
    UndeclaredService(ServiceId),
    #[error("the sidecar is not known here: join again")]
    UnknownInstance,
    #[error("the instance credential was not used for 30 days: join again")]
    InstanceExpired,
    #[error("the proof is not by the instance's key")]
    BadProof,
    #[error("the request is malformed: {0}")]
    Malformed(&'static str),
    #[error("{0} credentials are good still, and no more are kept: revoke some, then mint again")]
    TooMany(usize),
    #[error("{0} sidecars may renew their leaf still, and no more are kept: try again in some days")]
    TooManyInstances(usize),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    /// Status and title of the problem document.
    pub fn status(&self) -> (u16, &'static str) {
        match self {
            Self::UnknownCredential | Self::BadProof => (401, "Credential refused"),
            Self::TokenUsed { .. } => (409, "Token used"),
            Self::Expired | Self::Revoked | Self::InstanceExpired => (401, "Credential void"),
            Self::OtherService { .. } => (403, "Bound to another service"),
            Self::UndeclaredService(_) => (404, "No such service"),
            Self::NoCredential => (404, "No such credential"),
            Self::UnknownInstance => (404, "No such sidecar"),
            Self::Malformed(_) | Self::Pki(PkiError::Request { .. }) => (400, "Malformed request"),
            Self::TooMany(_) => (429, "Too many credentials"),
            Self::TooManyInstances(_) => (429, "Too many sidecars"),
            Self::Pki(PkiError::OpenSsl(_)) | Self::Store(_) => (500, "The control plane failed"),
        }
    }
}
