//! A collector of traces: decodes what real exporters send it by OTLP over HTTP, or says nothing at all.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1;
use prost::Message as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::wait;

/// A span as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of who exported it.
    pub service: String,
    pub name: String,
    pub kind: Kind,
    /// Hex, as in `traceparent`.
    pub trace: String,
    pub id: String,
    /// `""`: it has none.
    pub parent: String,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    Server,
    Client,
}

impl Span {
    /// An attribute's value; `""` where it is absent.
    pub fn get(&self, attribute: &str) -> &str {
        self.attributes.get(attribute).map_or("", String::as_str)
    }

    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.name == name)
    }
}

/// A server on the current runtime, or none; it ends when it is dropped.
pub struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    server: Option<JoinHandle<()>>,
    /// Of one that never answers: the system completes connections, and nobody reads.
    _unread: Option<TcpListener>,
}

impl Collector {
    pub fn start(address: SocketAddr) -> Self {
        let listener = listen(address);
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let server = tokio::spawn(accept(listener, Arc::clone(&spans)));
        Self { address, spans, server: Some(server), _unread: None }
    }

    pub fn silent(address: SocketAddr) -> Self {
        Self { address, spans: Arc::default(), server: None, _unread: Some(listen(address)) }
    }

    /// Nobody listens there.
    pub fn away(address: SocketAddr) -> Self {
        Self { address, spans: Arc::default(), server: None, _unread: None }
    }

    /// Variables with which a sidecar exports to it, soon.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", self.address)),
            ("OTEL_BSP_SCHEDULE_DELAY", "20".to_owned()),
            // Few, so that a case can fill it.
            ("OTEL_BSP_MAX_QUEUE_SIZE", "64".to_owned()),
        ]
    }

    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a trace has so many spans, and gives them in no order.
    pub async fn trace(&self, id: &str, spans: usize) -> Vec<Span> {
        wait::until(&format!("{spans} spans of the trace {id}"), async || {
            let arrived: Vec<_> = self.spans().into_iter().filter(|span| span.trace == id).collect();
            if arrived.len() >= spans { Ok(arrived) } else { Err(format!("{arrived:#?}")) }
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket is to be had");
    socket.bind(address).expect("the address belongs to this case");
    socket.listen(64).expect("a bound socket listens")
}

async fn accept(listener: TcpListener, spans: Arc<Mutex<Vec<Span>>>) {
    // Dropped with the task, and every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let spans = Arc::clone(&spans);
        connections.spawn(async move {
            let service = service_fn(|request| take(request, &spans));
            // An exporter that leaves is no matter of the collector's.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn take(
    request: Request<Incoming>,
    spans: &Mutex<Vec<Span>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let known = request.uri().path() == "/v1/traces";
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    let decoded = body.ok().filter(|_| known).and_then(|body| ExportTraceServiceRequest::decode(body).ok());
    let mut response = Response::new(Full::default());
    match decoded {
        Some(request) => {
            let arrived = request.resource_spans.into_iter().flat_map(of_resource);
            spans.lock().unwrap_or_else(PoisonError::into_inner).extend(arrived);
        }
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

fn of_resource(from: v1::ResourceSpans) -> impl Iterator<Item = Span> {
    let resource = attributes(from.resource.map(|resource| resource.attributes).unwrap_or_default());
    let service = resource.get("service.name").cloned().unwrap_or_default();
    let spans = from.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(move |span| read(span, service.clone()))
}

fn read(span: v1::Span, service: String) -> Span {
    let kind = match span.kind() {
        v1::span::SpanKind::Server => Kind::Server,
        v1::span::SpanKind::Client => Kind::Client,
        v1::span::SpanKind::Internal
        | v1::span::SpanKind::Unspecified
        | v1::span::SpanKind::Producer
        | v1::span::SpanKind::Consumer => Kind::Internal,
    };
    let event = |event: v1::span::Event| Event { name: event.name, attributes: attributes(event.attributes) };
    Span {
        service,
        name: span.name,
        kind,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        failed: span.status.is_some_and(|status| status.code == v1::status::StatusCode::Error as i32),
        attributes: attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
    }
}

fn attributes(from: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    from.into_iter().filter_map(|attribute| Some((attribute.key, text(attribute.value?.value?)))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
