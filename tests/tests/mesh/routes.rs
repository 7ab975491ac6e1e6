//! Routes as a caller notices them: which backend answers, what is changed on the way, and when patience ends.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::Method;
use http_body_util::StreamBody;
use hyper::body::Frame;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Call, CallError, Connection};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, wait};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::data_path::Received;

/// A caller, and one instance each of `front`, `red` and `blue`, with this route on `front`'s port 8080.
struct Routed {
    caller: Pod,
    front: Pod,
    red: Pod,
    blue: Pod,
    _mesh: Mesh,
}

impl Routed {
    async fn start(rules: &str) -> Self {
        let mut parts = vec![policy::OPEN.to_owned()];
        parts.extend(["caller", "front", "red", "blue"].map(|name| policy::http(name, 8080)));
        parts.push(policy::route("front-route", "front", 8080, rules));
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let mesh = Mesh::start(&policy::documents(&parts)).await;
        let caller = mesh.pod("caller").start().await;
        let front = mesh.pod("front").app(port::APP, Speaks::Http1).start().await;
        let red = mesh.pod("red").app(port::APP, Speaks::Http1).start().await;
        let blue = mesh.pod("blue").app(port::APP, Speaks::Http1).start().await;
        for name in ["front", "red", "blue"] {
            caller.sidecar.sees(&format!("test/{name}"), 1).await;
        }
        Self { caller, front, red, blue, _mesh: mesh }
    }

    /// The service whose app answered.
    async fn answered_by(&self, call: Call) -> String {
        let answer = call.send(self.caller.outbound()).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.app().split('@').next().unwrap().to_owned()
    }
}

const HOST: &str = "front.test:8080";

#[tokio::test]
async fn the_most_specific_match_decides_by_path_method_header_and_query() {
    let mesh = Routed::start(
        "[{matches: [{path: {type: PathPrefix, value: /shop}}], backendRefs: [{name: red, port: 8080}]},
          {matches: [{path: {type: Exact, value: /shop/cart}}], backendRefs: [{name: blue, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /shop}, method: DELETE}], backendRefs: [{name: blue, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /shop}, headers: [{name: X-Color, value: blue}]}], backendRefs: [{name: blue, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /shop}, queryParams: [{name: color, value: blue}]}], backendRefs: [{name: blue, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: front, port: 8080}]}]",
    )
    .await;
    for (call, service) in [
        (Call::get(HOST, "/shop"), "red"),
        (Call::get(HOST, "/shop/"), "red"),
        (Call::get(HOST, "/shop/x/y"), "red"),
        (Call::get(HOST, "/shopping"), "front"),
        (Call::get(HOST, "/"), "front"),
        (Call::get(HOST, "/shop/cart"), "blue"),
        (Call::get(HOST, "/shop/cart/1"), "red"),
        (Call::new(Method::DELETE, HOST, "/shop/x"), "blue"),
        (Call::get(HOST, "/shop/x").header("x-color", "blue"), "blue"),
        (Call::get(HOST, "/shop/x").header("x-color", "Blue"), "red"),
        (Call::get(HOST, "/shop/x?a=1&color=blue"), "blue"),
        (Call::get(HOST, "/shop/x?color=blues"), "red"),
        // One path, however it is spelled.
        (Call::get(HOST, "/x/../shop/./cart"), "blue"),
        (Call::get(HOST, "/%73hop/cart"), "blue"),
    ] {
        let shown = format!("{call:?}");
        assert_eq!(mesh.answered_by(call).await, service, "{shown}");
    }
}

#[tokio::test]
async fn a_request_that_no_rule_matches_is_a_404_and_a_rule_without_backends_a_500() {
    let mesh = Routed::start(
        "[{matches: [{path: {type: PathPrefix, value: /a}}], backendRefs: [{name: red, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /none}}]},
          {matches: [{path: {type: PathPrefix, value: /zero}}], backendRefs: [{name: red, port: 8080, weight: 0}]}]",
    )
    .await;
    for (path, status, label, rule) in [
        ("/b", 404, "no_route", ""),
        ("/none", 500, "no_backend", "HTTPRoute/front-route#1@r1"),
        ("/zero", 500, "no_backend", "HTTPRoute/front-route#2@r1"),
    ] {
        let refusal = Call::get(HOST, path).send(mesh.caller.outbound()).await.unwrap().refusal();
        assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (status, label), "{path}");
        assert_eq!(refusal.rule, rule, "{path}");
    }
    assert_eq!(mesh.red.app().begun() + mesh.front.app().begun() + mesh.blue.app().begun(), 0);
}

