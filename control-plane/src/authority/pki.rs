//! The certificate authority: one root, one intermediate that signs, and what they sign. By OpenSSL, and pure: what it
//! makes depends on its arguments and on OpenSSL's random source alone.
//!
//! ECDSA P-256 throughout. A leaf has exactly one name, a SPIFFE ID, and its subject says which sidecar it was made for;
//! whatever else a request asks for is ignored.

use openssl::asn1::{Asn1Integer, Asn1Time, Asn1TimeRef};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, PKeyRef, Private, Public};
use openssl::sign::Signer;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use openssl::x509::{X509, X509Builder, X509Name, X509NameBuilder, X509Ref, X509Req};
use outrider_shared::{SidecarId, SpiffeId, TrustDomain};

/// The root's life. 10 years: it is replaced by adding a second one to the bundle, which takes planning.
const ROOT_S: i64 = 10 * 365 * 86_400;
/// The intermediate's. 5 years: half of the root's, so that a new one can be made at leisure.
const INTERMEDIATE_S: i64 = 5 * 365 * 86_400;
/// Clocks that are behind accept a fresh certificate all the same. A minute, or a tenth of a life that is short: a leaf is
/// renewed at half of its life, and one that was born old would be renewed at once, again and again.
const BACKDATED_S: i64 = 60;
const BACKDATED_SHARE: i64 = 10;
/// Positive and unguessable (RFC 5280 allows 20 bytes).
const SERIAL_BITS: i32 = 127;
/// Largest request for a certificate, in bytes.
pub const CSR_BYTES_MAX: usize = 4 << 10;

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("OpenSSL")]
    OpenSsl(#[from] ErrorStack),
    /// The peer's fault.
    #[error("the certificate request {why}")]
    Request { why: &'static str },
}

/// A key with its certificate.
pub struct Issuer {
    pub certificate: X509,
    pub key: PKey<Private>,
}

/// What a certificate is for.
enum Kind {
    Root,
    Intermediate,
    Leaf,
    Signer,
}

pub fn new_key() -> Result<PKey<Private>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)
}

/// A self-signed root of the trust domain.
pub fn new_root(domain: &TrustDomain, now_unix_s: i64) -> Result<Issuer, PkiError> {
    let key = new_key()?;
    let name = common_name(&format!("{domain} root"))?;
    let uri = format!("spiffe://{domain}");
    let certificate =
        build(&Kind::Root, &name, &uri, &key, now_unix_s, ROOT_S, None).and_then(|b| sign(b, &key))?;
    Ok(Issuer { certificate, key })
}

/// The intermediate that signs everything else.
pub fn new_intermediate(root: &Issuer, domain: &TrustDomain, now_unix_s: i64) -> Result<Issuer, PkiError> {
    let key = new_key()?;
    let name = common_name(&format!("{domain} intermediate"))?;
    let uri = format!("spiffe://{domain}");
    let built = build(&Kind::Intermediate, &name, &uri, &key, now_unix_s, INTERMEDIATE_S, Some(root))?;
    Ok(Issuer { certificate: sign(built, &root.key)?, key })
}

/// The certificate under which snapshots are signed: as long-lived as the intermediate, since it lies on disks.
pub fn new_signer(intermediate: &Issuer, identity: &SpiffeId, now_unix_s: i64) -> Result<Issuer, PkiError> {
    let key = new_key()?;
    let name = common_name("snapshot signer")?;
    let life = INTERMEDIATE_S - 86_400;
    let built = build(&Kind::Signer, &name, identity.as_str(), &key, now_unix_s, life, Some(intermediate))?;
    Ok(Issuer { certificate: sign(built, &intermediate.key)?, key })
}

/// A leaf for a key of our own.
pub fn new_leaf(
    intermediate: &Issuer,
    identity: &SpiffeId,
    now_unix_s: i64,
    life_s: i64,
) -> Result<Issuer, PkiError> {
    let key = new_key()?;
    let name = common_name(leaf_name(identity))?;
    let built = build(&Kind::Leaf, &name, identity.as_str(), &key, now_unix_s, life_s, Some(intermediate))?;
    Ok(Issuer { certificate: sign(built, &intermediate.key)?, key })
}

/// Whom a leaf is made for.
pub struct Holder<'a> {
    /// What its peers go by.
    pub identity: &'a SpiffeId,
    /// Whose sessions it opens, and nobody else's.
    pub sidecar: &'a SidecarId,
}

/// A leaf for whoever holds the key of `csr` (PKCS#10, DER). Its names are ours to say; nothing else of the request counts.
pub fn leaf_for_request(
    intermediate: &Issuer,
    csr: &[u8],
    holder: &Holder<'_>,
    now_unix_s: i64,
    life_s: i64,
) -> Result<X509, PkiError> {
    let key = requested_key(csr)?;
    let (name, uri) = (common_name(holder.sidecar.as_str())?, holder.identity.as_str());
    let built = build(&Kind::Leaf, &name, uri, &key, now_unix_s, life_s, Some(intermediate))?;
    sign(built, &intermediate.key)
}

/// The public key of a request, whose holder has proved to hold the private one.
fn requested_key(csr: &[u8]) -> Result<PKey<Public>, PkiError> {
    let refused = |why| PkiError::Request { why };
    if csr.len() > CSR_BYTES_MAX {
        return Err(refused("is longer than 4 KiB"));
    }
    let request = X509Req::from_der(csr).map_err(|_| refused("is no PKCS#10 in DER"))?;
    let key = request.public_key().map_err(|_| refused("has no key that can be read"))?;
    let proven = request.verify(&key).map_err(|_| refused("has a signature that cannot be checked"))?;
    if !proven {
        return Err(refused("is not signed by its own key"));
    }
    if is_accepted(&key) { Ok(key) } else { Err(refused("has a key other than P-256, P-384 and Ed25519")) }
}

