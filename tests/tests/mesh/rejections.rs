//! Every row of the table of refusals, provoked: what each caller saw, over HTTP and as gRPC, is what the reference says.

use std::collections::BTreeMap;

use http::Method;
use outrider_sidecar::config::ByteCount;
use outrider_tests::app::{App, Speaks};
use outrider_tests::authority::Wanted;
use outrider_tests::call::{self, Answer, Call};
use outrider_tests::loopback::port;
use outrider_tests::mesh::offline::{Offline, Place};
use outrider_tests::mesh::sidecar::Sidecar;
use outrider_tests::net::{self, Saturated};
use outrider_tests::peer::{self, Hello};
use outrider_tests::{policy, wait};

/// A row of `docs/reference/refusals.md`.
#[derive(Debug)]
struct Row {
    status: String,
    grpc_status: String,
    error: String,
    flag: String,
}

fn reference() -> BTreeMap<String, Row> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/refusals.md");
    let text = std::fs::read_to_string(path).expect("the reference is part of the repository");
    let table = text.lines().skip_while(|line| !line.starts_with("| label |")).skip(2);
    let rows: BTreeMap<_, _> = table
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let grpc_status = cells[3].split(' ').next().expect("a number and a name");
            let row = Row {
                status: cells[2].to_owned(),
                grpc_status: grpc_status.to_owned(),
                error: cells[4].to_owned(),
                flag: cells[5].to_owned(),
            };
            (cells[1].to_owned(), row)
        })
        .collect();
    assert!(rows.len() > 20, "the reference has its table");
    rows
}

/// What callers saw, by label: over HTTP and as gRPC, which what is wrong with HTTP/1.1 alone cannot reach.
#[derive(Default)]
struct Seen(BTreeMap<String, (Answer, Option<Answer>)>);

impl Seen {
    /// Sends a request in both forms.
    async fn provoke(&mut self, label: &str, at: &Sidecar, call: impl Fn() -> Call) {
        let send = async |call: Call| wait::bounded(label, call.send(at.outbound())).await.unwrap();
        let http = send(call()).await;
        let grpc = send(call().http2().header("content-type", "application/grpc")).await;
        self.put(label, http, Some(grpc));
    }

    /// Sends what no client would.
    async fn provoke_raw(&mut self, label: &str, at: &Sidecar, request: &str) {
        let answer = wait::bounded(label, call::raw(at.outbound(), request.as_bytes())).await.unwrap();
        self.put(label, answer, None);
    }

    /// The same from a peer.
    async fn provoke_as(&mut self, label: &str, hello: &Hello, at: &Place, headers: &[(&str, &str)]) {
        let http = hello.request(at.inbound(), "/ok", headers).await.unwrap();
        let headers = [headers, &[("content-type", "application/grpc")]].concat();
        let grpc = hello.request(at.inbound(), "/ok", &headers).await.unwrap();
        self.put(label, http, Some(grpc));
    }

    fn put(&mut self, label: &str, http: Answer, grpc: Option<Answer>) {
        let refusal = http.refusal();
        assert_eq!(refusal.label, label, "{http:?}");
        self.0.insert(label.to_owned(), (http, grpc));
    }
}

const ALLOWED: &str = "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/caller\"]}], to: [{http: {pathPrefixes: [/ok, /denied]}}]}]";

