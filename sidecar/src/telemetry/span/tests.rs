//! Sentences about the span tree: what hangs under what, and when nothing is made.

use http::HeaderMap;
use outrider_shared::snapshot::Tracing;
use outrider_shared::units::Fraction;

use super::*;
use crate::telemetry::{Exporting, TracePolicy};

fn context(sampled: bool) -> TraceContext {
    let mut headers = HeaderMap::new();
    let flag = u8::from(sampled);
    let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0{flag}");
    headers.insert("traceparent", parent.parse().unwrap());
    TracePolicy::new(&Tracing::default(), Exporting::On).begin(&mut headers)
}

const CALLER: u64 = 0x00f0_67aa_0ba9_02b7;

fn collect(spans: &mut tokio::sync::mpsc::Receiver<SpanRecord>) -> Vec<SpanRecord> {
    std::iter::from_fn(|| spans.try_recv().ok()).collect()
}

fn status(status: u16) -> SpanAttributes {
    SpanAttributes { status: Some(status), ..SpanAttributes::default() }
}

#[test]
fn a_request_that_came_in_has_one_server_span_under_its_callers() {
    let (tracer, mut spans) = Tracer::captured();
    let context = context(true);
    let span = InboundSpan::begin(context, SpanStart::now());
    let to_app = context.span_id;
    span.finish(Ending::Fine, || status(200), &tracer);
    let [span] = &collect(&mut spans)[..] else { panic!("there is exactly one") };
    assert_eq!((span.kind, span.span_id, span.parent_span_id), (SpanKind::Server, to_app, Some(CALLER)));
    assert!(span.parent_is_remote && span.sampled && span.started <= span.ended);
    assert_eq!(span.attributes.sampled_by, SampledBy::Trace);
}

#[test]
fn one_attempt_that_was_answered_is_one_client_span_without_a_parent_of_ours() {
    let (tracer, mut spans) = Tracer::captured();
    let mut span = OutboundSpan::begin(context(true), SpanStart::now());
    let attempt = span.attempt(&tracer);
    span.attempt_ended(|| status(200));
    span.finish(Ending::Fine, || panic!("the parent is not exported"), &tracer);
    let [span] = &collect(&mut spans)[..] else { panic!("there is exactly one") };
    assert_eq!(
        (span.kind, span.span_id, span.parent_span_id),
        (SpanKind::Client, attempt.span_id, Some(CALLER))
    );
    assert_eq!(span.attributes.resends, 0);
    assert!(span.parent_is_remote);
}

#[test]
fn two_attempts_hang_under_an_internal_span_and_the_second_counts_its_resend() {
    let (tracer, mut spans) = Tracer::captured();
    let mut span = OutboundSpan::begin(context(true), SpanStart::now());
    let first = span.attempt(&tracer);
    span.attempt_ended(|| status(503));
    span.event(SpanEvent::Redispatched { reason: "connect_failed" });
    let second = span.attempt(&tracer);
    span.attempt_ended(|| status(200));
    span.finish(Ending::Fine, || status(200), &tracer);
    let [one, two, parent] = &collect(&mut spans)[..] else { panic!("there are three") };
    assert_eq!((parent.kind, parent.parent_span_id), (SpanKind::Internal, Some(CALLER)));
    assert_eq!((one.span_id, one.parent_span_id), (first.span_id, Some(parent.span_id)));
    assert_eq!((two.span_id, two.parent_span_id), (second.span_id, Some(parent.span_id)));
    assert_eq!((one.attributes.resends, two.attributes.resends), (0, 1));
    assert_eq!(parent.events[0].1, SpanEvent::Redispatched { reason: "connect_failed" });
    assert!(!one.parent_is_remote && parent.parent_is_remote);
    assert_ne!(first.span_id, second.span_id);
}

#[test]
fn a_refusal_without_an_attempt_is_an_internal_span_with_its_reason() {
    let (tracer, mut spans) = Tracer::captured();
    let mut span = OutboundSpan::begin(context(true), SpanStart::now());
    let refused =
        SpanEvent::Refused { label: "no_endpoints", flag: "UH", rule: Some("MeshConfig/default@r1".into()) };
    span.event(refused.clone());
    span.finish(Ending::Refused, || status(503), &tracer);
    let [span] = &collect(&mut spans)[..] else { panic!("there is exactly one") };
    assert_eq!((span.kind, span.attributes.status), (SpanKind::Internal, Some(503)));
    assert_eq!(span.events[0].1, refused);
}

