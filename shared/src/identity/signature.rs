//! Whether a snapshot comes from the control plane, as it arrives and as it is read from disk.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;
use webpki::aws_lc_rs::ECDSA_P256_SHA256;

use super::bundle::TrustBundle;
use super::chain::{self, Usage};
use super::refusal::PeerRefusal;
use crate::SpiffeId;
use crate::snapshot::{SIGNING_CONTEXT, SNAPSHOT_BYTES_MAX, SignedSnapshot, Snapshot};

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotRefusal {
    #[error("a snapshot of {got} bytes, and at most {limit} are read")]
    TooLarge { got: usize, limit: usize },
    #[error("the snapshot's {what} is not in base64")]
    Encoding { what: &'static str },
    #[error("the snapshot's signer is not this mesh's control plane")]
    Signer(#[source] PeerRefusal),
    #[error("the snapshot's signature does not fit: its content is not what the control plane signed")]
    Signature,
    #[error("the snapshot has a form that this version does not know")]
    Form(#[source] serde_json::Error),
}

/// The snapshot, if the control plane of the bundle's trust domain signed exactly these bytes, with a certificate that
/// is valid now. Nothing in the body is read before its signature is verified.
pub fn verify_snapshot(
    signed: &SignedSnapshot,
    bundle: &TrustBundle,
    now: UnixTime,
) -> Result<Snapshot, SnapshotRefusal> {
    if signed.body.len() > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotRefusal::TooLarge { got: signed.body.len(), limit: SNAPSHOT_BYTES_MAX });
    }
    let chain = signer_chain(signed)?;
    let (certificate, intermediates) =
        chain.split_first().ok_or(SnapshotRefusal::Signer(PeerRefusal::NoCertificate))?;
    let got = chain::verify_peer(certificate, intermediates, bundle, Usage::Signer, now)
        .map_err(SnapshotRefusal::Signer)?;
    let expected = SpiffeId::of_control_plane(bundle.trust_domain());
    if got != expected {
        return Err(SnapshotRefusal::Signer(PeerRefusal::UnexpectedIdentity { expected, got }));
    }
    let signature = BASE64_STANDARD
        .decode(&signed.signature)
        .map_err(|_| SnapshotRefusal::Encoding { what: "signature" })?;
    let message = [SIGNING_CONTEXT, signed.body.as_bytes()].concat();
    EndEntityCert::try_from(certificate)
        .and_then(|certificate| certificate.verify_signature(ECDSA_P256_SHA256, &message, &signature))
        .map_err(|_| SnapshotRefusal::Signature)?;
    serde_json::from_str(&signed.body).map_err(SnapshotRefusal::Form)
}

/// Bounded before it is decoded.
fn signer_chain(signed: &SignedSnapshot) -> Result<Vec<CertificateDer<'static>>, SnapshotRefusal> {
    let limit = chain::INTERMEDIATES_MAX + 1;
    if signed.signer.len() > limit {
        let refusal = PeerRefusal::ChainTooLong { got: signed.signer.len(), limit };
        return Err(SnapshotRefusal::Signer(refusal));
    }
    signed
        .signer
        .iter()
        .map(|text| BASE64_STANDARD.decode(text).map(CertificateDer::from))
        .collect::<Result<_, _>>()
        .map_err(|_| SnapshotRefusal::Encoding { what: "signer" })
}
