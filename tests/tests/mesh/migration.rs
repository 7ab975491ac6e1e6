//! Callers that are not in the mesh yet: plaintext where a port permits it, as a principal that proves nothing.

use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call, Connection};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, process, third_party, tools};
use serde_json::{Value, json};

const NAMED: &str = "[{from: [{unauthenticated: true}], to: [{http: {pathPrefixes: [/open]}}]},
                      {from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/caller\"]}]}]";

/// `web` takes plaintext on 8080 and mTLS alone on 8081.
fn documents(mtls: &str, rules: Option<&str>) -> String {
    let web = policy::service(
        "web",
        &format!(
            "ports: [{{port: 8080, targetPort: {app}, appProtocol: http, mtls: {mtls}}},
                     {{port: 8081, targetPort: {app}, appProtocol: http}}]",
            app = port::APP
        ),
    );
    let allow = rules.map(|rules| policy::authorization("web", "web", "Enforce", "Allow", rules));
    let caller = policy::http("caller", 8080);
    let mut parts = vec![policy::OPEN, &caller, &web];
    parts.extend(allow.as_deref());
    policy::documents(&parts)
}

struct Migration {
    web: Pod,
    caller: Pod,
    mesh: Mesh,
}

impl Migration {
    async fn start(documents: &str) -> Self {
        let mesh = Mesh::start(documents).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        caller.sidecar.sees("test/web", 1).await;
        Self { web, caller, mesh }
    }

    async fn plaintext(&self, host: &str, path: &str) -> Answer {
        Call::get(host, path).send(self.web.sidecar.inbound()).await.unwrap()
    }
}

#[tokio::test]
async fn curl_and_nghttp_come_in_plaintext_beside_peers_over_mtls() {
    let (Some(curl), Some(nghttp)) = (tools::CURL.find(), tools::NGHTTP.find()) else { return };
    let world = Migration::start(&documents("Permissive", Some(NAMED))).await;
    let url = format!("http://{}/open/x", world.web.sidecar.inbound());
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        let claims = [
            "-H",
            "x-forwarded-client-cert: URI=spiffe://test.mesh/ns/test/sa/caller",
            "-H",
            "outrider-hops: 3",
        ];
        let args =
            ["-sS", version, "-d", "from curl", "-H", "x-forwarded-for: 6.6.6.6", "-w", " %{http_code}"];
        let out = process::run(&curl, args.iter().chain(&claims).chain(&[&*url])).await;
        assert_eq!(out, "from curl 200", "{version}");
        let seen = world.web.app().seen().pop().unwrap();
        assert_eq!((seen.header("x-forwarded-client-cert"), seen.header("outrider-hops")), (None, None));
        assert!(!seen.header("x-forwarded-for").unwrap().contains("6.6.6.6"), "{seen:?}");
    }
    let out = process::run(&nghttp, ["-H", "x-app: bytes=3", &url]).await;
    assert_eq!(out.as_bytes(), [0, 1, 2]);
    let answer = Call::get("web.test:8080", "/any").send(world.caller.outbound()).await.unwrap();
    assert_eq!(answer.status, 200, "a peer is who it was");
    let seen = world.web.app().seen().pop().unwrap();
    assert!(seen.header("x-forwarded-client-cert").is_some());

    let labels = ["peer=\"unauthenticated\"", "port=\"8080\""];
    world.web.sidecar.counts("outrider_inbound_requests_total", &labels, 4.0).await;
    let sources = world.web.sidecar.get(port::ADMIN, "/plaintext").await.unwrap();
    let sources: Value = serde_json::from_slice(&sources.body).unwrap();
    assert_eq!(sources, json!({"sources": [{"address": "127.0.0.1", "requests": 4}]}));
}

