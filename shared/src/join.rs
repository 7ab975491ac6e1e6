//! How a sidecar gets its first certificate and its next ones: JSON over HTTPS on the control port.
//!
//! `POST /v1/join` needs a join credential, `POST /v1/renew` an instance credential; neither needs a client certificate.
//! An error is answered with `application/problem+json` ([`Problem`]).

use serde::{Deserialize, Serialize};

use crate::{ServiceId, SidecarId};

/// Without `Debug`, since it holds a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The `secret` part of a [`crate::identity::JoinCredential`], with its id.
    pub credential_id: String,
    pub secret: String,
    /// What the sidecar believes to be; must be what the credential is bound to.
    pub service: ServiceId,
    /// Public half of the instance key (SPKI, DER, base64), P-256, P-384 or Ed25519: the instance credential is bound to it.
    pub instance_key: String,
    /// PKCS#10, DER, base64. Only its public key and its proof of possession count.
    pub csr: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAnswer {
    pub sidecar: SidecarId,
    /// Opaque; shown at renewal. Valid for 30 days from its last use.
    pub instance_credential: String,
    pub leaf: Leaf,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    pub sidecar: SidecarId,
    pub instance_credential: String,
    /// PKCS#10 of the next leaf's key, DER, base64.
    pub csr: String,
    /// Signature by the instance key over [`RENEW_CONTEXT`] and the CSR's DER, in base64: ECDSA with SHA-256 in ASN.1 DER,
    /// or Ed25519.
    /// A replay gains nothing: the leaf's private key is needed to use the answer.
    pub proof: String,
}

pub const RENEW_CONTEXT: &[u8] = b"outrider renew v1\0";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaf {
    /// DER in base64: the leaf, then the intermediate.
    pub chain: Vec<String>,
    /// DER in base64: the roots to trust from now on.
    pub bundle: Vec<String>,
    pub not_after_unix_s: i64,
}

/// RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
