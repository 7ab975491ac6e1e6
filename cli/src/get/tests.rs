use std::net::SocketAddr;

use bytes::Bytes;
use http::Response;

use super::{GetArgs, text, understood};
use crate::screen::Output;

/// As a sidecar writes it.
const WAY: &str = r#"{"service":"shop/orders","port":8080,"rule":"HTTPRoute/orders-http#read-orders@r3",
"endpoint":"127.14.2.2:14006","identity":"spiffe://shop.local/ns/shop/sa/orders",
"redispatched_from":["127.14.2.1:14006"],"upstream_us":3200,"later":1,
"inbound":{"peer":"spiffe://shop.local/ns/shop/sa/frontend","app_port":8080,"app_us":1100}}"#;

fn args() -> GetArgs {
    GetArgs {
        url: "http://orders/api/orders".parse().unwrap(),
        via: SocketAddr::from(([127, 0, 0, 1], 14_001)),
        output: Output::Table,
    }
}

fn told(answer: &Response<Bytes>) -> super::Got {
    understood(&args(), "ab".repeat(16), std::time::Duration::from_micros(4_500), answer)
}

#[test]
fn the_way_is_told_from_the_caller_to_the_app() {
    let answer = Response::builder()
        .header("outrider-way", WAY.replace('\n', ""))
        .body(Bytes::from_static(b"{}"))
        .unwrap();
    let text = text(&told(&answer));
    let expected = "\
GET http://orders/api/orders  200 in 4.5 ms
└─ sidecar 127.0.0.1:14001
   ├─ route HTTPRoute/orders-http#read-orders@r3
   ├─ 127.14.2.1:14006 was not there, so the request went elsewhere
   └─ shop/orders:8080 at 127.14.2.2:14006 in 3.2 ms, over mTLS as spiffe://shop.local/ns/shop/sa/orders
      └─ app on port 8080 in 1.1 ms, called by frontend
trace abababababababababababababababab

{}";
    assert_eq!(text, expected);
}

#[test]
fn a_refusal_is_told_with_its_reason_and_the_next_step() {
    let answer = Response::builder()
        .status(403)
        .header("content-type", "application/problem+json")
        .header("proxy-status", "outrider; error=http_request_denied")
        .body(Bytes::from_static(
            br#"{"type":"about:blank","title":"Denied","status":403,"detail":"a Deny rule matches","later":[],
                 "rule":"AuthorizationPolicy/a#0@r1","refused_by":"shop/orders, inbound","next_step":"Ask."}"#,
        ))
        .unwrap();
    let got = told(&answer);
    let text = text(&got);
    assert!(text.contains("403 in 4.5 ms"), "{text}");
    assert!(text.contains("proxy-status outrider; error=http_request_denied"), "{text}");
    let refusal = "\
refused: Denied
         a Deny rule matches
         by shop/orders, inbound
         rule AuthorizationPolicy/a#0@r1
         → Ask.
";
    assert!(text.ends_with(refusal), "{text}");
    let json = serde_json::to_value(&got).unwrap();
    assert_eq!(json["problem"]["next_step"], "Ask.", "nothing that was told is left out of {json}");
}

#[test]
fn a_request_that_no_rule_matched_is_told_with_what_was_looked_at() {
    let way = r#"{"stopped_at":"find","refusal":"no_route","target":"shop/orders:8080","rule":null,"looked_at":{
        "host":"orders","method":"GET","path":"/admin","more_rules":3,"rules":[
        {"rule":"HTTPRoute/orders-http#read-orders","differs_in":"path"},{"rule":null,"differs_in":"method"}]}}"#;
    let answer =
        Response::builder().header("outrider-way", way.replace('\n', "")).body(Bytes::new()).unwrap();
    let text = text(&told(&answer));
    let expected = "\
└─ sidecar 127.0.0.1:14001
   └─ stopped at find: no_route
      ├─ GET /admin of shop/orders:8080
      ├─ HTTPRoute/orders-http#read-orders differs in path
      ├─ a rule differs in method
      └─ and 3 more
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_host_that_nobody_has_is_told_with_those_that_there_are() {
    let way = r#"{"stopped_at":"find","refusal":"unknown_host","target":null,"rule":"MeshConfig/shop@r1",
        "looked_at":{"host":"ordres","method":"GET","path":"/","services":["shop/orders:8080","shop/frontend:8080"]}}"#;
    let answer =
        Response::builder().header("outrider-way", way.replace('\n', "")).body(Bytes::new()).unwrap();
    let text = text(&told(&answer));
    let expected = "\
   └─ stopped at find: unknown_host
      ├─ GET / of host ordres
      ├─ decided by MeshConfig/shop@r1
      └─ known are shop/orders:8080, shop/frontend:8080
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_request_that_the_far_side_refused_is_told_as_far_as_it_came() {
    let inbound = r#"{"stopped_at":"authorize","refusal":"not_allowed","target":"shop/orders:8080",
        "rule":"AuthorizationPolicy/orders-authz@r1","looked_at":{"host":"orders","method":"GET","path":"/x",
        "peer":"spiffe://shop.local/ns/shop/sa/payments","policies":["AuthorizationPolicy/orders-authz"]}}"#;
    let start = WAY.find("{\"peer\"").unwrap();
    let way = format!("{}{inbound}}}", &WAY[..start]).replace('\n', "");
    let answer = Response::builder().header("outrider-way", way).body(Bytes::new()).unwrap();
    let text = text(&told(&answer));
    let expected = "\
      └─ stopped at authorize: not_allowed
         ├─ GET /x of shop/orders:8080, called by payments
         ├─ decided by AuthorizationPolicy/orders-authz@r1
         └─ AuthorizationPolicy/orders-authz was asked
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_way_that_is_not_understood_is_left_out() {
    let answer = Response::builder().header("outrider-way", "[]").body(Bytes::new()).unwrap();
    assert!(told(&answer).way.is_none());
}