/// Of two classes everything is of the second.
const HEAVY: &str = "apiVersion: outrider.mesh/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: heavy, namespace: test}
spec:
  targetRefs: [{group: \"\", kind: Service, name: heavy}]
  server: {queue: {maxDepth: 16, maxWait: 100ms, priority: {header: x-class, classes: [first, second], default: second, trustedFrom: []}}}
";

fn documents() -> String {
    let mut parts = vec![policy::OPEN.replace("AllowSameTrustDomain", "Deny")];
    parts.extend(
        [
            "caller", "bare", "empty", "gone", "slow", "fake", "plain", "dying", "broken", "spent", "full",
            "waiting", "late",
        ]
        .map(|name| policy::http(name, 8080)),
    );
    parts.push(policy::service(
        "web",
        "ports: [{port: 8080, targetPort: 21080, appProtocol: http}, {port: 8081, targetPort: 21081, appProtocol: http}, {port: 8082, targetPort: 21082, appProtocol: http},
                 {port: 8083, targetPort: 21083, appProtocol: http}, {port: 8084, targetPort: 21084, appProtocol: http, mtls: Permissive}]",
    ));
    parts.push(policy::route(
        "web",
        "web",
        8080,
        "[{matches: [{path: {type: PathPrefix, value: /ok}}, {path: {type: PathPrefix, value: /denied}},
                     {path: {type: PathPrefix, value: /forbidden}}], backendRefs: [{name: web, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /ok/nowhere}}]},
          {matches: [{path: {type: PathPrefix, value: /ok/request}}], timeouts: {request: 50ms}, backendRefs: [{name: web, port: 8080}]},
          {matches: [{path: {type: PathPrefix, value: /ok/backend}}], timeouts: {backendRequest: 50ms}, backendRefs: [{name: web, port: 8080}]}]",
    ));
    parts.push(policy::route(
        "spent",
        "spent",
        8080,
        "[{retry: {attempts: 1, codes: [503]}, backendRefs: [{name: spent, port: 8080}]}]",
    ));
    for (service, spec) in [
        (
            "broken",
            "client: {circuitBreaker: {scope: Service, consecutiveFailures: 1, open: {initial: 1m, max: 1m}}}",
        ),
        (
            "spent",
            "client: {onBudgetExhausted: Status503, retryConstraint: {budget: {percent: 0}, minRetryRate: {count: 1, interval: 1h}}}",
        ),
        ("full", "server: {concurrency: {algorithm: Fixed, initial: 1}, queue: {maxDepth: 1, maxWait: 1m}}"),
        (
            "waiting",
            "server: {concurrency: {algorithm: Fixed, initial: 1}, queue: {maxDepth: 8, maxWait: 50ms}}",
        ),
        ("late", "server: {concurrency: {algorithm: Fixed, initial: 1}, queue: {maxDepth: 8, maxWait: 1m}}"),
    ] {
        parts.push(policy::traffic(service, spec));
    }
    for name in ["web", "dying", "broken", "spent", "full", "waiting", "late"] {
        parts.push(policy::authorization(&format!("{name}-allow"), name, "Enforce", "Allow", ALLOWED));
    }
    parts.push(policy::http("heavy", 8080));
    parts.push(policy::authorization("heavy-allow", "heavy", "Enforce", "Allow", ALLOWED));
    parts.push(HEAVY.to_owned());
    parts.push(policy::authorization(
        "web-deny",
        "web",
        "Enforce",
        "Deny",
        "[{to: [{http: {pathPrefixes: [/denied]}}]}]",
    ));
    let parts: Vec<_> = parts.iter().map(String::as_str).collect();
    policy::documents(&parts)
}

const WEB: &str = "web.test:8080";

#[tokio::test]
async fn every_row_of_the_table_is_provoked_and_every_caller_sees_what_the_reference_says() {
    let mut offline = Offline::new(&documents());
    let caller_place = offline.unlisted("caller");
    let [web_place, bare, slow, fake, plain, dying_place, _gone] =
        ["web", "bare", "slow", "fake", "plain", "dying", "gone"].map(|name| offline.place(name));
    let failing = ["broken", "spent"].map(|name| offline.place(name));
    let queueing = ["full", "waiting", "late"].map(|name| offline.place(name));
    let caller = offline.start(&caller_place).await;
    let web = offline.start(&web_place).await;
    let _bare = offline.start(&bare).await;
    let app = App::start("web", web_place.at(port::APP), Speaks::Http1).unwrap();
    let mut seen = Seen::default();

    outbound(&mut seen, &caller, &offline, &slow, &fake, &plain).await;
    messages(&mut seen, &caller).await;
    inbound(&mut seen, &caller, &offline, &web_place).await;
    plaintext(&mut seen, &web).await;
    limit(&mut seen, &mut offline, &app).await;
    failures(&mut seen, &caller, &offline, &failing).await;
    queues(&mut seen, &caller, &offline, &queueing).await;
    overload(&mut seen).await;
    outside(&mut seen).await;
    unready(&mut seen, &mut offline).await;
    reset(&mut seen, &caller, &offline, &dying_place).await;
    drop(web);

    let reference = reference();
    let (wanted, got): (Vec<_>, Vec<_>) = (reference.keys().collect(), seen.0.keys().collect());
    assert_eq!(wanted, got, "the rows of the reference, and those that were provoked");
    for (label, row) in &reference {
        let (http, grpc) = &seen.0[label];
        let http = http.refusal();
        assert_eq!(http.status.as_str(), row.status, "{label}");
        assert_eq!((&http.error, &http.flag), (&row.error, &row.flag), "{label}");
        let Some(grpc) = grpc.as_ref().map(Answer::refusal) else { continue };
        assert_eq!((grpc.status.as_u16(), &grpc.grpc_status), (200, &row.grpc_status), "{label}, as gRPC");
        assert_eq!((&grpc.error, &grpc.flag), (&row.error, &row.flag), "{label}, as gRPC");
    }
}

