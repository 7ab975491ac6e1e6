//! Who is believed about what, and that nobody else's claim gets through.

use http::HeaderMap;
use proptest::prelude::*;

use super::*;

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(*name, value.parse().unwrap());
    }
    fields
}

fn shown(fields: &HeaderMap) -> Vec<(String, String)> {
    let mut all: Vec<_> =
        fields.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    all.sort();
    all
}

fn trust(trusted: TrustedProxies) -> Forwarded {
    Forwarded { trusted, header: ForwardedHeader::XForwardedFor }
}

fn networks(texts: &[&str]) -> TrustedProxies {
    TrustedProxies::Networks(texts.iter().map(|text| text.parse().unwrap()).collect())
}

const HOP: Hop = Hop { address: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), scheme: Scheme::Https };

/// The client that is found, and what the app is told.
fn settled(lines: &[(&'static str, &str)], trust: &Forwarded) -> (String, Vec<(String, String)>) {
    let mut fields = fields(lines);
    let client = settle(&mut fields, HOP, trust);
    (client.to_string(), shown(&fields))
}

fn pairs(lines: &[(&str, &str)]) -> Vec<(String, String)> {
    lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

const CLAIMS: [(&str, &str); 8] = [
    ("x-forwarded-for", "203.0.113.9, 10.0.0.9"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-host", "evil.example"),
    ("x-forwarded-port", "1"),
    ("x-forwarded-prefix", "/admin"),
    ("x-real-ip", "203.0.113.9"),
    ("forwarded", "for=203.0.113.9;proto=http"),
    ("x-other", "kept"),
];

#[test]
fn nobody_is_believed_unless_policy_says_so() {
    let plain =
        pairs(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https"), ("x-other", "kept")]);
    for nobody in [
        TrustedProxies::None,
        networks(&["10.0.0.2", "192.0.2.0/24"]),
        // Fewer entries than proxies: somebody came around one of them.
        TrustedProxies::Hops(3),
    ] {
        assert_eq!(settled(&CLAIMS, &trust(nobody)), ("10.0.0.1".to_owned(), plain.clone()));
    }
}

#[test]
fn as_many_entries_count_as_there_are_proxies_and_those_before_them_are_taken_out() {
    let lines = [("x-forwarded-for", "6.6.6.6, 203.0.113.9"), ("x-forwarded-for", "192.0.2.1")];
    for (hops, client, told) in
        [(1, "192.0.2.1", "192.0.2.1, 10.0.0.1"), (2, "203.0.113.9", "203.0.113.9, 192.0.2.1, 10.0.0.1")]
    {
        let (found, fields) = settled(&lines, &trust(TrustedProxies::Hops(hops)));
        assert_eq!(found, client);
        assert_eq!(fields, pairs(&[("x-forwarded-for", told), ("x-forwarded-proto", "https")]));
    }
}

#[test]
fn entries_are_read_from_the_right_up_to_the_first_that_no_trusted_proxy_wrote() {
    let trust = trust(networks(&["10.0.0.0/8", "2001:db8::/32"]));
    for (given, client, told) in [
        ("6.6.6.6, 203.0.113.9, 10.2.0.1", "203.0.113.9", "203.0.113.9, 10.2.0.1, 10.0.0.1"),
        ("203.0.113.9:4711, [2001:db8::7]:99", "203.0.113.9", "203.0.113.9, 2001:db8::7, 10.0.0.1"),
        ("::ffff:10.1.1.1", "10.1.1.1", "10.1.1.1, 10.0.0.1"),
        ("203.0.113.9, unknown, 10.2.0.1", "10.2.0.1", "10.2.0.1, 10.0.0.1"),
        ("", "10.0.0.1", "10.0.0.1"),
        ("nonsense", "10.0.0.1", "10.0.0.1"),
    ] {
        let (found, fields) = settled(&[("x-forwarded-for", given)], &trust);
        assert_eq!(
            (found.as_str(), fields),
            (client, pairs(&[("x-forwarded-for", told), ("x-forwarded-proto", "https")]))
        );
    }
}

#[test]
fn a_believed_proxy_says_how_the_client_spoke_and_to_which_host() {
    let lines = [
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=6.6.6.6"),
    ];
    let expected = [
        ("x-forwarded-for", "203.0.113.9, 10.0.0.1"),
        ("x-forwarded-host", "shop.example"),
        ("x-forwarded-proto", "http"),
    ];
    assert_eq!(
        settled(&lines, &trust(TrustedProxies::Hops(1))),
        ("203.0.113.9".to_owned(), pairs(&expected))
    );
    // Said twice, or by a word that is none, it is how the proxy itself spoke.
    for proto in [
        &[("x-forwarded-proto", "gopher")][..],
        &[("x-forwarded-proto", "http"), ("x-forwarded-proto", "http")],
    ] {
        let (_, told) = settled(
            &[&[("x-forwarded-for", "203.0.113.9")][..], proto].concat(),
            &trust(TrustedProxies::Hops(1)),
        );
        assert_eq!(told[1].1, "https");
    }
}

#[test]
fn the_standard_field_is_read_where_policy_names_it_and_then_alone() {
    let trust = Forwarded { trusted: networks(&["10.0.0.0/8"]), header: ForwardedHeader::Forwarded };
    let lines = [
        ("forwarded", "for=6.6.6.6, For=\"[2001:db8::9]:471\"; Proto=HTTP;host=\"a,b;c\""),
        ("forwarded", "by=_x;for=\"10.3.0.1\""),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-host", "evil.example"),
    ];
    let expected = [
        ("forwarded", "for=\"[2001:db8::9]\";proto=http, for=10.3.0.1, for=10.0.0.1;proto=https"),
        ("x-forwarded-for", "2001:db8::9, 10.3.0.1, 10.0.0.1"),
        ("x-forwarded-proto", "http"),
    ];
    assert_eq!(settled(&lines, &trust), ("2001:db8::9".to_owned(), pairs(&expected)));
    for hidden in
        ["for=_hidden", "for=unknown", "proto=http", "for=1.1.1.1;for=2.2.2.2", "\"", "for=\"1.1.1.1"]
    {
        let (client, _) = settled(&[("forwarded", hidden)], &trust);
        assert_eq!(client, "10.0.0.1", "{hidden}");
    }
}

proptest! {
    /// Whatever an untrusted client writes, the app sees its address and nothing that it claimed.
    #[test]
    fn no_claim_of_an_untrusted_client_gets_through(
        claims in prop::collection::vec((0..6_usize, "[ -~]{0,40}"), 0..8),
    ) {
        let names = ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-x"];
        let lines: Vec<_> = claims.iter().map(|(at, value)| (names[*at], value.as_str())).collect();
        let (client, told) = settled(&lines, &trust(networks(&["192.0.2.0/24"])));
        prop_assert_eq!(client, "10.0.0.1");
        prop_assert_eq!(told, pairs(&[("x-forwarded-for", "10.0.0.1"), ("x-forwarded-proto", "https")]));
    }

    /// A trusted proxy may pass on anything at all: the last entry that it vouches for is still found.
    #[test]
    fn what_stands_before_a_proxys_own_entry_changes_nothing(before in "[ -~]{0,60}") {
        let before = before.replace('"', "");
        let given = format!("{before}, 203.0.113.9");
        let (client, _) = settled(&[("x-forwarded-for", &given)], &trust(TrustedProxies::Hops(1)));
        prop_assert_eq!(client, "203.0.113.9");
    }
}
