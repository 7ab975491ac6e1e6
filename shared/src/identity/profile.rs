//! What RFC 5280 asks of a certificate and webpki leaves to its caller.
//!
//! webpki is made for chains of public CAs, which break these rules in known ways. Ours come from one CA, so there is no
//! reason to be lenient, and each rule takes a freedom from whoever forges a chain.

use rustls_pki_types::UnixTime;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use super::refusal::PeerRefusal;

/// Where a certificate stands in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Leaf,
    Intermediate,
    Root,
}

/// Longest serial number, in bytes (RFC 5280, section 4.1.2.2).
const SERIAL_BYTES_MAX: usize = 20;
/// Shortest RSA key, in bits; shorter ones are refused by aws-lc too, where they have signed something.
const RSA_BITS_MIN: usize = 2048;

pub(super) fn check(der: &[u8], role: Role, now: UnixTime) -> Result<(), PeerRefusal> {
    let certificate = parse(der)?;
    check_frame(&certificate, role)?;
    check_key(&certificate.subject_pki)?;
    check_extensions(&certificate)?;
    check_key_identifiers(&certificate, role)?;
    if role == Role::Leaf {
        return check_leaf(&certificate);
    }
    check_authority(&certificate)?;
    if role == Role::Root {
        // Of the others webpki has judged the validity, but it looks at a root's name and key alone.
        check_validity(&certificate, now)?;
    }
    Ok(())
}

