//! What became of a request, written exactly once: when its answer has ended, or has broken off, or was dropped.
//!
//! It sits outside the stages, so that a request that was refused or cancelled at any of them is recorded too. It also
//! holds what the request has taken (permit, stream, connection), which goes back as it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_utils::CachePadded;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use outrider_shared::RuleId;

use super::accept::EXPLAIN;
use super::judge::{self, Answered, By, Ended};
use super::matching::Protocol;
use super::rejection::{Rejection, Row};
use super::trace::{End, Trace};
use super::way::Notes;
use crate::contexts::Kept;
use crate::egress;
use crate::leg::body::{Body, Meter};
use crate::leg::h1::client::Reuse;
use crate::leg::h1::malformed::Malformed;
use crate::leg::h2_client::Slot;
use crate::shard::Shard;
use crate::stats::{AnswerClass, Found, InboundPeerStats, OfAhead, Recorded, Side, UpstreamShardStats};
use crate::upstream::attempt::Attempt;
use crate::upstream::share::{OpenTunnel, Permit};

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Read to its end.
    Complete,
    /// Broken off by upstream or by a timeout; why, as OpenTelemetry's `error.type`.
    Broken(&'static str),
    /// The client went away.
    Abandoned,
}

/// What a request holds while it is under way.
#[derive(Default)]
pub struct Held {
    pub permit: Option<Permit>,
    pub slot: Option<Slot>,
    pub attempt: Option<Attempt>,
    pub tunnel: Option<OpenTunnel>,
    pub reuse: Option<Reuse>,
    /// What the request brought, for the app's own calls.
    pub context: Option<Kept>,
    /// Outside of the mesh.
    pub egress: Option<egress::Slot>,
}

/// A request that is under way.
pub struct Record {
    started: Instant,
    shard: Rc<Shard>,
    side: Side,
    upstream: Option<Arc<CachePadded<UpstreamShardStats>>>,
    peer: Option<Arc<CachePadded<InboundPeerStats>>>,
    status: StatusCode,
    protocol: Protocol,
    method: Method,
    grpc_status: Option<u32>,
    /// Label and flag of the sidecar's own answer.
    refusal: Option<(&'static str, &'static str)>,
    /// Where a collector is configured.
    pub trace: Option<Box<Trace>>,
    /// Where the way is asked for.
    pub notes: Option<Box<Notes>>,
    received: Option<Rc<Meter>>,
    sent_bytes: u64,
    held: Held,
    /// The far sidecar refused it, to protect its app.
    shed: bool,
    /// It was dialled ahead.
    ahead: Option<Box<Ahead>>,
    ended: bool,
}

/// A tunnel that may never be used, and what is to be counted if it is.
#[derive(Default)]
struct Ahead {
    /// A byte has gone through it.
    under_way: Rc<Cell<bool>>,
    audits: Vec<RuleId>,
    allowed_by_default: bool,
}

impl Record {
    pub fn begin(shard: &Rc<Shard>, side: Side, request: &mut Request<Body>) -> Self {
        shard.stats.shard().in_flight.increment();
        shard.stats.shard().requests.increment();
        Self {
            started: Instant::now(),
            shard: Rc::clone(shard),
            side,
            upstream: None,
            peer: None,
            status: StatusCode::OK,
            protocol: Protocol::of(request.headers()),
            method: request.method().clone(),
            grpc_status: None,
            refusal: None,
            trace: None,
            notes: request.headers().contains_key(&EXPLAIN).then(Box::default),
            received: request.body_mut().meter(),
            sent_bytes: 0,
            held: Held::default(),
            shed: false,
            ahead: None,
            ended: false,
        }
    }

    /// Nobody knows yet whether it is wanted: it is counted as a request only where bytes go through it, and as a refusal
    /// never, since one that is wanted after all is asked for again. Nor does a drain wait for it before.
    pub fn is_ahead(&mut self) {
        // Without content it is no tunnel.
        let Some(received) = &self.received else { return };
        let ahead = Box::<Ahead>::default();
        let (shard, under_way) = (Arc::clone(self.shard.stats.shard()), Rc::clone(&ahead.under_way));
        shard.in_flight.decrement();
        received.at_first(Box::new(move || {
            shard.in_flight.increment();
            under_way.set(true);
        }));
        self.ahead = Some(ahead);
    }

    /// An audited rule would have refused it.
    pub fn audited(&mut self, rule: &RuleId) {
        match &mut self.ahead {
            Some(ahead) => ahead.audits.push(rule.clone()),
            None => self.shard.stats.shard().audit_matches.increment(rule.as_str()),
        }
    }

