//! A certificate authority that also makes the certificates that it should not.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use sha2::{Digest, Sha256};

use crate::identity::{Material, TrustBundle};

pub const DOMAIN: &str = "mesh.test";
pub const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
pub const PAYMENTS: &str = "spiffe://mesh.test/ns/shop/sa/payments";
pub const CONTROL_PLANE: &str = "spiffe://mesh.test/ns/outrider-system/sa/control-plane";

pub struct Authority {
    pub root: CertifiedIssuer<'static, KeyPair>,
    pub intermediate: CertifiedIssuer<'static, KeyPair>,
}

pub struct LeafAndKey {
    pub der: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let root = CertifiedIssuer::self_signed(ca("root"), key()).expect("a root");
        let intermediate =
            CertifiedIssuer::signed_by(ca("intermediate"), key(), &root).expect("an intermediate");
        Self { root, intermediate }
    }

    pub fn bundle(&self) -> Arc<TrustBundle> {
        let roots = vec![self.root.der().clone()];
        Arc::new(TrustBundle::new(DOMAIN.parse().expect("a name"), roots).expect("a bundle"))
    }

    pub fn pin(&self) -> [u8; 32] {
        let der = self.root.der();
        let (_, certificate) = x509_parser::parse_x509_certificate(der).expect("a certificate");
        Sha256::digest(certificate.tbs_certificate.subject_pki.raw).into()
    }

    pub fn issue(&self, params: &CertificateParams) -> LeafAndKey {
        let key = key();
        let der = params.signed_by(&key, &self.intermediate).expect("a leaf").der().clone();
        LeafAndKey { der, key }
    }

    /// What presents `leaf` in a handshake, with its intermediate.
    pub fn material(&self, leaf: LeafAndKey) -> Material {
        self.material_of_chain(leaf, vec![self.intermediate.der().clone()])
    }

    /// The control plane's, which sends its root too.
    pub fn control_plane(&self) -> Material {
        let chain = vec![self.intermediate.der().clone(), self.root.der().clone()];
        self.material_of_chain(self.issue(&leaf(CONTROL_PLANE)), chain)
    }

    fn material_of_chain(&self, leaf: LeafAndKey, others: Vec<CertificateDer<'static>>) -> Material {
        let chain = [vec![leaf.der], others].concat();
        let key = PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
        Material::from_der(chain, key, self.bundle()).expect("material")
    }
}

pub fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// In the middle of what [`leaf`] and [`ca`] are valid for.
pub fn now() -> UnixTime {
    UnixTime::now()
}

pub fn ca(name: &str) -> CertificateParams {
    let mut params = bare(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A leaf as the control plane issues it, with one URI name.
pub fn leaf(uri: &str) -> CertificateParams {
    leaf_with(vec![self::uri(uri)])
}

pub fn leaf_with(names: Vec<SanType>) -> CertificateParams {
    let mut params = bare("leaf");
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// A leaf whose subjectAltName is these names, each by its context tag, with no rule kept.
pub fn leaf_with_raw_names(names: &[(u8, &[u8])]) -> CertificateParams {
    let mut content = Vec::new();
    for (tag, value) in names {
        content.extend(tlv(0x80 | tag, value));
    }
    let mut params = leaf_with(Vec::new());
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], tlv(0x30, &content))];
    params
}

pub fn uri(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}

fn bare(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2200, 1, 1);
    params
}

/// DER, with the length in its shortest form.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("short").to_be_bytes();
    let head = match length {
        [0, short @ ..0x80] => vec![tag, short],
        [0, byte] => vec![tag, 0x81, byte],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [&head, value].concat()
}