#[tokio::test]
async fn weights_divide_requests_in_their_proportion() {
    let mesh = Routed::start(
        "[{backendRefs: [{name: red, port: 8080, weight: 3}, {name: blue, port: 8080, weight: 1}, {name: front, port: 8080, weight: 0}]}]",
    )
    .await;
    let mut counts = HashMap::<String, u32>::new();
    for _ in 0..400 {
        *counts.entry(mesh.answered_by(Call::get(HOST, "/")).await).or_default() += 1;
    }
    // 300 expected, standard deviation 8.7: this fails once in 10^8 runs.
    let red = counts["red"];
    assert!((250..=350).contains(&red), "{counts:?}");
    assert_eq!(red + counts["blue"], 400, "a weight of 0 gets nothing: {counts:?}");
}

#[tokio::test]
async fn header_changes_reach_the_app_and_the_caller() {
    let mesh = Routed::start(
        "[{filters: [
             {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: rule}], add: [{name: X-Add, value: rule}], remove: [x-secret]}},
             {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: rule}], remove: [server]}}],
           backendRefs: [{name: red, port: 8080}]}]",
    )
    .await;
    let call = Call::get(HOST, "/")
        .header("x-set", "app")
        .header("x-add", "app")
        .header("x-secret", "1")
        .plan("header=server:me,header=x-answer:app");
    let answer = call.send(mesh.caller.outbound()).await.unwrap();
    assert_eq!((answer.header("x-answer").as_str(), answer.header("server").as_str()), ("rule", ""));
    let seen = mesh.red.app().seen_one();
    assert_eq!(seen.header("x-set").as_deref(), Some("rule"));
    assert_eq!(seen.headers.get_all("x-add").iter().collect::<Vec<_>>(), ["app", "rule"]);
    assert_eq!(seen.header("x-secret"), None);
}

#[tokio::test]
async fn patience_ends_where_the_rule_says_so_and_is_told_apart() {
    let mesh = Routed::start(
        "[{name: whole, matches: [{path: {type: PathPrefix, value: /whole}}], timeouts: {request: 150ms}, backendRefs: [{name: red, port: 8080}]},
          {name: attempt, matches: [{path: {type: PathPrefix, value: /attempt}}], timeouts: {request: 10s, backendRequest: 150ms}, backendRefs: [{name: red, port: 8080}]}]",
    )
    .await;
    for (path, label, rule) in [
        ("/whole", "request_timeout", "HTTPRoute/front-route#whole@r1"),
        ("/attempt", "backend_timeout", "HTTPRoute/front-route#attempt@r1"),
    ] {
        for method in [Method::GET, Method::POST] {
            let started = Instant::now();
            let call = Call::new(method, HOST, path).plan("hold");
            let refusal =
                wait::bounded("an answer", call.send(mesh.caller.outbound())).await.unwrap().refusal();
            assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (504, label));
            assert_eq!((refusal.flag.as_str(), refusal.rule.as_str()), ("UT", rule));
            assert!(started.elapsed() >= Duration::from_millis(150), "not before its time");
        }
    }
    // In time is in time.
    let call = Call::get(HOST, "/whole").plan("bytes=10");
    assert_eq!(call.send(mesh.caller.outbound()).await.unwrap().pattern.length, 10);
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_stop_the_clock() {
    let mesh = Routed::start("[{timeouts: {request: 300ms}, backendRefs: [{name: red, port: 8080}]}]").await;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nx-app: bytes=1000000000\r\n\r\n");
    let mut http1 = TcpStream::connect(mesh.caller.outbound()).await.unwrap();
    http1.write_all(request.as_bytes()).await.unwrap();
    // Its head is read, and nothing of its body.
    let mut http2 = Connection::open(mesh.caller.outbound(), Speaks::Http2).await.unwrap();
    let call = Call::get(HOST, "/").http2().plan("bytes=1000000000");
    let answer = wait::bounded("a head", http2.begin(call)).await.unwrap();
    mesh.caller
        .sidecar
        .counts("http_client_request_duration_seconds_count", &["class=\"aborted\""], 2.0)
        .await;
    drop((http1, answer));
}

#[tokio::test]
async fn patience_ends_in_the_middle_of_an_answer_too() {
    let mesh = Routed::start("[{timeouts: {request: 300ms}, backendRefs: [{name: red, port: 8080}]}]").await;
    // The app sends back what it gets, and gets no more than this.
    let (send, receive) = tokio::sync::mpsc::channel(1);
    send.send(Frame::data(bytes::Bytes::from_static(b"part"))).await.unwrap();
    let call = Call::post(HOST, "/", "").body(StreamBody::new(Received(receive))).http2().plan("echo");
    let answer = wait::bounded("an end", call.send(mesh.caller.outbound())).await;
    assert!(matches!(answer, Err(CallError::Broken { length: 4, .. })), "{answer:?}");
    drop(send);
}