/// What the caller's own sidecar refuses.
async fn outbound(
    seen: &mut Seen,
    caller: &Sidecar,
    offline: &Offline,
    slow: &Place,
    fake: &Place,
    plain: &Place,
) {
    seen.provoke("malformed_path", caller, || Call::get(WEB, "/ok/%00")).await;
    seen.provoke("malformed_request", caller, || Call::get("me@web.test:8080", "/ok")).await;
    seen.provoke("unknown_host", caller, || Call::get("nobody.test", "/ok")).await;
    seen.provoke("unknown_port", caller, || Call::get("web.test:9", "/ok")).await;
    seen.provoke("no_route", caller, || Call::get(WEB, "/elsewhere")).await;
    seen.provoke("no_backend", caller, || Call::get(WEB, "/ok/nowhere")).await;
    seen.provoke("no_endpoint", caller, || Call::get("empty.test:8080", "/ok")).await;
    seen.provoke("connect_failed", caller, || Call::get("gone.test:8080", "/ok")).await;
    seen.provoke("request_timeout", caller, || Call::get(WEB, "/ok/request").plan("hold")).await;
    seen.provoke("backend_timeout", caller, || Call::get(WEB, "/ok/backend").plan("hold")).await;
    seen.provoke("loop_detected", caller, || Call::get(WEB, "/ok").header("outrider-hops", "16")).await;
    let _saturated = Saturated::start(slow.inbound()).await;
    seen.provoke("connect_timeout", caller, || Call::get("slow.test:8080", "/ok")).await;
    let other = offline.authority.issue(&Wanted::new("spiffe://test.mesh/ns/test/sa/other"));
    let _impostor = peer::impostor(fake.inbound(), other).await;
    seen.provoke("peer_identity", caller, || Call::get("fake.test:8080", "/ok")).await;
    let _plain = App::start("plain", plain.inbound(), Speaks::Http1).unwrap();
    seen.provoke("tls_failed", caller, || Call::get("plain.test:8080", "/ok")).await;
}

/// What is no HTTP/1.1, or none that is taken.
async fn messages(seen: &mut Seen, caller: &Sidecar) {
    let with = |line: &str, fields: &str| format!("{line}\r\nHost: {WEB}\r\n{fields}\r\n");
    let long = "x".repeat(17 << 10);
    let many = "x: y\r\n".repeat(101);
    for (label, request) in [
        ("target_too_long", with(&format!("GET /{long} HTTP/1.1"), "")),
        ("head_too_large", with("GET /ok HTTP/1.1", &many)),
        ("expectation_failed", with("GET /ok HTTP/1.1", "Expect: 200-ok\r\n")),
        ("coding_not_implemented", with("POST /ok HTTP/1.1", "Transfer-Encoding: gzip, chunked\r\n")),
        ("version_not_supported", with("GET /ok HTTP/1.2", "")),
        ("head_timeout", format!("GET /ok HTTP/1.1\r\nHost: {WEB}\r\n")),
    ] {
        seen.provoke_raw(label, caller, &request).await;
    }
}

