//! Sentences about export: what arrives at a real receiver, and what becomes of spans when it is away or silent.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use http::Method;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use smallvec::smallvec;

use super::*;
use crate::telemetry::{Rpc, SampledBy, ServerAddress, SpanAttributes, SpanEvent, SpanKind};

mod receiver;
mod settings;
mod tls;

use receiver::Collector;

/// For waits on what must happen; long, since nothing depends on it but a failing test.
const WAIT_MAX: Duration = Duration::from_secs(20);

fn settings_for(collector: &Collector, protocol: Protocol) -> ExportSettings {
    let path = match protocol {
        Protocol::Grpc => "",
        Protocol::HttpProtobuf => "/v1/traces",
    };
    ExportSettings {
        protocol,
        endpoint: format!("http://{}{path}", collector.address),
        tls: None,
        headers: vec![("x-tenant".to_owned(), "shop".to_owned())],
        timeout: Duration::from_millis(300),
        queue_spans_max: 64,
        batch_spans_max: 16,
        batch_delay: Duration::from_millis(5),
        resource: vec![("service.name".to_owned(), "orders".to_owned())],
    }
}

fn a_span(n: u64) -> SpanRecord {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    SpanRecord {
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
        span_id: n + 1,
        parent_span_id: Some(0xabc),
        parent_is_remote: true,
        sampled: true,
        kind: SpanKind::Client,
        started,
        ended: started + Duration::from_millis(12),
        attributes: SpanAttributes {
            method: Some(Method::POST),
            path: Some("/pay.Payments/Charge".into()),
            status: Some(200),
            server: Some(ServerAddress { address: "payments.shop".into(), port: 9000 }),
            protocol_version: Some("2"),
            rpc: Some(Rpc { service: "pay.Payments".into(), method: "Charge".into(), status: Some(14) }),
            error: Some(Cow::Borrowed("14")),
            resends: 1,
            rule: Some("GRPCRoute/payments#0@r12".into()),
            flag: Some("UH"),
            endpoint: Some("127.0.0.1:14006".parse().unwrap()),
            peer: Some("spiffe://shop.test/ns/shop/sa/payments".into()),
            client: Some("203.0.113.9".parse().unwrap()),
            sampled_by: SampledBy::Outrider,
        },
        events: smallvec![(started, SpanEvent::Waited { on: "permit", wait: Duration::from_millis(250) })],
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {WAIT_MAX:?} for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => panic!("{key} is {other:?}"),
    })
}

