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
fn a_refusal_is_told_with_its_reason() {
    let answer = Response::builder()
        .status(403)
        .header("content-type", "application/problem+json")
        .header("proxy-status", "outrider; error=http_request_denied")
        .body(Bytes::from_static(
            br#"{"type":"about:blank","title":"Denied","status":403,"detail":"by AuthorizationPolicy/a#0@r1"}"#,
        ))
        .unwrap();
    let text = text(&told(&answer));
    assert!(text.contains("403 in 4.5 ms"), "{text}");
    assert!(text.contains("proxy-status outrider; error=http_request_denied"), "{text}");
    assert!(text.contains("refused: Denied\n         by AuthorizationPolicy/a#0@r1"), "{text}");
}

#[test]
fn a_way_that_is_not_understood_is_left_out() {
    let answer = Response::builder().header("outrider-way", "[]").body(Bytes::new()).unwrap();
    assert!(told(&answer).way.is_none());
}
