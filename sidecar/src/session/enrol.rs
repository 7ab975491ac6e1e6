//! Getting the first leaf, and each next one.
//!
//! The key of a leaf never leaves the sidecar, and every leaf has a new one. The instance key is made at joining, and
//! only signs the proof by which a leaf is renewed.

use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, SendRequestError};
use awc::http::StatusCode;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outrider_shared::identity::{
    JoinCredential, Material, MaterialError, PeerRefusal, TrustBundle, control_client_config,
    join_client_config, peer_refusal_of_io,
};
use outrider_shared::join::{JoinAnswer, JoinRequest, Leaf, Problem, RENEW_CONTEXT, RenewRequest};
use outrider_shared::{ServiceId, TrustDomain};
use rcgen::{CertificateParams, KeyPair, PublicKeyData, SigningKey};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::{StoreError, StoredIdentity};

/// Name in the URL of every control plane. Nothing resolves it: the address is dialled, and the SPIFFE ID verified.
pub(super) const AUTHORITY: &str = "control-plane";
/// One request, from the name's resolution to the answer's end. A healthy control plane takes milliseconds.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Largest answer, in bytes: a chain and a bundle take less than 32 KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Addresses of one name that are tried: a name with more is no control plane's.
const ADDRESSES_MAX: usize = 8;

/// Why a leaf was not had.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("cannot reach the control plane at {control_plane}: {why}")]
    Unreachable { control_plane: String, why: String },
    /// Not fatal: the right one may come back to this address.
    #[error("what answers at {control_plane} is not this mesh's control plane")]
    Peer {
        control_plane: String,
        #[source]
        refusal: PeerRefusal,
    },
    #[error("the control plane at {control_plane} answered {status}: {title}{next}", next = next_step(*status, *asked))]
    Refused { control_plane: String, status: u16, title: String, asked: Asked },
    #[error("the control plane at {control_plane} gave an answer that this version does not know: {why}")]
    Answer { control_plane: String, why: String },
    #[error("the leaf that the control plane gave cannot be used")]
    Leaf(#[source] MaterialError),
    #[error("the leaf that the control plane gave would be refused by every peer")]
    LeafRefused(#[source] PeerRefusal),
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
    #[error("the identity cannot be kept")]
    Store(#[from] StoreError),
}

/// What the control plane was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Join,
    Renew,
}

impl Asked {
    fn path(self) -> &'static str {
        match self {
            Self::Join => "/v1/join",
            Self::Renew => "/v1/renew",
        }
    }
}

/// What to do about a refusal, for the one who reads the log.
fn next_step(status: u16, asked: Asked) -> &'static str {
    match (status, asked) {
        (404, Asked::Join) => "; declare the service in the policy, then start this sidecar again",
        (401 | 403 | 409 | 410, Asked::Join) => {
            "; a token is good for one sidecar of one service: mint another one with `outrider token create`, or use \
             a join secret"
        }
        (401 | 403 | 404 | 409 | 410, Asked::Renew) => {
            "; the control plane no longer knows this sidecar: empty its data directory and join anew"
        }
        _ => "",
    }
}

impl EnrolError {
    /// Whether asking again in the same way could help.
    pub fn is_final(&self) -> bool {
        match self {
            // 408, 425 and 429 ask for patience.
            Self::Refused { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 425 | 429),
            Self::Unreachable { .. }
            | Self::Peer { .. }
            | Self::Answer { .. }
            | Self::Leaf(_)
            | Self::LeafRefused(_)
            | Self::Key(_)
            | Self::Store(_) => false,
        }
    }
}

/// Spends the join credential.
pub(super) async fn join(
    control_plane: &str,
    credential: &JoinCredential,
    service: &ServiceId,
) -> Result<(StoredIdentity, Material), EnrolError> {
    let (instance_key, leaf_key) = (new_key()?, new_key()?);
    let request = JoinRequest {
        credential_id: credential.id.clone(),
        secret: credential.secret.clone(),
        service: service.clone(),
        instance_key: BASE64_STANDARD.encode(instance_key.subject_public_key_info()),
        csr: BASE64_STANDARD.encode(request_for(&leaf_key)?),
    };
    let answer: JoinAnswer =
        post(control_plane, join_client_config(credential), Asked::Join, &request).await?;
    let identity = StoredIdentity {
        sidecar: answer.sidecar,
        service: service.clone(),
        trust_domain: credential.trust_domain.clone(),
        instance_credential: answer.instance_credential,
        instance_key: BASE64_STANDARD.encode(instance_key.serialized_der()),
        leaf: answer.leaf,
        leaf_key: BASE64_STANDARD.encode(leaf_key.serialized_der()),
    };
    let material = fresh_material(&identity)?;
    Ok((identity, material))
}

/// Shows the instance credential. Needs no valid leaf: a sidecar that slept for a week comes back by itself.
pub(super) async fn renew(
    control_plane: &str,
    identity: &StoredIdentity,
    bundle: &Arc<TrustBundle>,
) -> Result<(StoredIdentity, Material), EnrolError> {
    let leaf_key = new_key()?;
    let csr = request_for(&leaf_key)?;
    let instance_key = stored_key(&identity.instance_key)?;
    let proof = instance_key.sign(&[RENEW_CONTEXT, csr.as_slice()].concat()).map_err(EnrolError::Key)?;
    let request = RenewRequest {
        sidecar: identity.sidecar.clone(),
        instance_credential: identity.instance_credential.clone(),
        csr: BASE64_STANDARD.encode(&csr),
        proof: BASE64_STANDARD.encode(proof),
    };
    let leaf: Leaf = post(control_plane, control_client_config(bundle, None), Asked::Renew, &request).await?;
    let identity = StoredIdentity {
        leaf,
        leaf_key: BASE64_STANDARD.encode(leaf_key.serialized_der()),
        ..identity.clone()
    };
    let material = fresh_material(&identity)?;
    Ok((identity, material))
}