/// What the sidecar of the called app refuses.
async fn inbound(seen: &mut Seen, caller: &Sidecar, offline: &Offline, web: &Place) {
    seen.provoke("denied", caller, || Call::get(WEB, "/denied")).await;
    seen.provoke("not_allowed", caller, || Call::get(WEB, "/forbidden")).await;
    seen.provoke("denied_by_default", caller, || Call::get("bare.test:8080", "/ok")).await;
    seen.provoke("app_refused", caller, || Call::get("web.test:8081", "/ok")).await;
    let _saturated = Saturated::start(web.at(21082)).await;
    seen.provoke("app_connect_timeout", caller, || Call::get("web.test:8082", "/ok")).await;
    let _babbles = net::babbles(web.at(21083), b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
    seen.provoke("app_not_http", caller, || Call::get("web.test:8083", "/ok")).await;
    seen.provoke("app_reset", caller, || Call::new(Method::POST, WEB, "/ok").plan("close")).await;

    // The app answers 200, as if nothing had been asked.
    let websocket = Call::get(WEB, "/ok").extended_connect("websocket");
    let refused = wait::bounded("upgrade_refused", websocket.send(caller.outbound())).await.unwrap();
    seen.put("upgrade_refused", refused, None);

    let hello = Hello::of(offline.authority.issue(&Wanted::new("spiffe://test.mesh/ns/test/sa/caller")));
    seen.provoke_as("malformed_target", &hello, web, &[]).await;
    seen.provoke_as("misdirected", &hello, web, &[Hello::target("test/other:8080")]).await;
}

/// What a sidecar refuses to whoever proves nothing.
async fn plaintext(seen: &mut Seen, web: &Sidecar) {
    let call = || Call::get("web.test:8080", "/ok");
    let http = call().send(web.inbound()).await.unwrap();
    let grpc = call().http2().header("content-type", "application/grpc").send(web.inbound()).await.unwrap();
    seen.put("mtls_required", http, Some(grpc));
}

/// Where apps may call hosts outside of the mesh.
async fn outside(seen: &mut Seen) {
    let mut offline = Offline::new(&documents().replace("egress: RegistryOnly", "egress: Allow"));
    let place = offline.place("caller");
    let caller = offline.start(&place).await;
    // Longer than a label may be, so no server is asked.
    let name = format!("{}.test", "a".repeat(64));
    seen.provoke("unresolved_host", &caller, || Call::get(&name, "/")).await;
    seen.provoke("own_address", &caller, || Call::get(&caller.inbound().to_string(), "/")).await;
}

/// As many requests as may be are under way.
async fn limit(seen: &mut Seen, offline: &mut Offline, app: &App) {
    let place = offline.unlisted("caller");
    let credentials = offline.authority.issue(&offline.wanted(&place));
    let mut start = offline.prepare(&place, &credentials);
    start.concurrency_limit = 1;
    let caller = Sidecar::in_thread(start);
    caller.ready().await;
    let (begun, outbound) = (app.begun(), caller.outbound());
    let held = tokio::spawn(async move { Call::get(WEB, "/ok").plan("hold").send(outbound).await });
    wait::until("one request is under way", async || {
        if app.begun() > begun { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    seen.provoke("concurrency_limit", &caller, || Call::get(WEB, "/ok")).await;
    app.open_gate();
    let held = wait::bounded("the one under way", held).await.unwrap().unwrap();
    assert_eq!(held.status, 200, "it was not touched by what was refused");
}

/// Services that fail.
async fn failures(seen: &mut Seen, caller: &Sidecar, offline: &Offline, places: &[Place; 2]) {
    for (place, label) in places.iter().zip(["breaker_open", "retry_budget_exhausted"]) {
        let name = place.service.name();
        let _sidecar = offline.start(place).await;
        let _app = App::start(name, place.at(port::APP), Speaks::Http1).unwrap();
        let host = format!("{name}.test:8080");
        let failing = || Call::get(&host, "/ok").plan("status=503");
        // The first ones are what opens the breaker, and spends the budget.
        wait::until(label, async || {
            let answer = failing().send(caller.outbound()).await.map_err(|error| format!("{error:?}"))?;
            let refused = answer.headers.contains_key("proxy-status") && answer.refusal().label == label;
            if refused { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        seen.provoke(label, caller, failing).await;
    }
}

/// Apps that take one request at a time.
async fn queues(seen: &mut Seen, caller: &Sidecar, offline: &Offline, places: &[Place; 3]) {
    for (place, label) in places.iter().zip(["queue_full", "queue_timeout", "deadline_unreachable"]) {
        let name = place.service.name();
        let sidecar = offline.start(place).await;
        let app = App::start(name, place.at(port::APP), Speaks::Http1).unwrap();
        let host = format!("{name}.test:8080");
        let call = |plan: &str| {
            let call = Call::get(&host, "/ok").plan(plan);
            let outbound = caller.outbound();
            tokio::spawn(async move { call.send(outbound).await.unwrap() })
        };
        if name == "late" {
            // It learns how long an answer takes.
            assert_eq!(call("delay=400").await.unwrap().status, 200);
        }
        let begun = app.begun();
        let mut held = vec![call("hold")];
        wait::until("one is at the app", async || {
            if app.begun() > begun { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        if name == "full" {
            held.push(call(""));
            wait::until("one waits", async || {
                let view = sidecar.upstream_view(&format!("inbound:{}", port::APP)).await?;
                let queue = &view["actor"]["queue"];
                if queue["depth"] == 1 { Ok(()) } else { Err(queue.to_string()) }
            })
            .await;
        }
        let hurried = || match name {
            "late" => Call::get(&host, "/ok").header("grpc-timeout", "200m"),
            _ => Call::get(&host, "/ok"),
        };
        seen.provoke(label, caller, hurried).await;
        app.open_gate();
        for one in held {
            assert_eq!(wait::bounded("one that had a place", one).await.unwrap().status, 200);
        }
    }
}

/// The called app's sidecar has far more memory than it may.
async fn overload(seen: &mut Seen) {
    let mut offline = Offline::new(&documents());
    let (place, heavy) = (offline.unlisted("caller"), offline.place("heavy"));
    let credentials = offline.authority.issue(&offline.wanted(&heavy));
    let mut start = offline.prepare(&heavy, &credentials);
    start.memory_limit = Some(ByteCount(1));
    let heavy = Sidecar::in_thread(start);
    heavy.ready().await;
    let caller = offline.start(&place).await;
    heavy.counts("outrider_overload_level", &[], 10.0).await;
    seen.provoke("overloaded", &caller, || Call::get("heavy.test:8080", "/ok")).await;
}

/// Nothing has come from a control plane yet.
async fn unready(seen: &mut Seen, offline: &mut Offline) {
    let place = offline.unlisted("caller");
    let credentials = offline.authority.issue(&offline.wanted(&place));
    let start = offline.prepare(&place, &credentials);
    std::fs::remove_file(start.data_dir.join("snapshot.json")).unwrap();
    let caller = Sidecar::in_thread(start);
    wait::until("the sidecar listens", async || {
        caller.get(outrider_tests::loopback::port::HEALTH, "/live").await
    })
    .await;
    seen.provoke("not_ready", &caller, || Call::get(WEB, "/ok")).await;
}

/// The endpoint's sidecar goes away while it has the request.
async fn reset(seen: &mut Seen, caller: &Sidecar, offline: &Offline, place: &Place) {
    let app = App::start("dying", place.at(port::APP), Speaks::Http1).unwrap();
    let mut answers = Vec::new();
    for content_type in ["text/plain", "application/grpc"] {
        let dying = offline.start(place).await;
        let (begun, outbound) = (app.begun(), caller.outbound());
        let call = Call::post("dying.test:8080", "/ok", "x")
            .http2()
            .header("content-type", content_type)
            .plan("hold");
        let under_way = tokio::spawn(async move { call.send(outbound).await });
        wait::until("the request is under way", async || {
            if app.begun() > begun { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        dying.ask();
        dying.ask();
        dying.ended().await.unwrap();
        answers.push(wait::bounded("an answer", under_way).await.unwrap().unwrap());
    }
    let grpc = answers.pop().expect("two were asked for");
    seen.put("upstream_reset", answers.pop().expect("two were asked for"), Some(grpc));
}