/// P-256, P-384 or Ed25519.
fn is_accepted(key: &PKeyRef<Public>) -> bool {
    match key.id() {
        Id::EC => key
            .ec_key()
            .ok()
            .and_then(|ec| ec.group().curve_name())
            .is_some_and(|curve| [Nid::X9_62_PRIME256V1, Nid::SECP384R1].contains(&curve)),
        Id::ED25519 => true,
        _ => false,
    }
}

/// Whether `spki` (DER) is a key whose proofs [`proves`] can judge.
pub fn is_instance_key(spki: &[u8]) -> bool {
    PKey::public_key_from_der(spki).is_ok_and(|key| is_accepted(&key))
}

/// ECDSA with SHA-256 over `message`, in ASN.1 DER.
pub fn signature(key: &PKeyRef<Private>, message: &[&[u8]]) -> Result<Vec<u8>, ErrorStack> {
    let mut signer = Signer::new(MessageDigest::sha256(), key)?;
    for part in message {
        signer.update(part)?;
    }
    signer.sign_to_vec()
}

/// Whether `proof` is a signature over `message` by the holder of `spki` (DER): ECDSA with SHA-256, or Ed25519.
pub fn proves(spki: &[u8], message: &[&[u8]], proof: &[u8]) -> bool {
    let verify = || -> Result<bool, ErrorStack> {
        let key = PKey::public_key_from_der(spki)?;
        if key.id() == Id::ED25519 {
            // It hashes by itself, and takes the message whole.
            return openssl::sign::Verifier::new_without_digest(&key)?
                .verify_oneshot(proof, &message.concat());
        }
        let mut verifier = openssl::sign::Verifier::new(MessageDigest::sha256(), &key)?;
        for part in message {
            verifier.update(part)?;
        }
        verifier.verify(proof)
    };
    verify().unwrap_or(false)
}

/// Whether a certificate is past half of its life.
pub fn is_past_half(certificate: &X509Ref, now_unix_s: i64) -> Result<bool, PkiError> {
    let seconds_to = |time: &Asn1TimeRef| -> Result<i64, ErrorStack> {
        let left = certificate.not_before().diff(time)?;
        Ok(i64::from(left.days) * 86_400 + i64::from(left.secs))
    };
    let (life_s, age_s) =
        (seconds_to(certificate.not_after())?, seconds_to(&*Asn1Time::from_unix(now_unix_s)?)?);
    Ok(age_s >= life_s / 2)
}

fn common_name(name: &str) -> Result<X509Name, ErrorStack> {
    let mut builder = X509NameBuilder::new()?;
    // X.520 bounds a common name at 64 characters; it is for people alone.
    let short: String = name.chars().take(64).collect();
    builder.append_entry_by_nid(Nid::COMMONNAME, &short)?;
    Ok(builder.build())
}

fn leaf_name(identity: &SpiffeId) -> &str {
    identity.as_str().rsplit('/').next().unwrap_or_default()
}

fn build<T: openssl::pkey::HasPublic>(
    kind: &Kind,
    subject: &X509Name,
    uri: &str,
    key: &PKey<T>,
    now_unix_s: i64,
    life_s: i64,
    issuer: Option<&Issuer>,
) -> Result<X509Builder, PkiError> {
    let mut builder = X509Builder::new()?;
    builder.set_version(2)?;
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, openssl::bn::MsbOption::ONE, false)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(subject)?;
    builder.set_issuer_name(issuer.map_or(subject, |issuer| issuer.certificate.subject_name()))?;
    builder.set_pubkey(key)?;
    builder.set_not_before(&*Asn1Time::from_unix(now_unix_s - BACKDATED_S.min(life_s / BACKDATED_SHARE))?)?;
    builder.set_not_after(&*Asn1Time::from_unix(now_unix_s + life_s)?)?;
    match kind {
        Kind::Root => {
            builder.append_extension(BasicConstraints::new().critical().ca().pathlen(1).build()?)?;
        }
        Kind::Intermediate => {
            builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        }
        Kind::Leaf | Kind::Signer => builder.append_extension(BasicConstraints::new().critical().build()?)?,
    }
    match kind {
        Kind::Root | Kind::Intermediate => {
            builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        }
        Kind::Leaf | Kind::Signer => {
            builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        }
    }
    match kind {
        Kind::Leaf => {
            builder.append_extension(ExtendedKeyUsage::new().server_auth().client_auth().build()?)?;
        }
        // It lives for years: it must be of no use at either end of a connection.
        Kind::Signer => builder.append_extension(ExtendedKeyUsage::new().code_signing().build()?)?,
        Kind::Root | Kind::Intermediate => {}
    }
    let issuer_certificate: Option<&X509Ref> = issuer.map(|issuer| &*issuer.certificate);
    let subject_key = SubjectKeyIdentifier::new().build(&builder.x509v3_context(issuer_certificate, None))?;
    builder.append_extension(subject_key)?;
    let authority_key =
        AuthorityKeyIdentifier::new().keyid(true).build(&builder.x509v3_context(issuer_certificate, None))?;
    builder.append_extension(authority_key)?;
    let names =
        SubjectAlternativeName::new().uri(uri).build(&builder.x509v3_context(issuer_certificate, None))?;
    builder.append_extension(names)?;
    Ok(builder)
}

fn sign(mut builder: X509Builder, key: &PKeyRef<Private>) -> Result<X509, PkiError> {
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}
