//! [`chain::verify_peer`] in the shape in which rustls calls it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::bundle::TrustBundle;
use super::chain::{self, Usage};
use super::profile;
use super::refusal::PeerRefusal;
use crate::{SpiffeId, TrustDomain};

/// For the side that connects: the peer must be exactly `expected`.
#[derive(Debug)]
pub struct MeshServerVerifier {
    bundle: Arc<TrustBundle>,
    expected: SpiffeId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MeshServerVerifier {
    pub fn new(bundle: Arc<TrustBundle>, expected: SpiffeId) -> Self {
        Self { bundle, expected, algorithms: algorithms() }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefusal> {
        expect(&self.expected, chain::verify_peer(leaf, intermediates, &self.bundle, Usage::Server, now)?)
    }
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    Mandatory,
    /// One that is shown must hold; on the control port, join and renewal come without.
    Optional,
}

/// For the side that accepts: any identity of the trust domain.
#[derive(Debug)]
pub struct MeshClientVerifier {
    bundle: Arc<TrustBundle>,
    auth: ClientAuth,
    algorithms: WebPkiSupportedAlgorithms,
}

impl MeshClientVerifier {
    pub fn new(bundle: Arc<TrustBundle>, auth: ClientAuth) -> Self {
        Self { bundle, auth, algorithms: algorithms() }
    }
}

/// For a sidecar that has only a join credential: the chain must end in a root whose key has the pinned hash, and the
/// peer must be the control plane of the trust domain.
#[derive(Debug)]
pub struct PinnedRootVerifier {
    trust_domain: TrustDomain,
    root_pin: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedRootVerifier {
    pub fn new(trust_domain: TrustDomain, root_pin: [u8; 32]) -> Self {
        Self { trust_domain, root_pin, algorithms: algorithms() }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), PeerRefusal> {
        if others.len() > chain::INTERMEDIATES_MAX {
            return Err(PeerRefusal::ChainTooLong {
                got: others.len() + 1,
                limit: chain::INTERMEDIATES_MAX + 1,
            });
        }
        let root = others
            .iter()
            .filter(|other| other.len() <= chain::CERTIFICATE_BYTES_MAX)
            .find(|other| profile::spki_pin(other).is_ok_and(|pin| pin == self.root_pin))
            .ok_or(PeerRefusal::PinNotFound)?;
        let bundle = TrustBundle::new(self.trust_domain.clone(), vec![root.clone().into_owned()])
            .map_err(|_| PeerRefusal::BadCertificate { why: "has the pinned key and cannot be read" })?;
        let got = chain::verify_peer(leaf, others, &bundle, Usage::Server, now)?;
        expect(&SpiffeId::of_control_plane(&self.trust_domain), got)
    }
}

fn expect(expected: &SpiffeId, got: SpiffeId) -> Result<(), PeerRefusal> {
    if got == *expected {
        Ok(())
    } else {
        Err(PeerRefusal::UnexpectedIdentity { expected: expected.clone(), got })
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

/// No setting of ours offers TLS 1.2, so rustls never asks.
fn no_tls12() -> rustls::Error {
    PeerIncompatible::Tls12NotOffered.into()
}

macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _cert: &CertificateDer<'_>,
            _dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Err(no_tls12())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(message, cert, dss, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

macro_rules! server_verifier {
    ($verifier:ty) => {
        impl ServerCertVerifier for $verifier {
            fn verify_server_cert(
                &self,
                end_entity: &CertificateDer<'_>,
                intermediates: &[CertificateDer<'_>],
                _server_name: &ServerName<'_>,
                _ocsp_response: &[u8],
                now: UnixTime,
            ) -> Result<ServerCertVerified, rustls::Error> {
                match self.judge(end_entity, intermediates, now) {
                    Ok(()) => Ok(ServerCertVerified::assertion()),
                    Err(refusal) => Err(refusal.into_rustls()),
                }
            }

            handshake_signatures!();
        }
    };
}

server_verifier!(MeshServerVerifier);
server_verifier!(PinnedRootVerifier);

impl ClientCertVerifier for MeshClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Mandatory
    }

    /// None: a member has one certificate, and needs no hint to choose.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match chain::verify_peer(end_entity, intermediates, &self.bundle, Usage::Client, now) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(refusal) => Err(refusal.into_rustls()),
        }
    }

    handshake_signatures!();
}
