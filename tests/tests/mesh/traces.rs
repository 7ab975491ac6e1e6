//! What becomes of a request's trace on its way.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::Method;
use outrider_tests::app::{App, Speaks};
use outrider_tests::call::Call;
use outrider_tests::collector::{Collector, Kind, Span};
use outrider_tests::loopback::port;
use outrider_tests::mesh::offline::Offline;
use outrider_tests::mesh::sidecar::Sidecar;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, wait};

use crate::data_path::{BOTH, Pair};

/// Where collectors listen, on an address of their own.
const OTLP: u16 = 21_318;
/// Of a caller whose trace is sampled.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Of a `traceparent` in version 00: trace id, span id, flags.
fn parts(traceparent: &str) -> (&str, &str, &str) {
    let parts: Vec<_> = traceparent.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { panic!("{traceparent} has four parts") };
    let is_id = |id: &str, digits| {
        id.len() == digits
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|byte| byte != b'0')
    };
    assert!(version == "00" && is_id(trace, 32) && is_id(span, 16), "{traceparent}");
    (trace, span, flags)
}

#[tokio::test]
async fn a_request_reaches_the_app_with_a_trace_id_though_nothing_is_exported() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        for _ in 0..2 {
            pair.send(Call::get(host, "/")).await.unwrap();
        }
        let seen: Vec<_> = pod.app().seen().iter().filter_map(|seen| seen.header("traceparent")).collect();
        let [first, second] = &seen[..] else { panic!("{app:?}: {seen:?}") };
        assert_ne!(parts(first).0, parts(second).0, "each request begins a trace of its own");
        assert_eq!((parts(first).2, parts(second).2), ("00", "00"), "nothing samples it");
    }
}

#[tokio::test]
async fn a_trace_of_the_callers_reaches_the_app_as_it_came_where_nothing_is_exported() {
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        let call = Call::get(host, "/").header("traceparent", &parent).header("tracestate", "a=1 ,b=2");
        pair.send(call).await.unwrap();
        let seen = pod.app().seen_one();
        assert_eq!(seen.header("traceparent").as_deref(), Some(&*parent));
        assert_eq!(seen.header("tracestate").as_deref(), Some("a=1 ,b=2"));
    }
}

/// `frontend` with an edge -> `orders` over HTTP/1.1 -> `payments` over gRPC, each sidecar exporting to one collector.
struct Chain {
    frontend: Pod,
    orders: Pod,
    payments: Pod,
    collector: Collector,
    _mesh: Mesh,
}

impl Chain {
    /// `collector` is given the address where it shall listen.
    async fn start(collector: impl FnOnce(SocketAddr) -> Collector) -> Self {
        let edge = "ports: [{port: 8080, targetPort: 21080, appProtocol: http}], edge: [{port: 21410, targetPort: 21080}]";
        let mesh = Mesh::start(&policy::documents(&[
            policy::OPEN,
            &policy::service("frontend", edge),
            &policy::authorization("edge", "frontend", "Enforce", "Allow", "[{from: [{external: true}]}]"),
            &policy::http("orders", 8080),
            &policy::route(
                "orders",
                "orders",
                8080,
                "[{name: all, backendRefs: [{name: orders, port: 8080}]}]",
            ),
            &policy::http2("payments", 50051),
        ]))
        .await;
        let collector = collector(SocketAddr::new(mesh.address(), OTLP));
        let variables = collector.variables();
        let environment: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let pod =
            async |name, speaks| mesh.pod(name).app(port::APP, speaks).in_process(&environment).start().await;
        let frontend = pod("frontend", Speaks::Http1).await;
        let orders = pod("orders", Speaks::Http1).await;
        let payments = pod("payments", Speaks::Http2).await;
        frontend.sidecar.sees("test/orders", 1).await;
        orders.sidecar.sees("test/payments", 1).await;
        frontend.app().plan(&format!("call=orders.test:8080@{}", frontend.outbound()));
        orders.app().plan(&format!("call-grpc=payments.test:50051@{}", orders.outbound()));
        payments.app().plan("bytes=5,header=content-type:application/grpc,trailer=grpc-status:0");
        Self { frontend, orders, payments, collector, _mesh: mesh }
    }

