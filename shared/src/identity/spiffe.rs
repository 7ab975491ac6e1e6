//! The one name of a leaf: exactly one URI, and it is a SPIFFE ID of our trust domain.

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::profile;
use super::refusal::PeerRefusal;
use crate::{SidecarId, SpiffeId, TrustDomain};

/// Context tag of `uniformResourceIdentifier` in a `GeneralName` (RFC 5280, section 4.2.1.6).
const URI_TAG: u32 = 6;

/// Who is at the other end of an accepted connection, and until when its leaf says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub identity: SpiffeId,
    /// The one sidecar that the leaf was made for, by its subject's common name; `None`: the leaf does not say.
    pub sidecar: Option<SidecarId>,
    /// End of its leaf's validity: the connection closes before.
    pub not_after: UnixTime,
}

/// Reads the peer from the certificates of a connection whose handshake one of our verifiers has let through.
///
/// `certificates` is what rustls's `peer_certificates()` returns; it has been verified, so this only reads.
pub fn verified_peer(certificates: Option<&[CertificateDer<'_>]>) -> Result<Peer, PeerRefusal> {
    let leaf = certificates.and_then(<[_]>::first).ok_or(PeerRefusal::NoCertificate)?;
    let identity = only_name(leaf)?;
    let certificate = profile::parse(leaf)?;
    let mut names = certificate.subject.iter_common_name();
    let sidecar = match (names.next(), names.next()) {
        (Some(only), None) => only.as_str().ok().and_then(|name| name.parse().ok()),
        _ => None,
    };
    let not_after = std::time::Duration::from_secs(
        u64::try_from(certificate.validity.not_after.timestamp()).unwrap_or(0),
    );
    Ok(Peer { identity, sidecar, not_after: UnixTime::since_unix_epoch(not_after) })
}

/// The name of `leaf`, which must belong to `expected`. Says nothing about who signed it.
pub(super) fn identity_of(leaf: &[u8], expected: &TrustDomain) -> Result<SpiffeId, PeerRefusal> {
    let identity = only_name(leaf)?;
    if identity.trust_domain() != expected.as_str() {
        return Err(PeerRefusal::ForeignTrustDomain {
            expected: expected.clone(),
            got: identity.trust_domain().to_owned(),
        });
    }
    Ok(identity)
}

/// Counts with x509-parser, since webpki passes over names that it cannot read, and a second name that only some
/// readers see is how two of them come to disagree about who a peer is.
fn only_name(leaf: &[u8]) -> Result<SpiffeId, PeerRefusal> {
    let certificate = profile::parse(leaf)?;
    let mut count = 0;
    let mut found = Err(PeerRefusal::NoUriSan);
    for extension in certificate.extensions() {
        let names = match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => &names.general_names,
            ParsedExtension::ParseError { .. } => {
                return Err(PeerRefusal::BadCertificate { why: "has an extension that cannot be read" });
            }
            _ => continue,
        };
        for name in names {
            match name {
                GeneralName::URI(uri) => {
                    count += 1;
                    found = uri.parse().map_err(|bad: crate::BadId| PeerRefusal::BadSpiffeId {
                        given: bad.given,
                        why: bad.why,
                    });
                }
                GeneralName::Invalid(tag, raw) if tag.0 == URI_TAG => {
                    count += 1;
                    let given = String::from_utf8_lossy(&raw[..raw.len().min(80)]).into_owned();
                    found = Err(PeerRefusal::BadSpiffeId { given, why: "has characters of ASCII only" });
                }
                _ => {}
            }
        }
    }
    if count > 1 {
        return Err(PeerRefusal::ManyUriSans { got: count });
    }
    found
}
