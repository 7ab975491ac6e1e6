//! What is a name and what is not; and whatever is one reads back as itself, from JSON too.

use proptest::prelude::*;

use super::{RuleId, ServiceId, SidecarId, SpiffeId, TrustDomain, is_dns_label};

fn accepted<T: std::str::FromStr + ToString>(given: &str) -> bool {
    match given.parse::<T>() {
        Ok(name) => {
            assert_eq!(name.to_string(), given);
            true
        }
        Err(_) => false,
    }
}

#[test]
fn trust_domains_are_lower_case_and_of_at_most_255_bytes() {
    for good in ["a", "mesh.test", "prod-1_b.example", "127.0.0.1", &"a".repeat(255)] {
        assert!(accepted::<TrustDomain>(good), "{good:?}");
    }
    for bad in ["", "Mesh", "mesh.test:1", "mesh/test", "m sh", "mésh", "mesh\0", "mesh%2e", &"a".repeat(256)]
    {
        assert!(!accepted::<TrustDomain>(bad), "{bad:?}");
    }
}

#[test]
fn spiffe_ids_have_one_spelling() {
    let longest = format!("spiffe://mesh.test/{}", "a".repeat(2048 - "spiffe://mesh.test/".len()));
    for good in
        ["spiffe://mesh.test", "spiffe://mesh.test/ns/shop/sa/orders", "spiffe://m/A-z_0.9/...", &longest]
    {
        assert!(accepted::<SpiffeId>(good), "{good:?}");
    }
    let overlong = format!("{longest}a");
    for bad in [
        "",
        "spiffe://",
        "spiffe:///a",
        "spiffe://mesh.test/",
        "spiffe://mesh.test/a/",
        "spiffe://mesh.test//a",
        "spiffe://mesh.test/./a",
        "spiffe://mesh.test/a/..",
        "spiffe://mesh.test/a%20b",
        "spiffe://mesh.test/a?b",
        "spiffe://mesh.test/a#b",
        "spiffe://mesh.test:1/a",
        "spiffe://u@mesh.test/a",
        "spiffe://MESH.test/a",
        "SPIFFE://mesh.test/a",
        "spiffe://mesh.test/a\0",
        "spiffe://mesh.test/ä",
        " spiffe://mesh.test/a",
        "spiffe://mesh.test/a ",
        "spiffe://mesh.test\\a",
        &overlong,
    ] {
        assert!(!accepted::<SpiffeId>(bad), "{bad:?}");
    }
}

#[test]
fn a_spiffe_id_knows_its_trust_domain() {
    let domain: TrustDomain = "mesh.test".parse().unwrap();
    let bare: SpiffeId = "spiffe://mesh.test".parse().unwrap();
    assert_eq!(bare.trust_domain(), "mesh.test");
    let orders = SpiffeId::of_service_account(&domain, "shop", "orders").unwrap();
    assert_eq!(orders.as_str(), "spiffe://mesh.test/ns/shop/sa/orders");
    assert_eq!(orders.trust_domain(), "mesh.test");
    assert!(SpiffeId::of_service_account(&domain, "shop", "../admin").is_err());
}

#[test]
fn the_control_plane_s_id_is_one_that_the_parser_takes_too() {
    let id = SpiffeId::of_control_plane(&"mesh.test".parse().unwrap());
    assert_eq!(id.as_str(), "spiffe://mesh.test/ns/outrider-system/sa/control-plane");
    assert_eq!(id.as_str().parse(), Ok(id.clone()));
}

#[test]
fn sidecar_ids_are_lower_case_hex() {
    for good in ["0", "abcdef0123456789", &"f".repeat(64)] {
        assert!(accepted::<SidecarId>(good), "{good:?}");
    }
    for bad in ["", "AB", "g", "0x1", "a b", &"f".repeat(65)] {
        assert!(!accepted::<SidecarId>(bad), "{bad:?}");
    }
}

#[test]
fn rule_ids_are_printable_ascii() {
    assert!(accepted::<RuleId>("AuthorizationPolicy/payments-authz#0"));
    for bad in ["", "a b", "a\n", "ä", &"a".repeat(513)] {
        assert!(!accepted::<RuleId>(bad), "{bad:?}");
    }
}

#[test]
fn services_are_two_dns_labels() {
    for good in ["shop/orders", "a/b", "0-9/a-b"] {
        assert!(accepted::<ServiceId>(good), "{good:?}");
    }
    for bad in [
        "",
        "/",
        "orders",
        "shop/",
        "/orders",
        "shop/orders/x",
        "Shop/orders",
        "-a/b",
        "a-/b",
        "a.b/c",
        "a/b:1",
    ] {
        assert!(!accepted::<ServiceId>(bad), "{bad:?}");
    }
    let id: ServiceId = "shop/orders".parse().unwrap();
    assert_eq!((id.namespace(), id.name()), ("shop", "orders"));
}

#[test]
fn a_dns_label_has_at_most_63_characters() {
    assert!(is_dns_label(&"a".repeat(63)));
    assert!(!is_dns_label(&"a".repeat(64)));
}

#[test]
fn a_refusal_quotes_no_more_than_80_characters() {
    let refusal = "x".repeat(10_000).parse::<SpiffeId>().unwrap_err();
    assert_eq!(refusal.given.len(), 80);
}

#[test]
fn json_is_checked_like_text() {
    let id: SpiffeId = serde_json::from_str(r#""spiffe://mesh.test/a""#).unwrap();
    assert_eq!(serde_json::to_string(&id).unwrap(), r#""spiffe://mesh.test/a""#);
    assert!(serde_json::from_str::<SpiffeId>(r#""spiffe://mesh.test/../a""#).is_err());
    assert!(serde_json::from_str::<ServiceId>(r#""shop""#).is_err());
    assert!(serde_json::from_str::<TrustDomain>("7").is_err());
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC*") {
        accepted::<TrustDomain>(&text);
        accepted::<SpiffeId>(&text);
        accepted::<SidecarId>(&text);
        accepted::<RuleId>(&text);
        accepted::<ServiceId>(&text);
    }

    #[test]
    fn ids_made_of_legal_parts_are_taken(domain in "[a-z0-9._-]{1,20}", parts in prop::collection::vec("[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}", 0..5)) {
        let text = parts.iter().fold(format!("spiffe://{domain}"), |text, part| format!("{text}/{part}"));
        prop_assert!(accepted::<SpiffeId>(&text));
    }
}
