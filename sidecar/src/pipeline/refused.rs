//! A request that is not passed on: why, by which rule, and the answer that says so.

use http::{Method, Response};
use outrider_shared::RuleId;

use super::accept::WAY;
use super::answer::Answer;
use super::record::{Held, Record};
use super::rejection::{self, Detail, Refusal, Rejection, Side};
use super::way;
use crate::shard::Shard;

/// What the stages return instead of their evidence.
#[derive(Debug)]
pub struct Refused {
    pub rejection: Rejection,
    /// The rule or document that decided, with its revision.
    pub rule: Option<(RuleId, u64)>,
    /// `namespace/name:port` that was asked for.
    pub target: Option<Box<str>>,
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, rule: None, target: None }
    }
}

impl Refused {
    /// The answer; an edge tells no details.
    pub fn answer(&self, side: Side, shard: &Shard, mut record: Record) -> Response<Answer> {
        let detail = match side {
            Side::Outbound | Side::Inbound => Detail::Full,
            Side::Edge => Detail::Stripped,
        };
        let trace = record.trace.as_mut().map(|trace| {
            if let Some((id, revision)) = &self.rule {
                trace.rule(format!("{id}@r{revision}"));
            }
            if let Some(target) = &self.target {
                trace.serves(target);
            }
            trace.refused(&self.rejection);
            trace.id()
        });
        let refusal = Refusal {
            rejection: &self.rejection,
            rule: self.rule.as_ref().map(|(id, revision)| (id, *revision)),
            target: self.target.as_deref(),
            side,
            node: &shard.node.name,
            trace: trace.as_deref(),
        };
        let mut answer = rejection::answer(&refusal, record.protocol(), detail);
        if let (Some(notes), Side::Outbound | Side::Inbound) = (record.notes.take(), side) {
            answer.headers_mut().insert(&WAY, way::stopped(self, &notes));
        }
        record.refused(&self.rejection.row());
        record.answered(&answer, Held::default());
        let body = record.method() != Method::HEAD;
        answer.map(|bytes| Answer::whole(if body { bytes } else { bytes::Bytes::new() }, record))
    }
}
