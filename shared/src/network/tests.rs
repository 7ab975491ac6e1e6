//! What is a network, and what lies in one.

use super::*;

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

#[test]
fn an_address_lies_in_the_networks_whose_bits_it_shares() {
    for (of, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("192.0.2.128/25", "192.0.2.200", "192.0.2.127"),
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
        ("::1", "::1", "::2"),
        ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
    ] {
        assert!(network(of).contains(inside.parse().unwrap()), "{inside} in {of}");
        assert!(!network(of).contains(outside.parse().unwrap()), "{outside} in {of}");
    }
    assert!(network("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
    assert!(!network("0.0.0.0/0").contains("::1".parse().unwrap()), "the families are apart");
    assert!(network("::/0").contains("2001:db8::1".parse().unwrap()));
}

#[test]
fn what_is_no_network_is_refused() {
    for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "a/8", "10.0.0.0/8/8"] {
        assert!(matches!(text.parse::<IpNetwork>(), Err(BadNetwork::Form { .. })), "{text}");
    }
    assert!(matches!("10.0.0.1/8".parse::<IpNetwork>(), Err(BadNetwork::HostBits { bits: 8, .. })));
}

#[test]
fn a_network_reads_what_it_writes() {
    for text in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "192.0.2.7/32"] {
        assert_eq!(network(text).to_string(), text);
        assert_eq!(serde_json::from_str::<IpNetwork>(&format!("{text:?}")).unwrap(), network(text));
    }
}
