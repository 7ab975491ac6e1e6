//! The spans of a request: which there are, what hangs under what, and when one is made at all.
//!
//! ```text
//! app's span
//! └─ INTERNAL (only with more than one attempt, or a refusal)      outbound sidecar
//!    ├─ CLIENT, attempt 1
//!    └─ CLIENT, attempt 2 (http.request.resend_count 1)
//!       └─ SERVER                                                   inbound sidecar
//!          └─ app's span
//! ```
//!
//! Nothing is built for a request that will not be exported: attributes are asked for at the end, by a closure. A request
//! that was not sampled, but was refused or failed, gets one span of its own, marked `sampled_by=outrider`; its trace is
//! not complete.

use std::time::{Instant, SystemTime};

use smallvec::SmallVec;

use super::{TraceContext, Tracer};

mod attributes;
#[cfg(test)]
mod tests;

pub use attributes::{Rpc, SampledBy, ServerAddress, SpanAttributes, SpanEvent};

/// Events of one span; more are dropped. 16: a refusal, and a wait and a decision for each of a few attempts.
const EVENTS_MAX: usize = 16;
/// Attempts of one request that get a span; a request is tried three times at most by re-dispatch.
const ATTEMPTS_MAX: usize = 16;

/// OpenTelemetry's kinds that a sidecar has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    Server,
    Client,
    Internal,
}

/// When something began, on both clocks: one to say when, one to say how long.
#[derive(Debug, Clone, Copy)]
pub struct SpanStart {
    wall: SystemTime,
    monotonic: Instant,
}

impl SpanStart {
    pub fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }
    /// Of something that began at an instant which is already known.
    pub fn at(monotonic: Instant) -> Self {
        let ago = monotonic.elapsed();
        Self { wall: SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH), monotonic }
    }
    fn end(&self) -> SystemTime {
        self.wall + self.monotonic.elapsed()
    }
}

/// How a request ended, as far as tracing cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Fine,
    /// The sidecar made the answer itself.
    Refused,
    /// See [`AnswerClass::is_failure`](crate::stats::AnswerClass::is_failure).
    Failed,
}

/// A span that is over, ready to be exported.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    pub trace_id: u128,
    pub span_id: u64,
    pub parent_span_id: Option<u64>,
    /// The parent is another process's.
    pub parent_is_remote: bool,
    pub sampled: bool,
    pub kind: SpanKind,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub attributes: SpanAttributes,
    pub events: SmallVec<[(SystemTime, SpanEvent); 1]>,
}

/// Whether a request that ended so is exported, and on whose decision.
fn exported(context: &TraceContext, ending: Ending, tracer: &Tracer) -> Option<SampledBy> {
    match (tracer.is_on(), context.sampled, ending) {
        (false, _, _) | (true, false, Ending::Fine) => None,
        (true, true, _) => Some(SampledBy::Trace),
        (true, false, Ending::Refused | Ending::Failed) => Some(SampledBy::Outrider),
    }
}

/// The SERVER span of a request that came in from a peer or through an edge.
#[derive(Debug)]
pub struct InboundSpan {
    context: TraceContext,
    start: SpanStart,
    events: SmallVec<[(SystemTime, SpanEvent); 1]>,
}

impl InboundSpan {
    pub fn begin(context: TraceContext, start: SpanStart) -> Self {
        Self { context, start, events: SmallVec::new() }
    }

    pub fn event(&mut self, event: SpanEvent) {
        push_event(&mut self.events, event);
    }

    /// `attributes` is asked only if the span is exported.
    pub fn finish(self, ending: Ending, attributes: impl FnOnce() -> SpanAttributes, tracer: &Tracer) {
        let Some(sampled_by) = exported(&self.context, ending, tracer) else { return };
        let context = self.context.ours();
        tracer.submit(SpanRecord {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id: context.parent_span_id,
            parent_is_remote: context.parent_span_id.is_some(),
            sampled: context.sampled,
            kind: SpanKind::Server,
            started: self.start.wall,
            ended: self.start.end(),
            attributes: SpanAttributes { sampled_by, ..attributes() },
            events: self.events,
        });
    }
}