#[tokio::test]
async fn every_kind_of_grpc_call_comes_in_plaintext_too() {
    let Some(python) = tools::GRPCIO.find() else { return };
    let calls = policy::service(
        "calls",
        "mtls: Permissive, ports: [{port: 50051, targetPort: 21080, appProtocol: grpc}]",
    );
    let allow =
        policy::authorization("calls", "calls", "Enforce", "Allow", "[{from: [{unauthenticated: true}]}]");
    let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &calls, &allow])).await;
    let pod = mesh.pod("calls").start().await;
    let _server = third_party::grpc_server(&python, mesh.folder(), pod.sidecar.at(port::APP)).await;
    let script = third_party::script("grpc_client.py");
    let address = pod.sidecar.inbound().to_string();
    let args = [script.as_os_str(), address.as_ref(), "calls.old.example".as_ref()];
    let seen: Value = serde_json::from_str(&process::run(&python, args).await).unwrap();
    assert_eq!((&seen["unary"]["answer"], &seen["missing"]), (&"unary:one".into(), &"UNIMPLEMENTED".into()));
    assert_eq!(seen["both_streams"]["ended"], true);
}

#[tokio::test]
async fn the_port_is_the_hosts_or_else_the_only_one_that_takes_plaintext() {
    let world = Migration::start(&documents("Permissive", Some(NAMED))).await;
    let old = world.web.sidecar.inbound().to_string();
    for host in [
        "web:8080",
        "web.test:8080",
        "web.test.svc.cluster.local:8080",
        "web",
        &old,
        "old.example",
        "[::1]:9",
    ] {
        assert_eq!(world.plaintext(host, "/open").await.status, 200, "{host}");
    }
    for (host, label) in
        [("web:8081", "mtls_required"), ("old.example:8081", "mtls_required"), ("caller:8080", "misdirected")]
    {
        let before = world.web.app().seen().len();
        assert_eq!(world.plaintext(host, "/open").await.refusal().label, label, "{host}");
        assert_eq!(world.web.app().seen().len(), before);
    }
}

#[tokio::test]
async fn plaintext_satisfies_no_rule_by_identity_and_no_default() {
    let by_identity = "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/caller\"]}]}, {to: [{http: {pathPrefixes: [/open]}}]},
                        {from: [{external: true}]}]";
    // The last one has the mesh's default alone: it allows every workload of the trust domain.
    for (rules, label) in
        [(Some(by_identity), "not_allowed"), (Some(NAMED), "not_allowed"), (None, "denied_by_default")]
    {
        let world = Migration::start(&documents("Permissive", rules)).await;
        let path = if rules == Some(NAMED) { "/closed" } else { "/open" };
        let refusal = world.plaintext("web:8080", path).await.refusal();
        assert_eq!(
            (refusal.label.as_str(), refusal.status.as_u16(), refusal.rule.as_str()),
            (label, 403, "")
        );
        let answer = Call::get("web.test:8080", path).send(world.caller.outbound()).await.unwrap();
        assert_eq!(answer.status, 200, "{rules:?}: a peer");
        let least = if rules.is_none() { 1.0 } else { 0.0 };
        let counted =
            world.web.sidecar.metric("outrider_authorization_allowed_by_default_total", &[]).await.unwrap();
        assert!((counted - least).abs() < 0.5, "{counted}");
    }
}

#[tokio::test]
async fn a_port_that_becomes_strict_refuses_the_next_request_of_an_open_connection_and_then_plaintext_at_all()
{
    let world = Migration::start(&documents("Permissive", Some(NAMED))).await;
    let inbound = world.web.sidecar.inbound();
    let mut open = Connection::open(inbound, Speaks::Http1).await.unwrap();
    assert_eq!(open.send(Call::get("web:8080", "/open")).await.unwrap().status, 200);
    world.mesh.control.write_policy(&documents("Strict", Some(NAMED)));
    world.web.sidecar.has_revision(2).await;
    assert_eq!(open.send(Call::get("web:8080", "/open")).await.unwrap().refusal().label, "mtls_required");
    let answer = Call::get("web:8080", "/open").send(inbound).await;
    assert!(answer.is_err(), "{answer:?}");
    world.web.sidecar.counts("outrider_tls_handshake_failures_total", &["reason=\"plaintext\""], 1.0).await;
}