/// The identity in the form that handshakes need. An expired leaf is taken.
pub(super) fn material_of(identity: &StoredIdentity) -> Result<Material, EnrolError> {
    let bundle = Arc::new(bundle_of(&identity.trust_domain, &identity.leaf)?);
    let chain = certificates(&identity.leaf.chain)?;
    let key = BASE64_STANDARD.decode(&identity.leaf_key).map_err(|_| bad_store("its leaf key"))?;
    Material::from_der(chain, PrivatePkcs8KeyDer::from(key), bundle).map_err(EnrolError::Leaf)
}

fn fresh_material(identity: &StoredIdentity) -> Result<Material, EnrolError> {
    let material = material_of(identity)?;
    material.verify(UnixTime::now()).map_err(EnrolError::LeafRefused)?;
    Ok(material)
}

fn bundle_of(trust_domain: &TrustDomain, leaf: &Leaf) -> Result<TrustBundle, EnrolError> {
    let roots = certificates(&leaf.bundle)?;
    TrustBundle::new(trust_domain.clone(), roots).map_err(|error| bad_store(&error.to_string()))
}

fn certificates(texts: &[String]) -> Result<Vec<CertificateDer<'static>>, EnrolError> {
    texts
        .iter()
        .map(|text| BASE64_STANDARD.decode(text).map(CertificateDer::from))
        .collect::<Result<_, _>>()
        .map_err(|_| bad_store("a certificate that is not in base64"))
}

fn bad_store(why: &str) -> EnrolError {
    EnrolError::Store(StoreError::Identity { why: why.to_owned() })
}

/// P-256, as everything that the mesh signs with.
fn new_key() -> Result<KeyPair, EnrolError> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(EnrolError::Key)
}

fn stored_key(text: &str) -> Result<KeyPair, EnrolError> {
    let der = BASE64_STANDARD.decode(text).map_err(|_| bad_store("its instance key"))?;
    KeyPair::try_from(der).map_err(EnrolError::Key)
}

/// A CSR says which key, and that its holder asks. The control plane decides everything else.
fn request_for(key: &KeyPair) -> Result<Vec<u8>, EnrolError> {
    let request = CertificateParams::default().serialize_request(key).map_err(EnrolError::Key)?;
    Ok(request.der().to_vec())
}

/// A client for one connection, made anew each time: the TLS settings change with each leaf.
pub(super) fn client(tls: Arc<ClientConfig>) -> awc::Client {
    awc::Client::builder()
        .connector(awc::Connector::new().rustls_0_23(tls))
        .timeout(REQUEST_MAX)
        .disable_redirects()
        .finish()
}

/// Where `host:port` is, in the resolver's order.
pub(super) async fn addresses(control_plane: &str) -> Result<Vec<std::net::SocketAddr>, EnrolError> {
    let unreachable = |why: String| EnrolError::Unreachable { control_plane: control_plane.to_owned(), why };
    let found = tokio::time::timeout(REQUEST_MAX, tokio::net::lookup_host(control_plane))
        .await
        .map_err(|_| unreachable("its name is not resolved in time".to_owned()))?
        .map_err(|error| unreachable(format!("its name is not resolved: {error}")))?;
    let found: Vec<_> = found.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(unreachable("its name has no address".to_owned())) } else { Ok(found) }
}

/// Asks at each address of one control plane until one answers. Dropped at any point it leaves nothing behind here; a
/// token that the other end has spent stays spent.
async fn post<Q: Serialize, A: DeserializeOwned>(
    control_plane: &str,
    tls: Arc<ClientConfig>,
    asked: Asked,
    request: &Q,
) -> Result<A, EnrolError> {
    let client = client(tls);
    let url = format!("https://{AUTHORITY}{}", asked.path());
    let mut failed = None;
    for address in addresses(control_plane).await? {
        match client.post(&url).address(address).send_json(request).await {
            Err(error) => failed = Some(unreached(control_plane, &error)),
            Ok(mut answer) => {
                let body =
                    answer.body().limit(ANSWER_BYTES_MAX).await.map_err(|error| EnrolError::Unreachable {
                        control_plane: control_plane.to_owned(),
                        why: error.to_string(),
                    })?;
                return read(control_plane, answer.status(), asked, &body);
            }
        }
    }
    Err(failed.expect("a name has at least one address"))
}

fn read<A: DeserializeOwned>(
    control_plane: &str,
    status: StatusCode,
    asked: Asked,
    body: &[u8],
) -> Result<A, EnrolError> {
    let control_plane = control_plane.to_owned();
    if status == StatusCode::OK {
        return serde_json::from_slice(body)
            .map_err(|error| EnrolError::Answer { control_plane, why: error.to_string() });
    }
    let title = match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { title, detail: Some(detail), .. }) => format!("{title} ({detail})"),
        Ok(Problem { title, .. }) => title,
        Err(_) => status.canonical_reason().unwrap_or("no reason given").to_owned(),
    };
    Err(EnrolError::Refused { control_plane, status: status.as_u16(), title, asked })
}

/// awc keeps causes out of `source`; the one that matters is who was at the other end.
pub(super) fn unreached(control_plane: &str, error: &SendRequestError) -> EnrolError {
    let control_plane = control_plane.to_owned();
    let io = match error {
        SendRequestError::Connect(ConnectError::Io(io)) | SendRequestError::Send(io) => Some(io),
        _ => None,
    };
    match io.and_then(peer_refusal_of_io) {
        Some(refusal) => EnrolError::Peer { control_plane, refusal },
        None => EnrolError::Unreachable { control_plane, why: error.to_string() },
    }
}
