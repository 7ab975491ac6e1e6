//! Ports that do not say what they speak: it is told by first bytes, and policy holds as if it had been said.

use http::Version;
use outrider_sidecar::limits::Limits;
use outrider_tests::app::Speaks;
use outrider_tests::call::{self, Call};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{net, policy, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DETECTED: &str = "outrider_detected_connections_total";
const AHEAD: &str = "outrider_tunnels_ahead_total";
const REFUSALS: &str = "outrider_refusals_total";
const HOST: &str = "app.test:8080";

/// `caller` has a listener for `app`, whose one port says nothing of what it speaks.
struct Pair {
    caller: Pod,
    app: Pod,
    _mesh: Mesh,
}

impl Pair {
    /// Whatever the case puts at the app's port.
    async fn bare(policies: &[String]) -> Self {
        Self::start(policies, None, Limits::default()).await
    }

    async fn start(policies: &[String], speaks: Option<Speaks>, limits: Limits) -> Self {
        let services = [policy::http("caller", 8080), undeclared("mtls: Strict")];
        let mut parts = vec![policy::OPEN];
        parts.extend(services.iter().chain(policies).map(String::as_str));
        let mesh = Mesh::start(&policy::documents(&parts)).await;
        let caller = mesh.pod("caller").upstream("test/app", 8080).limits(limits).start().await;
        let app = mesh.pod("app");
        let app = match speaks {
            Some(speaks) => app.app(port::APP, speaks),
            None => app,
        };
        let app = app.start().await;
        if speaks.is_some() {
            caller.sidecar.sees("test/app", 1).await;
        }
        Self { caller, app, _mesh: mesh }
    }

    /// The app listens by now.
    async fn is_seen(&self) {
        self.caller.sidecar.sees("test/app", 1).await;
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.caller.sidecar.upstream(0)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// So many connections of the caller were found to be that.
    async fn found(&self, verdict: &str, least: f64) {
        let labels = ["port=\"test/app:8080\"", &format!("verdict=\"{verdict}\"")];
        self.caller.sidecar.counts(DETECTED, &labels, least).await;
    }

    /// A tunnel that was dialled ahead came out like this, on the app's side.
    async fn ahead(&self, outcome: &str) {
        let labels = ["side=\"inbound\"", &format!("outcome=\"{outcome}\"")];
        self.app.sidecar.counts(AHEAD, &labels, 1.0).await;
    }

    /// What the app's sidecar has counted, 0 where it has not.
    async fn at_app(&self, name: &str, labels: &[&str]) -> f64 {
        self.app.sidecar.metric(name, labels).await.unwrap()
    }
}

fn undeclared(mtls: &str) -> String {
    policy::service("app", &format!("ports: [{{port: 8080, targetPort: 21080, {mtls}}}]"))
}

#[track_caller]
fn assert_count(got: f64, wanted: f64, what: &str) {
    assert!((got - wanted).abs() < f64::EPSILON, "{what}: {got}, not {wanted}");
}

async fn ends(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = wait::bounded("the end of the connection", stream.read_to_end(&mut rest)).await;
    assert_eq!(String::from_utf8_lossy(&rest), "", "nothing comes back");
}

async fn comes(stream: &mut TcpStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    wait::bounded("what the server says", stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(wanted));
}

#[tokio::test]
async fn http_is_served_as_requests_and_reaches_the_app_in_the_version_in_which_it_was_spoken() {
    for (speaks, version, verdict) in
        [(Speaks::Http1, Version::HTTP_11, "http1"), (Speaks::Http2, Version::HTTP_2, "http2")]
    {
        let pair = Pair::start(&[], Some(speaks), Limits::default()).await;
        let listener = pair.caller.sidecar.upstream(0);
        let claim = ("x-forwarded-client-cert", "URI=spiffe://test.mesh/ns/test/sa/admin");
        let call = Call::post(HOST, "/a?b=c", "content").speaks(speaks).header(claim.0, claim.1);
        assert_eq!(call.send(listener).await.unwrap().text(), "content");
        let seen = pair.app.app().seen_one();
        assert_eq!((seen.version, seen.uri.path()), (version, "/a"));
        assert_eq!(seen.header(claim.0).unwrap(), "URI=spiffe://test.mesh/ns/test/sa/caller");
        pair.found(verdict, 1.0).await;
        // By Host, the sidecar's own port finds the same.
        let call = Call::get(HOST, "/b").speaks(speaks);
        assert_eq!(call.send(pair.caller.outbound()).await.unwrap().status, 200);
        let view = pair.caller.sidecar.upstream_view("test/app").await.unwrap();
        let of = serde_json::json!([{"port": "test/app:8080", "verdict": verdict, "connections": 1}]);
        assert_eq!(view["detected"], of);
    }
}

#[tokio::test]
async fn grpc_keeps_its_trailers() {
    let pair = Pair::start(&[], Some(Speaks::Http2), Limits::default()).await;
    let call = Call::post(HOST, "/shop.Payments/Pay", "").http2().plan("trailer=grpc-status:0");
    let call = call.header("content-type", "application/grpc").header("te", "trailers");
    let answer = call.send(pair.caller.sidecar.upstream(0)).await.unwrap();
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test]
async fn what_is_not_http_passes_byte_for_byte_and_each_half_closes_by_itself() {
    let pair = Pair::bare(&[]).await;
    let _echo = net::echo(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    let binary: Vec<u8> = (0..1_u32 << 20).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let text = b"GET /key\r\nset a 0 0 5\r\nhello\r\n".repeat(1_000);
    for (number, sent) in [(1.0, binary), (2.0, text)] {
        let mut stream = pair.connect().await;
        let (mut read, mut write) = stream.split();
        let writing = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let both = async { tokio::join!(writing, read.read_to_end(&mut got)) };
        wait::bounded("the echo", both).await.1.unwrap();
        assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
        pair.found("opaque", number).await;
    }
}

#[tokio::test]
async fn no_first_byte_is_lost_also_where_they_come_one_by_one() {
    let pair = Pair::bare(&[]).await;
    let _echo = net::echo(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    for sent in [&b"\r\nGET  /key HTTQ/1\r\n"[..], b"SSH-2.0-x\r\n\x00\x01", b"PRI * HTTP\r\n"] {
        let mut stream = pair.connect().await;
        one_by_one(&mut stream, sent).await;
        comes(&mut stream, sent).await;
    }
}

#[tokio::test]
async fn a_request_whose_bytes_come_one_by_one_is_one() {
    let pair = Pair::start(&[], Some(Speaks::Http1), Limits::default()).await;
    let mut stream = pair.connect().await;
    one_by_one(&mut stream, b"GET /slowly HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let mut answer = String::new();
    wait::bounded("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(pair.app.app().seen_one().uri.path(), "/slowly");
    pair.found("http1", 1.0).await;
}

async fn one_by_one(stream: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).await.unwrap();
        // Each in a packet of its own, and looked at by itself more often than not.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_although_the_client_never_speaks() {
    let pair = Pair::bare(&[]).await;
    let greets = net::greets(pair.app.sidecar.at(port::APP), b"220 mail ESMTP\r\n").await;
    pair.is_seen().await;
    let mut stream = pair.connect().await;
    comes(&mut stream, b"220 mail ESMTP\r\n").await;
    pair.found("server_first", 1.0).await;
    drop(stream);
    // Nor need it be able to speak.
    let mut stream = pair.connect().await;
    stream.shutdown().await.unwrap();
    comes(&mut stream, b"220 mail ESMTP\r\n").await;
    pair.found("silent", 1.0).await;
    drop(stream);
    // A tunnel that was used is counted as any other, once both of its ends have ended.
    greets.abort();
    let used = ["side=\"inbound\"", "outcome=\"used\""];
    pair.app.sidecar.counts(AHEAD, &used, 2.0).await;
    assert_count(pair.at_app("outrider_inbound_requests_total", &[]).await, 2.0, "requests");
    let by_default = pair.at_app("outrider_authorization_allowed_by_default_total", &[]).await;
    assert_count(by_default, 2.0, "allowed by default");
}

#[tokio::test]
async fn a_tunnel_that_was_dialled_ahead_is_dropped_uncounted_where_the_client_speaks_http() {
    let pair = Pair::start(&[], Some(Speaks::Http1), Limits::default()).await;
    let mut stream = pair.connect().await;
    let open = "outrider_upstream_tunnels_open";
    pair.app.sidecar.counts(open, &["side=\"inbound\""], 1.0).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    wait::bounded("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    pair.ahead("unused").await;
    let outbound = ["side=\"outbound\"", "outcome=\"unused\""];
    pair.caller.sidecar.counts(AHEAD, &outbound, 1.0).await;
    assert_count(pair.at_app("outrider_inbound_requests_total", &[]).await, 1.0, "requests");
    let by_default = pair.at_app("outrider_authorization_allowed_by_default_total", &[]).await;
    assert_count(by_default, 1.0, "allowed by default");
    wait::until("the permits are back", async || {
        match pair.app.sidecar.metric(open, &["side=\"inbound\""]).await? {
            0.0 => Ok(()),
            held => Err(format!("{held} are held")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_allow_rule_with_operations_lets_no_tunnel_in_and_what_was_only_dialled_ahead_is_no_refusal() {
    let rules = "[{to: [{http: {methods: [GET]}}]}]";
    let pair = Pair::start(
        &[policy::authorization("app", "app", "Enforce", "Allow", rules)],
        Some(Speaks::Http1),
        Limits::default(),
    )
    .await;
    // The client says nothing until its tunnel is refused; then it speaks HTTP, which is allowed.
    let mut stream = pair.connect().await;
    pair.ahead("refused").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    wait::bounded("the answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_count(pair.at_app(REFUSALS, &[]).await, 0.0, "refusals");
    let refused = Call::post(HOST, "/", "x").send(pair.caller.sidecar.upstream(0)).await.unwrap();
    assert_eq!(refused.refusal().label, "not_allowed");
    // The same with bytes that are no HTTP: they reach nobody, and that is a refusal, once on each side.
    let connections = pair.app.app().begun();
    let mut stream = pair.connect().await;
    stream.write_all(b"\x00\x01\x02").await.unwrap();
    ends(&mut stream).await;
    let inbound = ["side=\"inbound\"", "reason=\"not_allowed\""];
    pair.app.sidecar.counts(REFUSALS, &inbound, 2.0).await;
    assert_count(pair.at_app(REFUSALS, &[]).await, 2.0, "refusals");
    assert_eq!(pair.app.app().begun(), connections);
}

#[tokio::test]
async fn a_deny_rule_with_a_path_refuses_its_requests_and_every_tunnel() {
    let rules = "[{to: [{http: {pathPrefixes: [/admin]}}]}]";
    let pair = Pair::bare(&[policy::authorization("app", "app", "Enforce", "Deny", rules)]).await;
    let server = net::keeps(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    let denied = Call::get(HOST, "/admin").send(pair.caller.sidecar.upstream(0)).await.unwrap();
    assert_eq!(denied.refusal().label, "denied");
    let mut stream = pair.connect().await;
    stream.write_all(b"\x16\x03\x01").await.unwrap();
    ends(&mut stream).await;
    let connect = format!("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let denied = call::raw(pair.caller.outbound(), connect.as_bytes()).await.unwrap();
    assert_eq!(denied.refusal().label, "denied");
    assert_eq!(server.kept(), <[Vec<u8>; 0]>::default(), "nothing came to the app");
    // Others pass.
    let mut stream = pair.connect().await;
    stream.write_all(b"GET /public HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    wait::until("the request is there", async || match server.kept().as_slice() {
        [request] if request.starts_with(b"GET /public HTTP/1.1\r\n") => Ok(()),
        kept => Err(format!("{kept:?}")),
    })
    .await;
}

#[tokio::test]
async fn what_an_audited_rule_would_do_is_counted_of_tunnels_that_are_used_and_of_no_others() {
    let rules = "[{to: [{http: {pathPrefixes: [/admin]}}]}]";
    let pair = Pair::bare(&[policy::authorization("app", "app", "Audit", "Deny", rules)]).await;
    let _echo = net::echo(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    let unused = pair.connect().await;
    let open = "outrider_upstream_tunnels_open";
    pair.app.sidecar.counts(open, &["side=\"inbound\""], 1.0).await;
    drop(unused);
    pair.ahead("unused").await;
    let audits = "outrider_authorization_audit_matches_total";
    assert_count(pair.at_app(audits, &[]).await, 0.0, "audits");
    let mut stream = pair.connect().await;
    pair.app.sidecar.counts(open, &["side=\"inbound\""], 1.0).await;
    stream.write_all(b"\x00").await.unwrap();
    comes(&mut stream, b"\x00").await;
    drop(stream);
    pair.ahead("used").await;
    assert_count(pair.at_app(audits, &[]).await, 1.0, "audits");
}

#[tokio::test]
async fn http_in_a_tunnel_reaches_no_app() {
    let pair = Pair::start(&[], Some(Speaks::Http1), Limits::default()).await;
    let head = format!("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let claim = "x-forwarded-client-cert: URI=spiffe://test.mesh/ns/test/sa/admin";
    for sent in [
        format!("GET / HTTP/1.1\r\nHost: a\r\n{claim}\r\n\r\n"),
        format!("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n{claim}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(),
    ] {
        let mut stream = TcpStream::connect(pair.caller.outbound()).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        comes(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        ends(&mut stream).await;
    }
    let labels = ["port=\"test/app:8080\"", "verdict=\"disguised\""];
    pair.app.sidecar.counts(DETECTED, &labels, 3.0).await;
    assert_eq!(pair.app.app().begun(), 0);
}

#[tokio::test]
async fn bytes_that_may_become_http_are_not_waited_for_without_bound_and_do_not_slip_through() {
    let pair = Pair::bare(&[]).await;
    let server = net::keeps(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    let mut stream = pair.connect().await;
    stream.write_all(b"GET /adm").await.unwrap();
    wait::until("they pass", async || match server.kept().as_slice() {
        [kept] if kept == b"GET /adm" => Ok(()),
        kept => Err(format!("{kept:?}")),
    })
    .await;
    pair.found("opaque", 1.0).await;
    stream.write_all(b"in HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    ends(&mut stream).await;
    assert_eq!(server.kept(), [b"GET /adm".to_vec()], "the app has seen no request");
}

#[tokio::test]
async fn a_client_that_stays_silent_is_let_go() {
    let limits = Limits { idle_s: 1, ..Limits::default() };
    let pair = Pair::bare(&[]).await;
    let server = net::keeps(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    let patient = pair.connect().await;
    drop((patient, pair, server));

    let pair = Pair::start(&[], None, limits).await;
    let _server = net::keeps(pair.app.sidecar.at(port::APP)).await;
    pair.is_seen().await;
    // Neither side speaks: after the time of an idle connection.
    ends(&mut pair.connect().await).await;
    pair.found("silent", 1.0).await;

    // Where no tunnel is to be had, after that of a head.
    let limits = Limits { head_s: 1, ..Limits::default() };
    let rules = "[{to: [{http: {methods: [GET]}}]}]";
    let closed = [policy::authorization("app", "app", "Enforce", "Allow", rules)];
    let pair = Pair::start(&closed, Some(Speaks::Http1), limits).await;
    ends(&mut pair.connect().await).await;
    pair.found("silent", 1.0).await;
    assert_count(pair.at_app(REFUSALS, &[]).await, 0.0, "refusals");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_clients_that_say_nothing() {
    let pair = Pair::start(&[], Some(Speaks::Http1), Limits::default()).await;
    let mut silent = pair.connect().await;
    pair.app.sidecar.counts("outrider_upstream_tunnels_open", &["side=\"inbound\""], 1.0).await;
    pair.caller.sidecar.ask();
    ends(&mut silent).await;
    let ended = wait::bounded("the drain", pair.caller.sidecar.ended()).await.unwrap();
    assert_eq!(ended.cut, 0);
}

#[tokio::test]
async fn plaintext_brings_requests_to_such_a_port_and_no_tunnels() {
    let rules = "[{from: [{unauthenticated: true}]}]";
    let documents = [
        policy::OPEN,
        &undeclared("mtls: Permissive"),
        &policy::authorization("app", "app", "Enforce", "Allow", rules),
    ];
    let mesh = Mesh::start(&policy::documents(&documents)).await;
    let app = mesh.pod("app").app(port::APP, Speaks::Http1).start().await;
    let inbound = app.sidecar.inbound();
    assert_eq!(Call::get(HOST, "/").send(inbound).await.unwrap().status, 200);
    let connect = format!("CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let refused = call::raw(inbound, connect.as_bytes()).await.unwrap();
    assert_eq!(refused.refusal().label, "malformed_request");
    assert_eq!(app.app().seen_one().uri.path(), "/");
}