fn assert_is_the_span(span: &Span) {
    assert_eq!(span.name, "pay.Payments/Charge");
    assert_eq!(span.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(span.span_id, 1_u64.to_be_bytes());
    assert_eq!(span.parent_span_id, 0xabc_u64.to_be_bytes());
    assert_eq!(span.kind, 3, "CLIENT");
    assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 12_000_000);
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(2), "ERROR");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("url.path", "/pay.Payments/Charge"),
        ("http.response.status_code", "200"),
        ("server.address", "payments.shop"),
        ("server.port", "9000"),
        ("network.protocol.version", "2"),
        ("rpc.system", "grpc"),
        ("rpc.service", "pay.Payments"),
        ("rpc.method", "Charge"),
        ("rpc.grpc.status_code", "14"),
        ("error.type", "14"),
        ("http.request.resend_count", "1"),
        ("outrider.rule", "GRPCRoute/payments#0@r12"),
        ("outrider.flag", "UH"),
        ("outrider.endpoint", "127.0.0.1:14006"),
        ("outrider.peer", "spiffe://shop.test/ns/shop/sa/payments"),
        ("client.address", "203.0.113.9"),
        ("sampled_by", "outrider"),
    ] {
        assert_eq!(text(&span.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(span.attributes.len(), 18);
    assert_eq!(span.events[0].name, "outrider.waited");
    assert_eq!(text(&span.events[0].attributes, "outrider.wait.seconds").as_deref(), Some("0.25"));
}

async fn a_span_arrives_whole(protocol: Protocol, path: &str) {
    let collector = Collector::answering(protocol);
    let tracer = Tracer::start(settings_for(&collector, protocol)).unwrap();
    tracer.submit(a_span(0));
    until("the span", || !collector.spans().is_empty()).await;
    let request = &collector.requests()[0];
    assert_eq!(request.path, path);
    assert_eq!(request.headers["x-tenant"], "shop");
    let resource = request.spans[0].resource.as_ref().expect("who made the spans");
    assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("orders"));
    assert_is_the_span(&collector.spans()[0]);
    until("the count", || tracer.counts() == TraceCounts { exported: 1, ..TraceCounts::default() }).await;
}

#[tokio::test]
async fn a_span_arrives_whole_over_http() {
    a_span_arrives_whole(Protocol::HttpProtobuf, "/v1/traces").await;
}

#[tokio::test]
async fn a_span_arrives_whole_over_grpc() {
    a_span_arrives_whole(Protocol::Grpc, "/opentelemetry.proto.collector.trace.v1.TraceService/Export").await;
}

#[tokio::test]
async fn spans_share_batches_up_to_the_bound() {
    let collector = Collector::answering(Protocol::HttpProtobuf);
    let tracer = Tracer::start(settings_for(&collector, Protocol::HttpProtobuf)).unwrap();
    for n in 0..64 {
        tracer.submit(a_span(n));
    }
    until("all spans", || tracer.counts().exported == 64).await;
    assert_eq!(collector.spans().len(), 64);
    let of_request = |request: &receiver::Received| -> usize {
        request.spans.iter().flat_map(|of| &of.scope_spans).map(|of| of.spans.len()).sum()
    };
    assert!(collector.requests().iter().all(|request| of_request(request) <= 16));
}

/// Hands in far more than fits, and sees that each span is sent or counted and that nothing waited.
async fn submitting_never_waits(collector: &Collector, protocol: Protocol) {
    let tracer = Tracer::start(settings_for(collector, protocol)).unwrap();
    let began = Instant::now();
    for n in 0..10_000 {
        tracer.submit(a_span(n));
    }
    // One export alone may take 300 ms; ten thousand that wait even a little would take far longer.
    assert!(began.elapsed() < WAIT_MAX / 10, "submitting took {:?}", began.elapsed());
    assert!(tracer.counts().dropped_queue_full > 9_000, "{:?}", tracer.counts());
    let all =
        |counts: TraceCounts| counts.exported + counts.dropped_queue_full + counts.dropped_export_failed;
    until("every span to be accounted for", || all(tracer.counts()) == 10_000).await;
    assert_eq!(tracer.counts().exported, 0);
}

#[tokio::test]
async fn a_collector_that_is_away_slows_nothing_and_every_span_is_counted() {
    submitting_never_waits(&Collector::away(), Protocol::HttpProtobuf).await;
    submitting_never_waits(&Collector::away(), Protocol::Grpc).await;
}

#[tokio::test]
async fn a_collector_that_never_answers_slows_nothing_and_every_span_is_counted() {
    submitting_never_waits(&Collector::silent(), Protocol::HttpProtobuf).await;
    submitting_never_waits(&Collector::silent(), Protocol::Grpc).await;
}

async fn a_collector_comes_back(protocol: Protocol) {
    let collector = Collector::away();
    let tracer = Tracer::start(settings_for(&collector, protocol)).unwrap();
    tracer.submit(a_span(0));
    until("the first span to be lost", || tracer.counts().dropped_export_failed == 1).await;
    collector.listen(protocol);
    let mut n = 1;
    until("a span to arrive", || {
        tracer.submit(a_span(n));
        n += 1;
        tracer.counts().exported > 0
    })
    .await;
    assert!(!collector.spans().is_empty());
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_the_spans_from_then_on_over_http() {
    a_collector_comes_back(Protocol::HttpProtobuf).await;
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_the_spans_from_then_on_over_grpc() {
    a_collector_comes_back(Protocol::Grpc).await;
}

#[tokio::test]
async fn a_shutdown_sends_what_waits_for_its_batch() {
    let collector = Collector::answering(Protocol::HttpProtobuf);
    let patient = ExportSettings {
        batch_delay: Duration::from_mins(10),
        ..settings_for(&collector, Protocol::HttpProtobuf)
    };
    let tracer = Tracer::start(patient).unwrap();
    for n in 0..40 {
        tracer.submit(a_span(n));
    }
    tracer.shutdown().await;
    assert_eq!(tracer.counts(), TraceCounts { exported: 40, ..TraceCounts::default() });
    assert_eq!(collector.spans().len(), 40);
    tracer.submit(a_span(40));
    assert_eq!(tracer.counts().dropped_queue_full, 1, "what comes after it is counted as dropped");
    tracer.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_beside_a_silent_collector_ends_within_its_bound() {
    let collector = Collector::silent();
    let patient = ExportSettings {
        timeout: Duration::from_mins(10),
        ..settings_for(&collector, Protocol::HttpProtobuf)
    };
    let tracer = Tracer::start(patient).unwrap();
    for n in 0..40 {
        tracer.submit(a_span(n));
    }
    let began = Instant::now();
    tracer.shutdown().await;
    assert!(began.elapsed() < SHUTDOWN_MAX * 2, "it took {:?}", began.elapsed());
    assert_eq!(tracer.counts().dropped_export_failed, 40);
}

#[tokio::test]
async fn a_tracer_that_is_off_takes_everything_and_keeps_nothing() {
    let tracer = Tracer::off();
    tracer.submit(a_span(0));
    tracer.shutdown().await;
    assert_eq!((tracer.is_on(), tracer.exporting()), (false, Exporting::Off));
    assert_eq!(tracer.counts(), TraceCounts::default());
}

#[tokio::test]
async fn an_exporter_that_cannot_be_built_is_an_error_that_names_the_endpoint() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let endpoint = "http://[::".to_owned();
        let settings = ExportSettings { endpoint, ..settings_for(&Collector::away(), protocol) };
        let refused = Tracer::start(settings).expect_err("this is no address");
        assert!(refused.to_string().contains("http://[::"), "{refused}");
    }
}

fn converted(kind: SpanKind, attributes: SpanAttributes) -> opentelemetry_sdk::trace::SpanData {
    convert::span_data(SpanRecord { kind, attributes, ..a_span(0) }, convert::scope())
}

#[test]
fn an_error_is_whose_fault_it_was() {
    let attributes = |status, grpc: Option<u32>, error: Option<&'static str>| SpanAttributes {
        status: Some(status),
        rpc: grpc.map(|code| Rpc { service: "s".into(), method: "m".into(), status: Some(code) }),
        error: error.map(Cow::Borrowed),
        ..SpanAttributes::default()
    };
    for (kind, given, is_error) in [
        (SpanKind::Server, attributes(404, None, None), false),
        (SpanKind::Server, attributes(403, None, Some("authorization_denied")), false),
        (SpanKind::Server, attributes(503, None, None), true),
        (SpanKind::Server, attributes(200, Some(5), None), false),
        (SpanKind::Server, attributes(200, Some(14), None), true),
        (SpanKind::Server, attributes(200, None, Some("aborted")), true),
        (SpanKind::Client, attributes(404, None, None), true),
        (SpanKind::Client, attributes(302, None, None), false),
        (SpanKind::Client, attributes(200, Some(5), None), true),
        (SpanKind::Client, attributes(200, Some(0), None), false),
        (SpanKind::Internal, attributes(503, None, Some("no_endpoints")), true),
    ] {
        let shown = format!("{kind:?} {given:?}");
        let status = converted(kind, given).status;
        assert_eq!(matches!(status, opentelemetry::trace::Status::Error { .. }), is_error, "{shown}");
    }
}

#[test]
fn a_span_is_named_after_few_things_alone() {
    let http = |method: &str| SpanAttributes {
        method: Some(Method::from_bytes(method.as_bytes()).unwrap()),
        path: Some("/customers/4711".into()),
        ..SpanAttributes::default()
    };
    assert_eq!(converted(SpanKind::Server, http("GET")).name, "GET");
    assert_eq!(converted(SpanKind::Internal, http("GET")).name, "dispatch");
    let invented = converted(SpanKind::Server, http("BREW"));
    assert_eq!(invented.name, "HTTP");
    let methods: Vec<_> = invented
        .attributes
        .iter()
        .filter(|of| of.key.as_str().starts_with("http.request.method"))
        .map(|of| of.value.to_string())
        .collect();
    assert_eq!(methods, ["_OTHER", "BREW"]);
}
