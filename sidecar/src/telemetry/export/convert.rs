//! Our spans in the exporter's type.

use std::borrow::Cow;

use http::{Method, StatusCode};
use opentelemetry::trace::{Event, SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::stats::AnswerClass;
use crate::telemetry::{SampledBy, SpanAttributes, SpanEvent, SpanKind, SpanRecord};

/// Who made the spans, as OTLP's instrumentation scope.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("outrider").with_version(env!("CARGO_PKG_VERSION")).build()
}

pub(super) fn span_data(span: SpanRecord, scope: InstrumentationScope) -> SpanData {
    let flags = if span.sampled { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let mut events = SpanEvents::default();
    events.events = span.events.into_iter().map(|(at, event)| event_data(at, event)).collect();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from_bytes(span.trace_id.to_be_bytes()),
            SpanId::from_bytes(span.span_id.to_be_bytes()),
            flags,
            false,
            TraceState::default(),
        ),
        parent_span_id: span
            .parent_span_id
            .map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.to_be_bytes())),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.kind {
            SpanKind::Server => opentelemetry::trace::SpanKind::Server,
            SpanKind::Client => opentelemetry::trace::SpanKind::Client,
            SpanKind::Internal => opentelemetry::trace::SpanKind::Internal,
        },
        name: name(span.kind, &span.attributes),
        start_time: span.started,
        end_time: span.ended,
        status: status(span.kind, &span.attributes),
        attributes: attributes(span.attributes),
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        instrumentation_scope: scope,
    }
}

/// Few names: the method, or gRPC's service and method; a path would make one for each customer.
fn name(kind: SpanKind, attributes: &SpanAttributes) -> Cow<'static, str> {
    match (kind, &attributes.rpc, &attributes.method) {
        (SpanKind::Internal, _, _) => Cow::Borrowed("dispatch"),
        (_, Some(rpc), _) => Cow::Owned(format!("{}/{}", rpc.service, rpc.method)),
        (_, None, Some(method)) => known_method(method).map_or(Cow::Borrowed("HTTP"), Cow::Borrowed),
        (_, None, None) => Cow::Borrowed("HTTP"),
    }
}

/// The methods of RFC 9110 and RFC 5789; an invented one must not become a name.
fn known_method(method: &Method) -> Option<&'static str> {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
        .into_iter()
        .find(|known| *known == method.as_str())
}

/// By the conventions, a 4xx and a gRPC status that is no failure are errors of the caller's span alone.
fn status(kind: SpanKind, attributes: &SpanAttributes) -> Status {
    let code = attributes.rpc.as_ref().and_then(|rpc| rpc.status);
    let class = attributes
        .status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .map(|http| AnswerClass::of(http, code));
    let failed = match (kind, class) {
        (SpanKind::Server, Some(AnswerClass::Caller | AnswerClass::GrpcRefused)) => false,
        (_, Some(AnswerClass::Success | AnswerClass::Redirect) | None) => attributes.error.is_some(),
        (
            _,
            Some(
                AnswerClass::Caller
                | AnswerClass::Server
                | AnswerClass::GrpcRefused
                | AnswerClass::GrpcFailed
                | AnswerClass::Aborted
                | AnswerClass::Cancelled,
            ),
        ) => true,
    };
    if failed {
        Status::Error { description: attributes.error.clone().unwrap_or_default() }
    } else {
        Status::Unset
    }
}

fn attributes(from: SpanAttributes) -> Vec<KeyValue> {
    // Most spans have between 6 and 10.
    let mut all = Vec::with_capacity(12);
    let mut put = |key: &'static str, value: opentelemetry::Value| all.push(KeyValue::new(key, value));
    if let Some(method) = &from.method {
        put("http.request.method", known_method(method).unwrap_or("_OTHER").into());
        if known_method(method).is_none() {
            put("http.request.method_original", method.as_str().to_owned().into());
        }
    }
    if let Some(path) = from.path {
        put("url.path", path.into_string().into());
    }
    if let Some(status) = from.status {
        put("http.response.status_code", i64::from(status).into());
    }
    if let Some(server) = from.server {
        put("server.address", server.address.into_string().into());
        put("server.port", i64::from(server.port).into());
    }
    if let Some(version) = from.protocol_version {
        put("network.protocol.version", version.into());
    }
    if let Some(rpc) = from.rpc {
        put("rpc.system", "grpc".into());
        put("rpc.service", rpc.service.into_string().into());
        put("rpc.method", rpc.method.into_string().into());
        if let Some(status) = rpc.status {
            put("rpc.grpc.status_code", i64::from(status).into());
        }
    }
    if let Some(error) = from.error {
        put("error.type", error.into());
    }
    if from.resends > 0 {
        put("http.request.resend_count", i64::from(from.resends).into());
    }
    if let Some(rule) = from.rule {
        put("outrider.rule", rule.into_string().into());
    }
    if let Some(flag) = from.flag {
        put("outrider.flag", flag.into());
    }
    if let Some(endpoint) = from.endpoint {
        put("outrider.endpoint", endpoint.to_string().into());
    }
    if let Some(peer) = from.peer {
        put("outrider.peer", peer.into_string().into());
    }
    if let Some(client) = from.client {
        put("client.address", client.to_string().into());
    }
    match from.sampled_by {
        SampledBy::Trace => {}
        SampledBy::Outrider => put("sampled_by", "outrider".into()),
    }
    all
}

fn event_data(at: std::time::SystemTime, event: SpanEvent) -> Event {
    let (name, attributes) = match event {
        SpanEvent::Refused { label, flag, rule } => {
            let mut attributes =
                vec![KeyValue::new("outrider.refusal", label), KeyValue::new("outrider.flag", flag)];
            attributes.extend(rule.map(|rule| KeyValue::new("outrider.rule", rule.into_string())));
            ("outrider.refused", attributes)
        }
        SpanEvent::Waited { on, wait } => (
            "outrider.waited",
            vec![
                KeyValue::new("outrider.wait.on", on),
                KeyValue::new("outrider.wait.seconds", wait.as_secs_f64()),
            ],
        ),
        SpanEvent::Retried { why } => {
            ("outrider.retried", vec![KeyValue::new("outrider.retry.reason", why.into_string())])
        }
        SpanEvent::Redispatched { reason } => {
            ("outrider.redispatched", vec![KeyValue::new("outrider.redispatch.reason", reason)])
        }
    };
    Event::new(name, at, attributes, 0)
}