    /// The mesh's default lets it through.
    pub fn allowed_by_default(&mut self) {
        match &mut self.ahead {
            Some(ahead) => ahead.allowed_by_default = true,
            None => self.shard.stats.shard().allowed_by_default.increment(),
        }
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether refusals of it are gRPC statuses.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Which upstream it goes to; the last one counts.
    pub fn goes_to(&mut self, upstream: &Arc<CachePadded<UpstreamShardStats>>) {
        self.upstream = Some(Arc::clone(upstream));
    }

    /// Who sent it; inbound only.
    pub fn comes_from(&mut self, peer: &Arc<CachePadded<InboundPeerStats>>) {
        self.peer = Some(Arc::clone(peer));
    }

    /// It goes to another endpoint.
    pub fn redispatched(&mut self, why: &Rejection) {
        if let Some(upstream) = &self.upstream {
            upstream.redispatches.increment();
        }
        if let Some(trace) = &mut self.trace {
            trace.attempt_failed(why);
        }
    }

    /// The head of the answer that goes to the client, and what is held until its end.
    pub fn answered<B>(&mut self, head: &Response<B>, held: Held) {
        self.status = head.status();
        self.held = held;
        if self.protocol == Protocol::Grpc {
            self.grpc_status = grpc_status(head.headers());
        }
    }

    pub fn see_trailers(&mut self, trailers: &HeaderMap) {
        if self.protocol == Protocol::Grpc {
            self.grpc_status = grpc_status(trailers).or(self.grpc_status);
        }
    }

    /// The far sidecar refused it, to protect its app.
    pub fn was_shed(&mut self) {
        self.shed = true;
    }

    /// The attempt is made again.
    pub fn retried(&mut self, why: &str) {
        if let Some(trace) = &mut self.trace {
            trace.retried(why);
        }
    }

    /// The answer is the sidecar's own.
    pub fn refused(&mut self, row: &Row) {
        self.refusal = Some((row.label, row.flag.as_str()));
    }

    /// What the app answered is not HTTP.
    pub fn malformed_answer(&self, malformed: Malformed) {
        self.shard.stats.shard().malformed_answers.increment(malformed.label());
    }

    /// It is a tunnel to a port without `appProtocol`, and carries HTTP.
    pub fn disguised(&self, port: &str) {
        self.shard.stats.shard().found(Found::Disguised, port);
    }

    pub fn sent(&mut self, bytes: usize) {
        self.sent_bytes += bytes as u64;
        if let (Some(_), Some(received), 1..) = (&self.ahead, &self.received, bytes) {
            received.begin();
        }
    }

    pub fn end(mut self, outcome: Outcome) {
        self.close(outcome);
    }

    fn close(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        // One reading of the clock for all that ends now.
        let now = Instant::now();
        let duration = now.saturating_duration_since(self.started);
        let class = match outcome {
            Outcome::Complete => AnswerClass::of(self.status, self.grpc_status),
            Outcome::Broken(_) => AnswerClass::Aborted,
            Outcome::Abandoned => AnswerClass::Cancelled,
        };
        let shard = self.shard.stats.shard();
        if self.ahead.as_ref().is_none_or(|ahead| ahead.under_way.get()) {
            shard.in_flight.decrement();
        }
        if let Some(ahead) = self.ahead.take() {
            let outcome = match self.refusal {
                Some(_) => OfAhead::Refused,
                None if ahead.under_way.get() => OfAhead::Used,
                None => OfAhead::Unused,
            };
            shard.was_ahead(self.side, outcome);
            if outcome != OfAhead::Used {
                return;
            }
            for rule in &ahead.audits {
                shard.audit_matches.increment(rule.as_str());
            }
            if ahead.allowed_by_default {
                shard.allowed_by_default.increment();
            }
        }
        if let Some((label, _)) = self.refusal {
            shard.refused(self.side, label);
        }
        if let Some(upstream) = &self.upstream {
            upstream.record(class, duration);
            if self.refusal.is_some() {
                upstream.refusals.increment();
            }
        }
        if let Some(peer) = &self.peer {
            peer.record(&Recorded {
                class,
                refused: self.refusal.is_some(),
                bytes_received: self.received.as_ref().map_or(0, |received| received.bytes()),
                bytes_sent: self.sent_bytes,
                duration,
            });
        }
        let held = std::mem::take(&mut self.held);
        if let Some(attempt) = held.attempt {
            let ended = match outcome {
                Outcome::Complete => Ended::Answered(self.answered_by()),
                Outcome::Broken("timeout") => Ended::RequestTimedOut,
                Outcome::Broken(_) => Ended::BrokeOff,
                Outcome::Abandoned => Ended::ClientLeft,
            };
            attempt.end(ended, now);
        }
        if let (Some(reuse), Outcome::Complete) = (held.reuse, outcome) {
            reuse.done();
        }
        if let Some(trace) = self.trace.take() {
            let grpc = (self.protocol == Protocol::Grpc).then_some(self.grpc_status);
            let end = End { class, status: self.status.as_u16(), grpc, refusal: self.refusal };
            trace.end(&end, &self.shard.node.tracer);
        }
    }
}

impl Record {
    /// The answer, as breakers look at it.
    fn answered_by(&self) -> Answered {
        let grpc =
            (self.protocol == Protocol::Grpc).then(|| judge::grpc_at_end(self.status, self.grpc_status));
        let by = if self.shed { By::Shed } else { By::Backend };
        Answered { status: self.status, grpc, by }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close(Outcome::Abandoned);
    }
}

fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}
