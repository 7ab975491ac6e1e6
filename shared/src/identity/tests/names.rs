//! The one name of a leaf, and every way in which it is none.

use super::authority::{Authority, CONTROL_PLANE, ORDERS, leaf, leaf_with, leaf_with_raw_names, now, uri};
use crate::identity::{PeerRefusal, Usage, verified_peer, verify_peer};
use rcgen::{CertificateParams, SanType};

const URI: u8 = 6;

fn verdict(params: &CertificateParams) -> Result<String, PeerRefusal> {
    let authority = Authority::new();
    let leaf = authority.issue(params).der;
    let intermediates = [authority.intermediate.der().clone()];
    verify_peer(&leaf, &intermediates, &authority.bundle(), Usage::Server, now()).map(Into::into)
}

fn label(params: &CertificateParams) -> &'static str {
    match verdict(params) {
        Ok(identity) => panic!("{identity} was let in"),
        Err(refusal) => refusal.label(),
    }
}

#[test]
fn exactly_one_spiffe_id_of_the_trust_domain_is_who_the_peer_is() {
    assert_eq!(verdict(&leaf(ORDERS)), Ok(ORDERS.to_owned()));
    assert_eq!(verdict(&leaf("spiffe://mesh.test")), Ok("spiffe://mesh.test".to_owned()));
}

#[test]
fn dns_names_beside_the_one_uri_do_not_matter() {
    let names = vec![SanType::DnsName("orders.test".try_into().expect("ASCII")), uri(ORDERS)];
    assert_eq!(verdict(&leaf_with(names)), Ok(ORDERS.to_owned()));
}

#[test]
fn a_leaf_without_names_or_with_dns_names_alone_has_no_uri_name() {
    assert_eq!(label(&leaf_with(Vec::new())), "no_uri_san");
    let dns = SanType::DnsName("spiffe.mesh.test".try_into().expect("ASCII"));
    assert_eq!(label(&leaf_with(vec![dns])), "no_uri_san");
}

#[test]
fn two_uri_names_are_refused_even_where_they_are_the_same() {
    for second in [CONTROL_PLANE, ORDERS, "https://mesh.test/"] {
        let refused = verdict(&leaf_with(vec![uri(ORDERS), uri(second)]));
        assert_eq!(refused, Err(PeerRefusal::ManyUriSans { got: 2 }), "{second}");
    }
}

#[test]
fn a_second_uri_name_that_cannot_be_read_is_counted_too() {
    for unreadable in [&b"spiffe://mesh.test/\xff"[..], b"\xc3\x28", b""] {
        let refused = verdict(&leaf_with_raw_names(&[(URI, ORDERS.as_bytes()), (URI, unreadable)]));
        assert_eq!(refused, Err(PeerRefusal::ManyUriSans { got: 2 }), "{unreadable:?}");
        let refused = label(&leaf_with_raw_names(&[(URI, unreadable)]));
        assert_eq!(refused, "bad_spiffe_id", "{unreadable:?}");
    }
}

#[test]
fn every_other_spelling_of_a_spiffe_id_is_refused() {
    let overlong = format!("spiffe://mesh.test/{}", "a".repeat(2048));
    let overlong_domain = format!("spiffe://{}/ns/shop/sa/orders", "a".repeat(256));
    for spelling in [
        "SPIFFE://mesh.test/ns/shop/sa/orders",
        "spiffe://MESH.test/ns/shop/sa/orders",
        "spiffe://mesh.test/ns/shop/sa/orders/",
        "spiffe://mesh.test/",
        "spiffe://mesh.test//ns/shop/sa/orders",
        "spiffe://mesh.test/ns/shop/sa/%6frders",
        "spiffe://mesh.test/ns/shop/sa/orders%00",
        "spiffe://mesh%2etest/ns/shop/sa/orders",
        "spiffe://mesh.test/ns/./shop/sa/orders",
        "spiffe://mesh.test/ns/shop/../shop/sa/orders",
        "spiffe://mesh.test/ns/shop/sa/orders\0",
        "spiffe://mesh.test/ns/shop/sa/orders\0.evil.test",
        "spiffe://mesh.test\0/ns/shop/sa/orders",
        "spiffe://mesh.test:443/ns/shop/sa/orders",
        "spiffe://user@mesh.test/ns/shop/sa/orders",
        "spiffe://mesh.test/ns/shop/sa/orders?admin",
        "spiffe://mesh.test/ns/shop/sa/orders#admin",
        "spiffe://mesh.test/ns/shop/sa/orders x",
        "spiffe:///ns/shop/sa/orders",
        "spiffe:/mesh.test/ns/shop/sa/orders",
        " spiffe://mesh.test/ns/shop/sa/orders",
        "https://mesh.test/ns/shop/sa/orders",
        "mesh.test/ns/shop/sa/orders",
        &overlong,
        &overlong_domain,
    ] {
        assert_eq!(label(&leaf(spelling)), "bad_spiffe_id", "{spelling:?}");
    }
}

#[test]
fn a_uri_name_in_another_alphabet_is_refused() {
    let cyrillic = "spiffe://mesh.test/ns/shop/sa/\u{43e}rders";
    assert_eq!(label(&leaf_with_raw_names(&[(URI, cyrillic.as_bytes())])), "bad_spiffe_id");
}

#[test]
fn a_name_of_the_right_root_but_another_trust_domain_is_foreign() {
    for foreign in [
        "spiffe://other.test/ns/shop/sa/orders",
        "spiffe://mesh.test.evil/ns/shop/sa/orders",
        "spiffe://mesh/ns/shop/sa/orders",
    ] {
        assert_eq!(label(&leaf(foreign)), "foreign_trust_domain", "{foreign}");
    }
}

#[test]
fn a_peer_of_another_mesh_is_named_foreign_and_not_just_unknown() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let judge = |name| {
        let leaf = theirs.issue(&leaf(name)).der;
        let chain = [theirs.intermediate.der().clone()];
        verify_peer(&leaf, &chain, &ours.bundle(), Usage::Client, now()).expect_err("not ours").label()
    };
    assert_eq!(judge("spiffe://other.test/ns/shop/sa/orders"), "foreign_trust_domain");
    assert_eq!(judge(ORDERS), "unknown_issuer");
}

#[test]
fn an_accepted_connection_tells_who_the_peer_is_and_until_when() {
    let authority = Authority::new();
    let mut params = leaf(ORDERS);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    let peer = verified_peer(Some(&[authority.issue(&params).der])).expect("a peer");
    assert_eq!(peer.identity.as_str(), ORDERS);
    assert_eq!(peer.not_after.as_secs(), 4_102_444_800);
    assert_eq!(verified_peer(None), Err(PeerRefusal::NoCertificate));
    assert_eq!(verified_peer(Some(&[])), Err(PeerRefusal::NoCertificate));
}
