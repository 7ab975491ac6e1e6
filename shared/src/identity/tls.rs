//! The TLS settings of each kind of connection: TLS 1.3 only, no resumption, no tickets, aws-lc-rs by name.
//!
//! A resumed session would keep an identity that has since been withdrawn, and would pass over the verifiers. The
//! provider is passed explicitly: a default of the process belongs to whoever sets it first.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::bundle::TrustBundle;
use super::credential::JoinCredential;
use super::material::Material;
use super::verifiers::{ClientAuth, MeshClientVerifier, MeshServerVerifier, PinnedRootVerifier};
use crate::SpiffeId;
use crate::names::{ALPN_CONTROL, ALPN_MESH};

/// Between sidecars, the side that connects; the peer must be `expected`.
pub fn mesh_client_config(material: &Material, expected: &SpiffeId) -> Arc<ClientConfig> {
    let verifier = MeshServerVerifier::new(material.bundle.clone(), expected.clone());
    client_config(Arc::new(verifier), Some(material), ALPN_MESH)
}

/// Between sidecars, the side that accepts; the peer must be of the trust domain.
pub fn mesh_server_config(material: &Material) -> Arc<ServerConfig> {
    server_config(material, ClientAuth::Mandatory, ALPN_MESH)
}

/// Towards the control plane. Without material: for renewal, when the leaf may have expired.
pub fn control_client_config(bundle: &Arc<TrustBundle>, material: Option<&Material>) -> Arc<ClientConfig> {
    let expected = SpiffeId::of_control_plane(bundle.trust_domain());
    let verifier = MeshServerVerifier::new(bundle.clone(), expected);
    client_config(Arc::new(verifier), material, ALPN_CONTROL)
}

/// The control plane's port. Join and renewal come without a certificate; one that is shown must hold. The chain must
/// include the root, by which a sidecar that joins finds the pinned key.
pub fn control_server_config(material: &Material) -> Arc<ServerConfig> {
    server_config(material, ClientAuth::Optional, ALPN_CONTROL)
}

/// First contact: nothing is known but the pin.
pub fn join_client_config(credential: &JoinCredential) -> Arc<ClientConfig> {
    let verifier = PinnedRootVerifier::new(credential.trust_domain.clone(), credential.root_pin);
    client_config(Arc::new(verifier), None, ALPN_CONTROL)
}

/// Key exchange in the library's order, which begins with X25519MLKEM768.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn client_config(
    verifier: Arc<dyn ServerCertVerifier>,
    material: Option<&Material>,
    alpn: &[u8],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match material {
        Some(material) => builder
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified_key.clone()))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    // Names are not what is verified here, and one in clear says where a connection goes.
    config.enable_sni = false;
    Arc::new(config)
}

fn server_config(material: &Material, auth: ClientAuth, alpn: &[u8]) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .with_client_cert_verifier(Arc::new(MeshClientVerifier::new(material.bundle.clone(), auth)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified_key.clone())));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Arc::new(config)
}
