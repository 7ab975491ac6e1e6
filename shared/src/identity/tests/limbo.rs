//! Path building against the x509-limbo suite, judged apart from the SPIFFE name.
//!
//! A case's own peer name (a DNS name or an address) stands in the place of the SPIFFE ID: it is compared by webpki once
//! [`verify_path`] has found a path. So a case that is about that name alone still has to come out as the suite says.

use std::collections::BTreeSet;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::Deserialize;
use webpki::EndEntityCert;

use crate::identity::chain::{Usage, verify_path};
use crate::identity::{PeerRefusal, TrustBundle};

const SUITE: &str = include_str!("../../../tests/vectors/x509-limbo.json");

/// Cases that are not judged, each with the reason.
const SKIPPED: &[(&str, &str)] = &[
    ("crl::revoked-certificate-with-crl", REVOCATION),
    ("crl::crlnumber-missing", REVOCATION),
    ("crl::crlnumber-critical", REVOCATION),
    ("crl::issuer-missing-crlsign", REVOCATION),
    ("pathlen::validation-ignores-pathlen-in-leaf", CA_LEAF),
    ("rfc5280::ca-as-leaf", CA_LEAF),
    ("pathlen::self-issued-certs-pathlen", SELF_ISSUED),
    ("rfc5280::nc::permitted-self-issued", SELF_ISSUED),
    (
        "pathlen::max-chain-depth-0-exhausted",
        "asks for a chain without intermediates by an argument of the caller; the mesh has one bound, and always an \
         intermediate",
    ),
    ("rfc5280::nc::permitted-dn-match", OTHER_NAMES),
    ("rfc5280::nc::nc-permits-email-domain", OTHER_NAMES),
    ("rfc5280::nc::nc-permits-email-literal-double-asterisk", OTHER_NAMES),
    ("rfc5280::nc::nc-permits-email-literal-mid-asterisk", OTHER_NAMES),
    ("webpki::cn::ipv6-uppercase-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-uncompressed-mismatch", COMMON_NAME),
    ("webpki::cn::ipv6-non-rfc5952-mismatch", COMMON_NAME),
    ("webpki::cn::utf8-vs-punycode-mismatch", COMMON_NAME),
    ("webpki::cn::not-in-san", COMMON_NAME),
    ("webpki::cn::case-mismatch", COMMON_NAME),
    (
        "webpki::eku::ee-without-eku",
        "the CA/Browser Forum asks for an extended key usage; RFC 5280 and X509-SVID leave it open",
    ),
    (
        "webpki::san::public-suffix-private-namespace-wildcard-san",
        "the public suffix list is about wildcards in DNS names, which a SPIFFE ID has not",
    ),
];

const REVOCATION: &str =
    "public CAs revoke by CRL; a leaf of the mesh lives for a day, and what is revoked is its renewal";
const CA_LEAF: &str = "a public CA may be a server too; X509-SVID, section 4.1, forbids a leaf that is a CA";
const SELF_ISSUED: &str = "public CAs roll their keys over by certificates issued to themselves; the mesh's bundle carries both roots instead, \
     and webpki, which refuses these, errs on the safe side";
const OTHER_NAMES: &str = "constrains distinguished names or e-mail addresses, which identify nobody in the mesh; RFC 5280, section \
     4.2.1.10, leaves a reader who does not process such a constraint to reject the certificate, and webpki does";
const COMMON_NAME: &str =
    "the CA/Browser Forum asks that the common name repeat a DNS name; nothing here reads it";

#[derive(Deserialize)]
struct Suite {
    testcases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    id: String,
    validation_kind: Kind,
    trusted_certs: Vec<String>,
    untrusted_intermediates: Vec<String>,
    peer_certificate: String,
    validation_time: Option<String>,
    expected_result: Expected,
    expected_peer_name: Option<PeerName>,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Client,
    Server,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
enum Expected {
    Success,
    Failure,
}

#[derive(Deserialize)]
struct PeerName {
    kind: String,
    value: String,
}

/// RFC 3339 in whole seconds and UTC, as the suite writes it.
fn unix_time(text: &str) -> UnixTime {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().expect("digits");
    assert!(text.ends_with("+00:00"), "{text} is not in UTC");
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    // Days since 1970 of a date in the Gregorian calendar, in which a year begins with March.
    let shifted = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3_600 + number(14..16) * 60 + number(17..19);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().expect("after 1970")))
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("the suite's PEM is whole")
}

fn judge(case: &Case) -> Result<(), String> {
    let roots: Vec<_> = case.trusted_certs.iter().map(|pem| der(pem)).collect();
    let intermediates: Vec<_> = case.untrusted_intermediates.iter().map(|pem| der(pem)).collect();
    let leaf = der(&case.peer_certificate);
    let now = case.validation_time.as_deref().map_or_else(UnixTime::now, unix_time);
    let usage = match case.validation_kind {
        Kind::Client => Usage::Client,
        Kind::Server => Usage::Server,
    };
    let bundle = TrustBundle::new("limbo.test".parse().expect("a name"), roots)
        .map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))?;
    verify_path(&leaf, &intermediates, &bundle, usage, now)
        .map_err(|refusal: PeerRefusal| refusal.to_string())?;
    let Some(expected) = &case.expected_peer_name else { return Ok(()) };
    let Ok(name) = ServerName::try_from(expected.value.as_str()) else {
        return Err(format!("{} {:?} is no name", expected.kind, expected.value));
    };
    EndEntityCert::try_from(&leaf)
        .and_then(|leaf| leaf.verify_is_valid_for_subject_name(&name))
        .map_err(|error| format!("the case's own name: {error}"))
}

#[test]
fn every_case_of_the_suite_that_is_not_skipped_by_name_comes_out_as_it_says() {
    let suite: Suite = serde_json::from_str(SUITE).expect("the suite reads");
    let mut wrong = Vec::new();
    let mut judged = 0;
    for case in &suite.testcases {
        if SKIPPED.iter().any(|(id, _)| *id == case.id) {
            continue;
        }
        judged += 1;
        match (judge(case), &case.expected_result) {
            (Ok(()), Expected::Success) | (Err(_), Expected::Failure) => {}
            (Ok(()), Expected::Failure) => wrong.push(format!("{} was accepted", case.id)),
            (Err(why), Expected::Success) => wrong.push(format!("{} was refused: {why}", case.id)),
        }
    }
    assert!(judged >= 100, "only {judged} cases are judged");
    assert!(wrong.is_empty(), "{} of {judged} came out wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_skipped_name_is_stale_and_none_is_there_twice() {
    let suite: Suite = serde_json::from_str(SUITE).expect("the suite reads");
    let known: BTreeSet<_> = suite.testcases.iter().map(|case| case.id.as_str()).collect();
    let mut seen = BTreeSet::new();
    for (id, reason) in SKIPPED {
        assert!(known.contains(id), "{id} is not in the suite");
        assert!(seen.insert(id), "{id} is skipped twice");
        assert!(!reason.is_empty(), "{id} is skipped without a reason");
    }
}
