//! Public names, held: a change here breaks what others have configured, recorded or built.

use super::{ALPN_CONTROL, ALPN_MESH, EXTERNAL, FEATURES, UNAUTHENTICATED, header, port};

#[test]
fn the_public_names_are_what_they_were() {
    assert_eq!(ALPN_MESH, b"outrider/1");
    assert_eq!(ALPN_CONTROL, b"http/1.1");
    assert_eq!(
        [port::ADMIN, port::OUTBOUND, port::INBOUND, port::HEALTH, port::API, port::CONTROL],
        [14000, 14001, 14006, 14090, 14100, 14101]
    );
    assert_eq!(
        [
            header::PREFIX,
            header::TARGET,
            header::FORM,
            header::HOPS,
            header::AHEAD,
            header::REFUSED,
            header::XFCC
        ],
        [
            "outrider-",
            "outrider-target",
            "outrider-form",
            "outrider-hops",
            "outrider-ahead",
            "outrider-refused",
            "x-forwarded-client-cert"
        ]
    );
    assert_eq!([EXTERNAL, UNAUTHENTICATED], ["external", "unauthenticated"]);
    assert_eq!(
        FEATURES,
        ["route/v1", "authorization/v1", "edge/v1", "traffic/v1", "tracing/v1", "detection/v1"]
    );
}

#[test]
fn every_header_between_sidecars_has_the_prefix_that_is_stripped() {
    for name in [header::TARGET, header::FORM, header::HOPS, header::AHEAD, header::REFUSED] {
        assert!(name.starts_with(header::PREFIX), "{name}");
    }
}

#[test]
fn the_protocol_s_numbers_are_what_they_were() {
    assert_eq!(crate::session::PROTOCOL, 1);
    assert_eq!(crate::snapshot::SIGNING_CONTEXT, b"outrider snapshot v1\0");
    assert_eq!(crate::join::RENEW_CONTEXT, b"outrider renew v1\0");
}

#[test]
fn every_refusal_of_a_peer_has_the_label_that_it_had() {
    use crate::identity::PeerRefusal as R;
    let domain = || "mesh.test".parse().unwrap();
    let id = || "spiffe://mesh.test/a".parse().unwrap();
    let labels = [
        R::NoCertificate,
        R::ChainTooLong { got: 2, limit: 1 },
        R::CertificateTooLarge { got: 2, limit: 1 },
        R::BadCertificate { why: "x" },
        R::Expired { not_after_unix_s: 0 },
        R::NotYetValid { not_before_unix_s: 0 },
        R::UnknownIssuer,
        R::WrongUsage,
        R::NameConstraint,
        R::CaAsLeaf,
        R::NoUriSan,
        R::ManyUriSans { got: 2 },
        R::BadSpiffeId { given: String::new(), why: "x" },
        R::ForeignTrustDomain { expected: domain(), got: String::new() },
        R::UnexpectedIdentity { expected: id(), got: id() },
        R::PinNotFound,
    ]
    .map(|refusal| refusal.label());
    assert_eq!(
        labels,
        [
            "no_certificate",
            "chain_too_long",
            "certificate_too_large",
            "bad_certificate",
            "expired",
            "not_yet_valid",
            "unknown_issuer",
            "wrong_usage",
            "name_constraint",
            "ca_as_leaf",
            "no_uri_san",
            "many_uri_sans",
            "bad_spiffe_id",
            "foreign_trust_domain",
            "unexpected_identity",
            "pin_not_found"
        ]
    );
}