/// Reads a certificate with nothing after it.
pub(super) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PeerRefusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(bad("has bytes after its end")),
        Err(_) => Err(bad("cannot be read")),
    }
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`.
pub(super) fn spki_pin(der: &[u8]) -> Result<[u8; 32], PeerRefusal> {
    Ok(Sha256::digest(parse(der)?.subject_pki.raw).into())
}

fn bad(why: &'static str) -> PeerRefusal {
    PeerRefusal::BadCertificate { why }
}

fn check_frame(certificate: &X509Certificate<'_>, role: Role) -> Result<(), PeerRefusal> {
    if certificate.version != X509Version::V3 {
        return Err(bad("is not of version 3"));
    }
    let serial = certificate.raw_serial();
    // A root's serial number tells it from no other, and well-known roots have 0.
    let zero = role != Role::Root && serial.iter().all(|&byte| byte == 0);
    let negative = serial.first().is_none_or(|first| first & 0x80 != 0);
    if negative || zero || serial.len() > SERIAL_BYTES_MAX {
        return Err(bad("has a serial number that is not positive, or longer than 20 bytes"));
    }
    if certificate.issuer.iter().next().is_none() {
        return Err(bad("names no issuer"));
    }
    if role != Role::Leaf && certificate.subject.iter().next().is_none() {
        return Err(bad("is a CA's and names no subject"));
    }
    if certificate.issuer_uid.is_some() || certificate.subject_uid.is_some() {
        return Err(bad("has a unique identifier, which was given up"));
    }
    Ok(())
}

/// The key families that TLS 1.3 has, in the sizes that are still safe.
fn check_key(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), PeerRefusal> {
    let algorithm = &spki.algorithm;
    let accepted = if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok())
            .is_some_and(|curve| [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521].contains(&curve))
    } else if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        matches!(spki.parsed(), Ok(PublicKey::RSA(key)) if rsa_bits(key.modulus) >= RSA_BITS_MIN && rsa_bits(key.modulus).is_multiple_of(8))
    } else {
        algorithm.algorithm == OID_SIG_ED25519
    };
    if accepted { Ok(()) } else { Err(bad("has a key of a kind or size that is not accepted")) }
}

/// Length of a big-endian number in bits, without leading zeros.
fn rsa_bits(modulus: &[u8]) -> usize {
    let leading = modulus.iter().take_while(|&&byte| byte == 0).count();
    match modulus[leading..].first() {
        None => 0,
        Some(first) => (modulus.len() - leading) * 8 - first.leading_zeros() as usize,
    }
}

/// Each extension once, readable, and critical only where it is known and may be.
fn check_extensions(certificate: &X509Certificate<'_>) -> Result<(), PeerRefusal> {
    if certificate.extensions_map().is_err() {
        return Err(bad("has an extension twice"));
    }
    for extension in certificate.extensions() {
        let may_be_critical = match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => return Err(bad("has an extension that cannot be read")),
            ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::SubjectAlternativeName(_) => true,
            ParsedExtension::NameConstraints(constraints) => {
                check_name_constraints(constraints)?;
                true
            }
            // No policies here; and since a constraint on them must be critical, one is never just information.
            ParsedExtension::PolicyConstraints(_) | ParsedExtension::InhibitAnyPolicy(_) => {
                return Err(bad("constrains policies, which are not evaluated"));
            }
            _ => false,
        };
        if extension.critical && !may_be_critical {
            return Err(bad("has a critical extension that is not known, or must not be critical"));
        }
    }
    Ok(())
}

/// Constraints that constrain nothing, or in a form that readers take differently (section 4.2.1.10).
fn check_name_constraints(constraints: &NameConstraints<'_>) -> Result<(), PeerRefusal> {
    let subtrees: Vec<_> =
        constraints.permitted_subtrees.iter().chain(&constraints.excluded_subtrees).flatten().collect();
    if subtrees.is_empty() {
        return Err(bad("has name constraints that name nothing"));
    }
    let leading_period =
        |base: &GeneralName<'_>| matches!(base, GeneralName::DNSName(name) if name.starts_with('.'));
    if subtrees.iter().any(|subtree| leading_period(&subtree.base)) {
        return Err(bad("has a name constraint on a DNS name that begins with a period"));
    }
    Ok(())
}

/// The issuer's key is named by everything but a root, and every CA names its own (sections 4.2.1.1 and 4.2.1.2).
fn check_key_identifiers(certificate: &X509Certificate<'_>, role: Role) -> Result<(), PeerRefusal> {
    let mut authority = None;
    let mut subject = None;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => authority = Some(identifier),
            ParsedExtension::SubjectKeyIdentifier(identifier) => subject = Some(identifier.0),
            _ => {}
        }
    }
    if role != Role::Leaf && subject.is_none() {
        return Err(bad("is a CA's without a subject key identifier"));
    }
    let self_issued = certificate.subject.as_raw() == certificate.issuer.as_raw();
    match authority {
        None if role == Role::Root && self_issued => Ok(()),
        None => Err(bad("has no authority key identifier")),
        Some(authority) if role == Role::Root && self_issued => {
            let own = authority.key_identifier.as_ref().map(|identifier| identifier.0);
            let whole =
                authority.authority_cert_issuer.is_some() || authority.authority_cert_serial.is_some();
            if own == subject && !whole {
                Ok(())
            } else {
                Err(bad("is a root whose authority key identifier is not its own"))
            }
        }
        Some(authority) if authority.key_identifier.is_some() => Ok(()),
        Some(_) => Err(bad("has an authority key identifier without the key")),
    }
}

/// What lets a certificate sign others.
fn check_authority(certificate: &X509Certificate<'_>) -> Result<(), PeerRefusal> {
    match certificate.basic_constraints() {
        Ok(Some(constraints)) if constraints.critical && constraints.value.ca => {}
        _ => return Err(bad("signs another one without critical basic constraints that make it a CA's")),
    }
    match certificate.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.key_cert_sign() => Ok(()),
        _ => Err(bad("signs another one, which its key usage does not allow")),
    }
}

/// A leaf proves who its holder is, and signs no certificate (X509-SVID, sections 4.1 to 4.3).
fn check_leaf(certificate: &X509Certificate<'_>) -> Result<(), PeerRefusal> {
    if certificate
        .basic_constraints()
        .is_ok_and(|found| found.is_some_and(|constraints| constraints.value.ca))
    {
        return Err(PeerRefusal::CaAsLeaf);
    }
    if let Ok(Some(usage)) = certificate.key_usage() {
        if usage.value.key_cert_sign() || usage.value.crl_sign() {
            return Err(PeerRefusal::CaAsLeaf);
        }
        if !usage.value.digital_signature() {
            return Err(bad("has a key usage without digital signatures"));
        }
    }
    if certificate.name_constraints().is_ok_and(|found| found.is_some()) {
        return Err(bad("is a leaf with name constraints"));
    }
    let names_critical =
        certificate.subject_alternative_name().is_ok_and(|found| found.is_some_and(|names| names.critical));
    if certificate.subject.iter().next().is_none() && !names_critical {
        return Err(bad("has an empty subject, and names beside it that are not critical"));
    }
    Ok(())
}

fn check_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), PeerRefusal> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (not_before, not_after) =
        (certificate.validity.not_before.timestamp(), certificate.validity.not_after.timestamp());
    if now < not_before {
        return Err(PeerRefusal::NotYetValid { not_before_unix_s: not_before });
    }
    if now > not_after {
        return Err(PeerRefusal::Expired { not_after_unix_s: not_after });
    }
    Ok(())
}