#[test]
fn a_request_that_was_not_sampled_and_went_well_builds_nothing() {
    let (tracer, mut spans) = Tracer::captured();
    let inbound = InboundSpan::begin(context(false), SpanStart::now());
    inbound.finish(Ending::Fine, || panic!("attributes are not asked for"), &tracer);
    let mut outbound = OutboundSpan::begin(context(false), SpanStart::now());
    assert_eq!(outbound.attempt(&tracer), context(false), "the caller's context goes on as it came");
    outbound.attempt_ended(|| panic!("attributes are not asked for"));
    outbound.finish(Ending::Fine, || panic!("attributes are not asked for"), &tracer);
    assert!(collect(&mut spans).is_empty());
}

#[test]
fn a_failure_that_was_not_sampled_gets_a_span_that_says_who_sampled_it() {
    let (tracer, mut spans) = Tracer::captured();
    InboundSpan::begin(context(false), SpanStart::now()).finish(Ending::Failed, || status(500), &tracer);
    OutboundSpan::begin(context(false), SpanStart::now()).finish(Ending::Refused, || status(503), &tracer);
    let spans = collect(&mut spans);
    assert_eq!(spans.len(), 2);
    for span in &spans {
        assert_eq!(span.attributes.sampled_by, SampledBy::Outrider);
        assert_eq!(span.parent_span_id, Some(CALLER));
        assert_ne!(span.span_id, CALLER);
        assert!(!span.sampled, "the trace is still not sampled");
    }
}

#[test]
fn without_a_collector_nothing_is_built_even_for_a_failure() {
    let tracer = Tracer::off();
    let inbound = InboundSpan::begin(context(true), SpanStart::now());
    inbound.finish(Ending::Failed, || panic!("attributes are not asked for"), &tracer);
}

#[test]
fn an_attempt_that_was_cut_off_says_so() {
    let (tracer, mut spans) = Tracer::captured();
    let mut span = OutboundSpan::begin(context(true), SpanStart::now());
    span.attempt(&tracer);
    span.finish(Ending::Failed, SpanAttributes::default, &tracer);
    assert_eq!(collect(&mut spans)[0].attributes.error.as_deref(), Some("cancelled"));
}

#[test]
fn events_and_attempts_stay_within_their_bounds() {
    let (tracer, mut spans) = Tracer::captured();
    let mut span = OutboundSpan::begin(context(true), SpanStart::now());
    for _ in 0..100 {
        span.event(SpanEvent::Redispatched { reason: "connect_failed" });
        span.attempt(&tracer);
    }
    span.finish(Ending::Fine, SpanAttributes::default, &tracer);
    let spans = collect(&mut spans);
    assert_eq!(spans.len(), ATTEMPTS_MAX + 1);
    assert_eq!(spans[ATTEMPTS_MAX].events.len(), EVENTS_MAX);
}

#[test]
fn our_own_root_is_sampled_by_our_share() {
    let (tracer, mut spans) = Tracer::captured();
    let all = Tracing { sampling: Fraction { numerator: 1, denominator: 1 }, ..Tracing::default() };
    let root = TracePolicy::new(&all, Exporting::On).begin(&mut HeaderMap::new());
    InboundSpan::begin(root, SpanStart::now()).finish(Ending::Fine, || status(200), &tracer);
    let span = &collect(&mut spans)[0];
    assert_eq!((span.parent_span_id, span.parent_is_remote), (None, false));
}

#[test]
fn a_service_is_named_as_its_host_is() {
    let named = ServerAddress::of("shop/orders:8080");
    assert_eq!(named, Some(ServerAddress { address: "orders.shop".into(), port: 8080 }));
    for unnamed in ["", "orders:8080", "shop/orders", "shop/orders:http"] {
        assert_eq!(ServerAddress::of(unnamed), None, "{unnamed}");
    }
}