    /// From outside, through all three; the status that came back.
    async fn buy(&self, traceparent: Option<&str>) -> u16 {
        let mut call = Call::post("shop.example", "/shop.Payments/Charge", "");
        if let Some(traceparent) = traceparent {
            call = call.header("traceparent", traceparent);
        }
        let edge = self.frontend.sidecar.at(port::EDGE);
        wait::bounded("an answer", call.send(edge)).await.unwrap().status.as_u16()
    }
}

/// The only span of this service and kind.
#[track_caller]
fn only<'s>(spans: &'s [Span], service: &str, kind: Kind) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.service == service && span.kind == kind);
    let span = found.next().unwrap_or_else(|| panic!("{kind:?} of {service} in {spans:#?}"));
    assert_eq!(found.next(), None, "there is one {kind:?} of {service}");
    span
}

#[track_caller]
fn assert_says(span: &Span, attributes: &[(&str, &str)]) {
    for (key, value) in attributes {
        assert_eq!(span.get(key), *value, "{key} of {span:#?}");
    }
}

#[tokio::test]
async fn a_request_through_three_services_is_one_trace_with_a_span_for_each_hop() {
    let chain = Chain::start(Collector::start).await;
    assert_eq!(chain.buy(Some(&format!("00-{TRACE}-{CALLER}-01"))).await, 200);
    let spans = chain.collector.trace(TRACE, 5).await;
    assert_eq!(spans.len(), 5, "{spans:#?}");

    let mut parent = CALLER;
    for (service, kind) in [
        ("frontend", Kind::Server),
        ("frontend", Kind::Client),
        ("orders", Kind::Server),
        ("orders", Kind::Client),
        ("payments", Kind::Server),
    ] {
        let span = only(&spans, service, kind);
        assert_eq!(span.parent, parent, "of {kind:?} of {service}: {spans:#?}");
        assert!(!span.failed && span.get("sampled_by").is_empty(), "{span:#?}");
        parent = &span.id;
    }
    let last = chain.payments.app().seen_one().header("traceparent").unwrap();
    assert_eq!(
        last,
        format!("00-{TRACE}-{parent}-01"),
        "the last app's own spans hang under the last of these"
    );

    let identity = |service| format!("spiffe://test.mesh/ns/test/sa/{service}");
    assert_says(
        only(&spans, "frontend", Kind::Server),
        &[
            ("outrider.peer", "external"),
            ("http.request.method", "POST"),
            ("url.path", "/shop.Payments/Charge"),
        ],
    );
    let client = only(&spans, "frontend", Kind::Client);
    assert_eq!(client.name, "POST");
    assert_says(
        client,
        &[
            ("http.response.status_code", "200"),
            ("server.address", "orders.test"),
            ("server.port", "8080"),
            ("outrider.endpoint", &chain.orders.sidecar.at(port::INBOUND).to_string()),
            ("outrider.peer", &identity("orders")),
            ("outrider.rule", "HTTPRoute/orders#all@r1"),
            ("network.protocol.version", "1.1"),
        ],
    );
    assert_says(
        only(&spans, "orders", Kind::Server),
        &[
            ("outrider.peer", &identity("frontend")),
            ("server.address", "orders.test"),
            ("server.port", "8080"),
        ],
    );
    let rpc = only(&spans, "payments", Kind::Server);
    assert_eq!(rpc.name, "shop.Payments/Charge");
    assert_says(
        rpc,
        &[
            ("rpc.service", "shop.Payments"),
            ("rpc.method", "Charge"),
            ("rpc.grpc.status_code", "0"),
            ("outrider.peer", &identity("orders")),
            ("network.protocol.version", "2"),
        ],
    );
}

#[tokio::test]
async fn a_request_that_is_not_sampled_leaves_spans_only_where_it_failed() {
    let chain = Chain::start(Collector::start).await;
    chain.payments.app().plan("header=content-type:application/grpc,trailer=grpc-status:13");
    assert_eq!(chain.buy(Some(&format!("00-{TRACE}-{CALLER}-00"))).await, 200);
    let refused = Call::get("nowhere.example", "/").header("traceparent", &format!("00-{TRACE}-{CALLER}-00"));
    let answer = refused.send(chain.orders.outbound()).await.unwrap();
    assert_eq!(answer.refusal().label, "unknown_host");

    // The call to payments at both its ends, and the refusal.
    let spans = chain.collector.trace(TRACE, 3).await;
    assert!(spans.iter().all(|span| span.get("sampled_by") == "outrider"), "{spans:#?}");
    let failed = only(&spans, "payments", Kind::Server);
    assert!(failed.failed, "{failed:#?}");
    assert_says(failed, &[("rpc.grpc.status_code", "13")]);
    let refused =
        spans.iter().find(|span| span.get("outrider.flag") == "NC").expect("the refusal has a span");
    assert_eq!((refused.service.as_str(), refused.kind), ("orders", Kind::Internal));
    assert_eq!(refused.parent, CALLER);
    let event = refused.event("outrider.refused").expect("it says why");
    assert_eq!(event.attributes["outrider.refusal"], "unknown_host");
    assert_eq!(event.attributes["outrider.rule"], "MeshConfig/open@r1");
    assert_eq!(spans.len(), 3, "{spans:#?}");
}

