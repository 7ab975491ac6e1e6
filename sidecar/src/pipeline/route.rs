//! Where the rule sends a request, and what it changes on the way.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use http::HeaderValue;
use http_body::Body as _;
use rand::RngCore as _;

use super::accept::wire::IS_AHEAD;
use super::accept::{AHEAD, Cause, EXPLAIN, FORM, Form, HOPS, TARGET};
use super::choose::{REDISPATCHES_MAX, Tried};
use super::find::Found;
use super::forward::{Deadline, Outgoing, Reply, RequestBody, http2_uri};
use super::judge::Ended;
use super::matching::{Backend, Rule};
use super::record::Record;
use super::refused::Refused;
use super::rejection::Rejection;
use super::retry::{Failed, Next, Retries};
use super::upgrade;
use super::urgency::{Known, Urgency};
use crate::leg::pump::Pump;
use crate::node::Published;
use crate::shard::Shard;
use crate::upstream::attempt::Whose;
use crate::upstream::share::Share;

/// What a request's body may keep for a re-dispatch or a retry, in bytes; all together, see [`crate::leg::pump::room`].
/// 64 KiB: what calls of services carry, and a thousand of them are 64 MiB.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// A request that is ready to go to any endpoint of its upstream.
pub struct Routed<'t> {
    published: &'t Published,
    pub(super) rule: &'t Rule,
    pub(super) backend: &'t Backend,
    pub(super) revision: u64,
    pub(super) share: Rc<Share>,
    pub(super) outgoing: Outgoing,
    pub(super) body: RequestBody,
    pub(super) explain: bool,
    /// How the app spoke.
    pub(super) form: Form,
    pub(super) urgency: Urgency,
    /// Which request of the app's it belongs to.
    pub(super) cause: Cause,
    retries: Retries<'t>,
    started: Instant,
}

pub async fn route<'t>(
    shard: &Shard,
    published: &'t Published,
    found: Found<'t>,
    cause: Cause,
    record: &mut Record,
) -> Result<Routed<'t>, Refused> {
    let Found { accepted, rule } = found;
    let table = &published.table;
    let refused = |rejection| Refused {
        rejection,
        rule: rule.id.clone().map(|id| (id, table.revision())),
        target: None,
    };
    let random = shard.rng.borrow_mut().next_u32();
    let backend = rule.choose(random).map_err(refused)?;
    let share = shard.share(&backend.target.service).await.map_err(refused)?;
    record.goes_to(&share.stats);
    if cause.known == Known::Nothing {
        share.stats.without_context.increment();
    }

    let mut fields = accepted.head.headers;
    rule.request_headers.apply(&mut fields);
    backend.request_headers.apply(&mut fields);
    fields.insert(&TARGET, backend.target.header.clone());
    fields.insert(&FORM, accepted.form.header());
    fields.insert(&HOPS, HeaderValue::from(u16::from(accepted.hops) + 1));
    if accepted.ahead {
        fields.insert(&AHEAD, IS_AHEAD);
    }
    if accepted.explain {
        fields.insert(&EXPLAIN, HeaderValue::from_static("way"));
    }
    let uri = http2_uri(accepted.authority, accepted.target.into_inner())?;
    upgrade::fits(accepted.tunnel, backend.target.app_protocol).map_err(refused)?;
    let retries = Retries::new(rule.retry.as_ref(), &fields, accepted.urgency.attempts_before);
    let outgoing = Outgoing { method: accepted.head.method, uri, fields, tunnel: accepted.tunnel };
    let room = &shard.node.kept_bodies;
    let body = (!accepted.body.is_end_stream()).then(|| Pump::keeping(accepted.body, KEPT_BYTES_MAX, room));
    if let Some(trace) = &mut record.trace {
        trace.goes_to(&backend.target);
        if let Some(id) = &rule.id {
            trace.rule(format!("{id}@r{}", table.revision()));
        }
    }
    Ok(Routed {
        published,
        rule,
        backend,
        revision: table.revision(),
        share,
        outgoing,
        body,
        explain: accepted.explain,
        form: accepted.form,
        urgency: accepted.urgency,
        cause,
        retries,
        started: record.started(),
    })
}

impl Routed<'_> {
    /// An attempt at an endpoint begins: what it sends names the attempt's span as its parent.
    pub(super) fn begin_attempt(&mut self, shard: &Shard, endpoint: SocketAddr, record: &mut Record) {
        // Not the attempt's own: it ends by this side's clock, or the far side's answer to its end would be taken for the app's,
        // after which policy need not retry.
        let (deadline, made) = (self.request_deadline(), self.retries.made());
        self.urgency.send(deadline, made, &mut self.outgoing.fields, Instant::now());
        if let Some(trace) = &mut record.trace {
            trace.attempt(self.published, &shard.node.tracer, endpoint, &mut self.outgoing.fields);
        }
    }

    /// The end of the route's patience, for an attempt that begins now.
    pub(super) fn deadline(&self, now: Instant) -> Option<Deadline> {
        let request = self.rule.request_timeout.and_then(|limit| {
            let at = self.started.checked_add(limit)?;
            Some(Deadline { at, whose: Whose::Routes, rejection: Rejection::RequestTimeout { limit } })
        });
        let attempt = self.rule.backend_request_timeout.and_then(|limit| {
            let at = now.checked_add(limit)?;
            Some(Deadline { at, whose: Whose::Routes, rejection: Rejection::BackendTimeout { limit } })
        });
        let inherited = self.urgency.deadline.map(|at| Deadline::of_caller(at, self.started));
        [request, attempt, inherited].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }

    /// The end of the whole request's patience.
    pub(super) fn request_deadline(&self) -> Option<Instant> {
        let own = self.rule.request_timeout.and_then(|limit| self.started.checked_add(limit));
        [own, self.urgency.deadline].into_iter().flatten().min()
    }

    /// What follows an attempt that ended. `is_hinted`: the client was given a hint of its answer.
    pub(super) async fn after(
        &mut self,
        shard: &Shard,
        ended: &Ended,
        reply: Option<&Reply>,
        is_hinted: bool,
    ) -> Next {
        let retried_below = reply.is_some_and(Reply::was_retried);
        if self.rule.retry.is_none() && !retried_below {
            return Next::Settled;
        }
        let failed = Failed { ended, fields: reply.map(Reply::fields), retried_below, is_hinted };
        let mut retries = self.retries;
        // Boxed: rare, and large.
        let next = Box::pin(retries.after(shard, self, &failed)).await;
        self.retries = retries;
        next
    }

    pub(super) fn is_retry(&self) -> bool {
        self.retries.made() > 0
    }

    /// Whether the whole request is still at hand.
    pub(super) fn can_restart(&self) -> bool {
        self.body.as_ref().is_none_or(Pump::can_restart)
    }

    /// Whether the whole request can still be sent to an endpoint that is not among `tried`.
    pub(super) fn can_go_elsewhere(&self, shard: &Shard, tried: &Tried) -> bool {
        tried.len() <= REDISPATCHES_MAX
            && self.can_restart()
            && self.share.choose(tried, &mut shard.rng.borrow_mut(), Instant::now()).is_some()
    }

    /// The next attempt sends the body from its beginning.
    pub(super) fn restart(&mut self) {
        if let Some(pump) = &mut self.body {
            pump.restart();
        }
    }

    pub(super) fn refused(&self, rejection: Rejection) -> Refused {
        Refused {
            rejection,
            rule: self.rule.id.clone().map(|id| (id, self.revision)),
            target: Some((*self.backend.target.name).into()),
        }
    }
}
