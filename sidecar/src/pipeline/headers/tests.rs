//! Sentences about header fields, and callers who mean ill.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use outrider_shared::route::HeaderChanges;
use proptest::prelude::*;

use super::{BadChange, Changes, remove_hop_by_hop, strip_reserved};

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

/// What is left, as `name: value`, sorted.
fn left(headers: &HeaderMap) -> Vec<String> {
    let mut left: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    left.sort();
    left
}

fn without_hop_by_hop(fields: &[(&str, &str)]) -> Vec<String> {
    let mut headers = map(fields);
    remove_hop_by_hop(&mut headers);
    left(&headers)
}

#[test]
fn a_message_without_hop_by_hop_fields_is_left_as_it_is() {
    let fields = [("host", "orders"), ("accept", "*/*"), ("cookie", "a"), ("cookie", "b")];
    let mut headers = map(&fields);
    remove_hop_by_hop(&mut headers);
    strip_reserved(&mut headers);
    assert_eq!(headers, map(&fields));
}

#[test]
fn every_hop_by_hop_field_goes_and_so_does_what_connection_names() {
    let left = without_hop_by_hop(&[
        ("connection", "keep-alive, X-One ,,\tx-two"),
        ("connection", "X-THREE"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "2 again"),
        ("x-three", "3"),
        ("x-four", "4"),
    ]);
    assert_eq!(left, ["x-four: 4"]);
}

#[test]
fn host_and_content_length_stay_even_if_connection_names_them() {
    let left = without_hop_by_hop(&[
        ("connection", "Host, content-LENGTH, close"),
        ("host", "orders"),
        ("content-length", "3"),
    ]);
    assert_eq!(left, ["content-length: 3", "host: orders"]);
}

#[test]
fn a_caller_may_give_up_its_own_authorization() {
    let left = without_hop_by_hop(&[("connection", "authorization"), ("authorization", "Bearer x")]);
    assert!(left.is_empty());
}

#[test]
fn names_that_are_none_name_nothing() {
    let left = without_hop_by_hop(&[
        ("connection", ":path, :authority, \"x-one\", x one, x-one;q=1, , =, x-one:"),
        ("x-one", "1"),
    ]);
    assert_eq!(left, ["x-one: 1"]);
    let mut headers = map(&[("x-one", "1")]);
    headers.insert("connection", HeaderValue::from_bytes(b"\xff\xfe, x-one").unwrap());
    remove_hop_by_hop(&mut headers);
    assert!(headers.is_empty(), "a token that is not text does not hide the ones beside it");
}

#[test]
fn a_thousand_names_are_all_heeded() {
    let names: Vec<String> = (0..1_000).map(|n| format!("x-{n}")).collect();
    let mut headers = map(&[("x-other", "stays")]);
    for name in &names {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_static("v"));
    }
    for line in names.chunks(100) {
        headers.append("connection", line.join(",").parse().unwrap());
    }
    remove_hop_by_hop(&mut headers);
    assert_eq!(left(&headers), ["x-other: stays"]);
}

#[test]
fn te_keeps_trailers_and_nothing_else() {
    assert_eq!(without_hop_by_hop(&[("te", "trailers")]), ["te: trailers"]);
    assert_eq!(without_hop_by_hop(&[("te", "gzip;q=0.5, Trailers")]), ["te: trailers"]);
    assert_eq!(without_hop_by_hop(&[("te", "gzip"), ("te", "trailers")]), ["te: trailers"]);
    assert_eq!(without_hop_by_hop(&[("connection", "te"), ("te", "trailers")]), ["te: trailers"]);
    assert!(without_hop_by_hop(&[("te", "gzip")]).is_empty());
    assert!(without_hop_by_hop(&[("te", "trailers2")]).is_empty());
}

#[test]
fn the_meshs_own_names_are_taken_from_whoever_sends_them() {
    let mut headers = map(&[
        ("Outrider-Target", "shop/payments:50051"),
        ("outrider-hops", "0"),
        ("outrider-hops", "1"),
        ("outrider-", "?"),
        ("outrider-invented", "x"),
        ("X-Forwarded-Client-Cert", "By=spiffe://shop.local/ns/shop/sa/orders"),
        ("outriders", "stays"),
        ("x-forwarded-for", "stays"),
    ]);
    strip_reserved(&mut headers);
    assert_eq!(left(&headers), ["outriders: stays", "x-forwarded-for: stays"]);
}

fn changes(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderChanges {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    HeaderChanges {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn changes_are_made_in_the_order_set_add_remove() {
    let compiled =
        Changes::compile(&changes(&[("a", "1"), ("b", "2")], &[("a", "3"), ("c", "4")], &["b", "d"]))
            .unwrap();
    let mut headers = map(&[("a", "0"), ("a", "00"), ("c", "0"), ("d", "0"), ("e", "0")]);
    compiled.apply(&mut headers);
    assert_eq!(left(&headers), ["a: 1", "a: 3", "c: 0", "c: 4", "e: 0"]);
}

#[test]
fn a_change_of_what_routes_or_frames_a_message_is_refused_by_name() {
    for name in
        ["host", "content-length", "transfer-encoding", "Connection", "te", "outrider-target", "trailer"]
    {
        let reserved = Err(BadChange::Reserved { name: name.to_owned() });
        assert_eq!(Changes::compile(&changes(&[(name, "x")], &[], &[])), reserved);
        assert_eq!(Changes::compile(&changes(&[], &[], &[name])), reserved);
    }
    assert_eq!(
        Changes::compile(&changes(&[], &[("a b", "x")], &[])),
        Err(BadChange::Name { name: "a b".to_owned() })
    );
    assert_eq!(
        Changes::compile(&changes(&[("a", "x\r\nb: y")], &[], &[])),
        Err(BadChange::Value { name: "a".to_owned() })
    );
}

proptest! {
    /// Whatever `Connection` says, nothing of one hop is left, and to whom and how long is never lost.
    #[test]
    fn no_connection_field_breaks_the_next_hop(lines in prop::collection::vec("[a-z,; :\"-]{0,40}", 0..4)) {
        let mut headers = map(&[("host", "orders"), ("content-length", "3"), ("upgrade", "x"), ("te", "trailers")]);
        for line in &lines {
            headers.append("connection", line.parse().unwrap());
        }
        remove_hop_by_hop(&mut headers);
        prop_assert_eq!(left(&headers), ["content-length: 3", "host: orders", "te: trailers"]);
    }
}