#[tokio::test]
async fn attempts_at_several_endpoints_are_spans_under_one_that_says_where_it_went() {
    let mut offline = Offline::new(&policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
    ]));
    let collector = Collector::start(SocketAddr::new(offline.address(), OTLP));
    let caller = offline.unlisted("caller");
    let (dead, alive) = (offline.place("web"), offline.place("web"));
    let _app = App::start("web", alive.at(port::APP), Speaks::Http1).unwrap();
    let _web = offline.start(&alive).await;
    let variables = collector.variables();
    let environment: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let start = offline.prepare(&caller, &offline.authority.issue(&offline.wanted(&caller)));
    let caller = Sidecar::in_process(start, offline.folder(), &environment);
    caller.ready().await;

    // Which endpoint is tried first is drawn.
    for n in 1.. {
        let trace = format!("{n:032x}");
        let call = Call::new(Method::POST, "web.test:8080", "/")
            .header("traceparent", &format!("00-{trace}-{CALLER}-01"));
        let answer = wait::bounded("an answer", call.send(caller.outbound())).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let first = collector.trace(&trace, 1).await;
        if let [only] = &first[..]
            && only.kind == Kind::Client
            && only.parent == CALLER
        {
            assert_says(only, &[("outrider.endpoint", &alive.inbound().to_string())]);
            assert!(n < 60, "of two endpoints the first of 60 requests were all sent to the same");
            continue;
        }
        let spans = collector.trace(&trace, 3).await;
        let above = only(&spans, "caller", Kind::Internal);
        assert_eq!((above.name.as_str(), above.parent.as_str()), ("dispatch", CALLER));
        let event = above.event("outrider.redispatched").expect("it says that it went elsewhere");
        assert_eq!(event.attributes["outrider.redispatch.reason"], "connect_failed");
        let attempt = |resends: &str| {
            let mut attempts = spans.iter().filter(|span| span.kind == Kind::Client);
            attempts
                .find(|span| span.get("http.request.resend_count") == resends)
                .expect("both attempts have one")
        };
        let (refused, answered) = (attempt(""), attempt("1"));
        assert!(refused.parent == above.id && answered.parent == above.id, "{spans:#?}");
        assert_says(
            refused,
            &[("outrider.endpoint", &dead.inbound().to_string()), ("error.type", "connect_failed")],
        );
        assert_says(
            answered,
            &[("outrider.endpoint", &alive.inbound().to_string()), ("http.response.status_code", "200")],
        );
        return;
    }
}

/// Far more requests than spans may wait: each is answered.
async fn requests_go_through(chain: &Chain) {
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let outbound = chain.frontend.outbound();
        workers.spawn(async move {
            for _ in 0..50 {
                let call = Call::get("orders.test:8080", "/")
                    .header("traceparent", &format!("00-{TRACE}-{CALLER}-01"));
                assert_eq!(call.plan("bytes=1").send(outbound).await.unwrap().status, 200);
            }
        });
    }
    while let Some(done) = wait::bounded("a worker", workers.join_next()).await {
        done.expect("no request failed");
    }
    // One export alone is waited for up to ten seconds: had it been on the way of a request, this would take hours.
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_collector_that_never_answers_slows_no_request() {
    let chain = Chain::start(Collector::silent).await;
    requests_go_through(&chain).await;
    let sidecar = &chain.frontend.sidecar;
    sidecar.counts("outrider_trace_spans_dropped_total", &["queue_full"], 1.0).await;
}

#[tokio::test]
async fn a_collector_that_is_down_slows_no_request() {
    let chain = Chain::start(Collector::away).await;
    requests_go_through(&chain).await;
    let sidecar = &chain.frontend.sidecar;
    sidecar.counts("outrider_trace_spans_dropped_total", &["export_failed"], 1.0).await;
}