/// The CLIENT spans of a request of the app's, one for each attempt, and their INTERNAL parent where there is one.
#[derive(Debug)]
pub struct OutboundSpan {
    context: TraceContext,
    start: SpanStart,
    attempts: SmallVec<[Attempt; 1]>,
    events: SmallVec<[(SystemTime, SpanEvent); 1]>,
}

#[derive(Debug)]
struct Attempt {
    context: TraceContext,
    start: SpanStart,
    end: Option<(SystemTime, SpanAttributes)>,
}

impl OutboundSpan {
    pub fn begin(context: TraceContext, start: SpanStart) -> Self {
        Self { context, start, attempts: SmallVec::new(), events: SmallVec::new() }
    }

    pub fn event(&mut self, event: SpanEvent) {
        push_event(&mut self.events, event);
    }

    /// The context to inject into the next attempt.
    pub fn attempt(&mut self, tracer: &Tracer) -> TraceContext {
        let context = self.context;
        if !context.sampled || !tracer.is_on() || self.attempts.len() == ATTEMPTS_MAX {
            return context;
        }
        let context = context.child();
        self.attempts.push(Attempt { context, start: SpanStart::now(), end: None });
        context
    }

    /// The attempt that began last is over; `attributes` is asked only if it will be exported.
    pub fn attempt_ended(&mut self, attributes: impl FnOnce() -> SpanAttributes) {
        if let Some(attempt) = self.attempts.last_mut().filter(|attempt| attempt.end.is_none()) {
            attempt.end = Some((attempt.start.end(), attributes()));
        }
    }

    /// `attributes` are those of the request as a whole, asked only if they are exported.
    pub fn finish(mut self, ending: Ending, attributes: impl FnOnce() -> SpanAttributes, tracer: &Tracer) {
        let Some(sampled_by) = exported(&self.context, ending, tracer) else { return };
        let context = self.context.ours();
        let whole = SpanRecord {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id: context.parent_span_id,
            parent_is_remote: context.parent_span_id.is_some(),
            sampled: context.sampled,
            kind: SpanKind::Internal,
            started: self.start.wall,
            ended: self.start.end(),
            attributes: SpanAttributes { sampled_by, ..SpanAttributes::default() },
            events: std::mem::take(&mut self.events),
        };
        if self.attempts.len() == 1 && ending != Ending::Refused {
            // The one attempt takes the place of the parent that it does not need.
            let only = self.attempts.pop().expect("there is exactly one");
            let record = only.into_record(&whole, 0);
            let parents = SpanRecord {
                parent_span_id: whole.parent_span_id,
                parent_is_remote: whole.parent_is_remote,
                events: whole.events,
                ..record
            };
            tracer.submit(parents);
            return;
        }
        for (resends, attempt) in (0..).zip(self.attempts) {
            tracer.submit(attempt.into_record(&whole, resends));
        }
        tracer.submit(SpanRecord { attributes: SpanAttributes { sampled_by, ..attributes() }, ..whole });
    }
}

impl Attempt {
    fn into_record(self, parent: &SpanRecord, resends: u32) -> SpanRecord {
        let cut_off = || (self.start.end(), SpanAttributes::cut_off());
        let (ended, attributes) = self.end.unwrap_or_else(cut_off);
        SpanRecord {
            trace_id: parent.trace_id,
            span_id: self.context.span_id,
            parent_span_id: Some(parent.span_id),
            parent_is_remote: false,
            sampled: parent.sampled,
            kind: SpanKind::Client,
            started: self.start.wall,
            ended,
            attributes: SpanAttributes { resends, sampled_by: parent.attributes.sampled_by, ..attributes },
            events: SmallVec::new(),
        }
    }
}

fn push_event(events: &mut SmallVec<[(SystemTime, SpanEvent); 1]>, event: SpanEvent) {
    if events.len() < EVENTS_MAX {
        events.push((SystemTime::now(), event));
    }
}
