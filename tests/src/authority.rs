//! A certificate authority of a case's own, which also makes the certificates that no control plane would.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use outrider_shared::snapshot::{SIGNING_CONTEXT, SignedSnapshot, Snapshot};
use outrider_shared::{ServiceId, SidecarId, SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, SigningKey as _,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use serde_json::json;

/// What most certificates of a case are valid for, each way from now.
const LIFE: Duration = Duration::from_hours(24);

/// See the module.
pub struct Authority {
    trust_domain: TrustDomain,
    root: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate to be made; by default one that every peer takes.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub uris: Vec<String>,
    pub dns: Vec<String>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

impl Wanted {
    pub fn new(identity: &str) -> Self {
        let now = SystemTime::now();
        Self {
            uris: vec![identity.to_owned()],
            dns: Vec::new(),
            not_before: now - LIFE,
            not_after: now + LIFE,
        }
    }
}

/// A leaf with its chain and key.
#[derive(Debug)]
pub struct Credentials {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivatePkcs8KeyDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Credentials {
    /// Chain and key, as most programs read them.
    pub fn pem(&self) -> (String, String) {
        let chain = self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        (chain, pem("PRIVATE KEY", self.key.secret_pkcs8_der()))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        lines.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        lines.push('\n');
    }
    lines.push_str("-----END ");
    lines.push_str(label);
    lines.push_str("-----\n");
    lines
}

impl Authority {
    pub fn new(trust_domain: &str) -> Self {
        let mut params = bare("root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(params, key()).expect("the parameters are legal");
        Self { trust_domain: trust_domain.parse().expect("the case writes a trust domain"), root }
    }

    pub fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    /// What a client outside of the mesh is given to trust.
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", self.root.der())
    }

    /// Writes a certificate for these names with its key where a sidecar is told to look for `name`, each in one step.
    pub fn publish(&self, folder: &Path, name: &str, dns: &[&str]) -> Credentials {
        let mut wanted = Wanted::new("");
        wanted.uris.clear();
        wanted.dns = dns.iter().map(|name| (*name).to_owned()).collect();
        let credentials = self.issue(&wanted);
        let (chain, key) = credentials.pem();
        for (kind, text) in [("crt", chain), ("key", key)] {
            let beside = folder.join("beside");
            fs::write(&beside, text).expect("the case's folder is writable");
            fs::rename(beside, folder.join(format!("{name}.{kind}"))).expect("the case's folder is writable");
        }
        credentials
    }

    pub fn issue(&self, wanted: &Wanted) -> Credentials {
        let key = key();
        let mut params = bare("leaf");
        let uris =
            wanted.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().expect("URIs are ASCII")));
        let dns = wanted
            .dns
            .iter()
            .map(|name| SanType::DnsName(name.as_str().try_into().expect("names are ASCII")));
        params.subject_alt_names = uris.chain(dns).collect();
        params.not_before = wanted.not_before.into();
        params.not_after = wanted.not_after.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.root).expect("the parameters are legal").der().clone();
        Credentials { chain: vec![leaf], key: PrivatePkcs8KeyDer::from(key.serialize_der()) }
    }

    /// Writes what a sidecar keeps on disk once it has joined and got a snapshot; `credentials` is its leaf.
    pub fn keep(&self, data_dir: &Path, service: &ServiceId, snapshot: &Snapshot, credentials: &Credentials) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(data_dir).expect("the case's folder is writable");
        let chain: Vec<_> = credentials.chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
        let not_after =
            (SystemTime::now() + LIFE).duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let identity = json!({
            "sidecar": snapshot.sidecar,
            "service": service,
            "trust_domain": self.trust_domain,
            "instance_credential": "given-by-no-control-plane",
            "instance_key": BASE64_STANDARD.encode(key().serialize_der()),
            "leaf": {
                "chain": chain,
                "bundle": [BASE64_STANDARD.encode(self.root.der())],
                "not_after_unix_s": not_after.as_secs(),
            },
            "leaf_key": BASE64_STANDARD.encode(credentials.key.secret_pkcs8_der()),
        });
        write(&data_dir.join("identity.json"), &identity);
        write(&data_dir.join("snapshot.json"), &self.sign(snapshot));
    }

    /// As this trust domain's control plane would.
    pub fn sign(&self, snapshot: &Snapshot) -> SignedSnapshot {
        let signer = self.issue(&Wanted::new(SpiffeId::of_control_plane(&self.trust_domain).as_str()));
        let key = KeyPair::try_from(&signer.key).expect("made here");
        let body = serde_json::to_string(snapshot).expect("plain data");
        let signature = key.sign(&[SIGNING_CONTEXT, body.as_bytes()].concat()).expect("P-256 signs anything");
        SignedSnapshot {
            body,
            signature: BASE64_STANDARD.encode(signature),
            signer: signer.chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
        }
    }
}

/// A sidecar's id that no other in the case has.
pub fn sidecar_id(number: usize) -> SidecarId {
    format!("{number:032x}").parse().expect("hex digits")
}

fn write(path: &Path, value: &impl Serialize) {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    serde_json::to_writer(file.expect("the case's folder is writable"), value).expect("plain data");
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has random bytes")
}

fn bare(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2200, 1, 1);
    params
}
