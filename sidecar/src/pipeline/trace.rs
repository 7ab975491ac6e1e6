//! The request's place in its trace: read from its head, written into what goes on, and told to the collector at its end.
//!
//! Where no collector is configured, one thing of this is left: a request reaches the app with a trace id, its caller's or a
//! fresh one. The outbound side leaves that to the inbound one, which spares the leg between them a header.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::accept::Accepted;
use super::matching::Target;
use super::rejection::Rejection;
use crate::node::Published;
use crate::stats::AnswerClass;
use crate::telemetry::{
    Ending, InboundSpan, OutboundSpan, Rpc, ServerAddress, SpanAttributes, SpanEvent, SpanStart,
    TraceContext, Tracer,
};

/// A shorter wait is the scheduler's, and tells nothing.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// The spans of one request.
pub struct Trace {
    spans: Spans,
    context: TraceContext,
    method: Method,
    target: PathAndQuery,
    version: &'static str,
    server: Option<ServerAddress>,
    peer: Option<Box<str>>,
    client: Option<IpAddr>,
    rule: Option<Box<str>>,
    endpoint: Option<SocketAddr>,
}

// A trace is boxed as a whole.
#[allow(clippy::large_enum_variant)]
enum Spans {
    Inbound(InboundSpan),
    Outbound(OutboundSpan),
}

/// How a request ended, for its spans.
pub struct End {
    pub class: AnswerClass,
    pub status: u16,
    pub grpc: Option<Option<u32>>,
    /// The sidecar's own answer.
    pub refusal: Option<(&'static str, &'static str)>,
}

impl Trace {
    /// `None`: nothing is exported.
    pub fn inbound(
        published: &Published,
        tracer: &Tracer,
        accepted: &mut Accepted,
        started: Instant,
    ) -> Option<Box<Self>> {
        let fields = &mut accepted.head.headers;
        let context = published.tracing.begin(fields);
        published.tracing.inject(&context, fields);
        tracer.is_on().then(|| {
            let span = InboundSpan::begin(context, SpanStart::at(started));
            Box::new(Self::new(Spans::Inbound(span), context, accepted))
        })
    }

    /// `None`: nothing is exported.
    pub fn outbound(
        published: &Published,
        tracer: &Tracer,
        accepted: &mut Accepted,
        started: Instant,
    ) -> Option<Box<Self>> {
        if !tracer.is_on() {
            return None;
        }
        let context = published.tracing.begin(&mut accepted.head.headers);
        let span = OutboundSpan::begin(context, SpanStart::at(started));
        Some(Box::new(Self::new(Spans::Outbound(span), context, accepted)))
    }

    fn new(spans: Spans, context: TraceContext, accepted: &Accepted) -> Self {
        Self {
            spans,
            context,
            method: accepted.head.method.clone(),
            target: accepted.target.as_inner().clone(),
            version: accepted.form.name(),
            server: None,
            peer: None,
            client: None,
            rule: None,
            endpoint: None,
        }
    }

    /// Hex, as `traceparent` has it.
    pub fn id(&self) -> String {
        format!("{:032x}", self.context.trace_id)
    }

    pub fn peer(&mut self, principal: &str) {
        self.peer = Some(principal.into());
    }

    /// Where a request from outside began, as far as that is believed.
    pub fn client(&mut self, address: Option<IpAddr>) {
        self.client = address;
    }

    /// Outbound: where it goes, and who must answer there.
    pub fn goes_to(&mut self, target: &Target) {
        self.serves(&target.name);
        self.peer(target.identity.as_str());
    }

    /// Which port of a service it is for, as `namespace/name:port`.
    pub fn serves(&mut self, name: &str) {
        self.server = ServerAddress::of(name);
    }

    pub fn rule(&mut self, rule: String) {
        self.rule = Some(rule.into());
    }

    /// An attempt at an endpoint begins: its span is the parent of what comes of it.
    pub fn attempt(
        &mut self,
        published: &Published,
        tracer: &Tracer,
        endpoint: SocketAddr,
        fields: &mut HeaderMap,
    ) {
        if let Spans::Outbound(span) = &mut self.spans {
            let context = span.attempt(tracer);
            published.tracing.inject(&context, fields);
        }
        self.endpoint = Some(endpoint);
    }

    /// It waited for a permit.
    pub fn waited(&mut self, wait: Duration) {
        if wait >= WAIT_MIN {
            self.event(SpanEvent::Waited { on: "permit", wait });
        }
    }

    /// The sidecar itself answers.
    pub fn refused(&mut self, rejection: &Rejection) {
        let row = rejection.row();
        let rule = self.rule.clone();
        self.event(SpanEvent::Refused { label: row.label, flag: row.flag.as_str(), rule });
    }

    fn event(&mut self, event: SpanEvent) {
        match &mut self.spans {
            Spans::Inbound(span) => span.event(event),
            Spans::Outbound(span) => span.event(event),
        }
    }

    /// The attempt failed, and is made again.
    pub fn retried(&mut self, why: &str) {
        self.event(SpanEvent::Retried { why: why.into() });
        let attributes = SpanAttributes { error: Some(why.to_owned().into()), ..self.attributes() };
        if let Spans::Outbound(span) = &mut self.spans {
            span.attempt_ended(|| attributes);
        }
    }

    /// It provably never ran there, and goes elsewhere.
    pub fn attempt_failed(&mut self, rejection: &Rejection) {
        let row = rejection.row();
        self.event(SpanEvent::Redispatched { reason: row.label });
        let attributes = || SpanAttributes {
            error: Some(row.label.into()),
            flag: Some(row.flag.as_str()),
            ..self.attributes()
        };
        // The borrow of `self` by the closure ends before the span is told.
        let attributes = attributes();
        if let Spans::Outbound(span) = &mut self.spans {
            span.attempt_ended(|| attributes);
        }
    }

    pub fn end(mut self, end: &End, tracer: &Tracer) {
        let ending = match (end.refusal, end.class.is_failure()) {
            (Some(_), _) => Ending::Refused,
            (None, true) => Ending::Failed,
            (None, false) => Ending::Fine,
        };
        if !self.context.sampled && ending == Ending::Fine {
            return;
        }
        let attributes = SpanAttributes {
            status: Some(end.status),
            rpc: end.grpc.and_then(|status| self.rpc(status)),
            error: match (end.refusal, end.class.is_failure()) {
                (Some((label, _)), _) => Some(label.into()),
                (None, true) if end.class == AnswerClass::Server => Some(end.status.to_string().into()),
                (None, true) => Some(end.class.label().into()),
                (None, false) => None,
            },
            flag: end.refusal.map(|(_, flag)| flag),
            ..self.attributes()
        };
        match self.spans {
            Spans::Inbound(span) => span.finish(ending, || attributes, tracer),
            Spans::Outbound(ref mut span) => {
                span.attempt_ended(|| attributes.clone());
                let Spans::Outbound(span) = self.spans else { return };
                span.finish(ending, || attributes, tracer);
            }
        }
    }

    fn rpc(&self, status: Option<u32>) -> Option<Rpc> {
        let (service, method) = self.target.path().strip_prefix('/')?.rsplit_once('/')?;
        Some(Rpc { service: service.into(), method: method.into(), status })
    }

    fn attributes(&self) -> SpanAttributes {
        SpanAttributes {
            method: Some(self.method.clone()),
            path: Some(self.target.path().into()),
            protocol_version: Some(self.version),
            server: self.server.clone(),
            rule: self.rule.clone(),
            endpoint: self.endpoint,
            peer: self.peer.clone(),
            client: self.client,
            ..SpanAttributes::default()
        }
    }
}
