//! Where the rule sends a request, and what it changes on the way.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use http_body::Body as _;
use rand::RngCore as _;

use super::accept::wire::IS_AHEAD;
use super::accept::{AHEAD, EXPLAIN, FORM, Form, HOPS, TARGET};
use super::choose::{REDISPATCHES_MAX, Tried};
use super::find::Found;
use super::forward::{Deadline, Outgoing, RequestBody};
use super::matching::{Backend, Rule};
use super::record::Record;
use super::refused::Refused;
use super::rejection::Rejection;
use super::upgrade;
use crate::leg::pump::Pump;
use crate::node::Published;
use crate::shard::Shard;
use crate::upstream::share::Share;

/// What a request's body may keep for a re-dispatch, in bytes. 64 KiB, as retries are to keep.
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
    started: Instant,
}

pub async fn route<'t>(
    shard: &Shard,
    published: &'t Published,
    found: Found<'t>,
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
    let share = shard.share(&backend.target.service).await;
    let share = share.ok_or_else(|| refused(Rejection::NoEndpoint { ejected: 0 }))?;
    record.goes_to(&share.stats);

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
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(accepted.authority)
        .path_and_query(accepted.target.into_inner())
        .build()
        .map_err(|_| Rejection::MalformedRequest { why: "its target is no URI" })?;
    upgrade::fits(accepted.tunnel, backend.target.app_protocol).map_err(refused)?;
    let outgoing = Outgoing { method: accepted.head.method, uri, fields, tunnel: accepted.tunnel };
    let body = (!accepted.body.is_end_stream()).then(|| Pump::keeping(accepted.body, KEPT_BYTES_MAX));
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
        started: record.started(),
    })
}

impl Routed<'_> {
    /// An attempt at an endpoint begins: what it sends names the attempt's span as its parent.
    pub(super) fn begin_attempt(&mut self, shard: &Shard, endpoint: SocketAddr, record: &mut Record) {
        if let Some(trace) = &mut record.trace {
            trace.attempt(self.published, &shard.node.tracer, endpoint, &mut self.outgoing.fields);
        }
    }

    /// The end of the route's patience, for an attempt that begins now.
    pub(super) fn deadline(&self, now: Instant) -> Option<Deadline> {
        let request = self.rule.request_timeout.and_then(|limit| {
            let at = self.started.checked_add(limit)?;
            Some(Deadline { at, rejection: Rejection::RequestTimeout { limit } })
        });
        let attempt = self.rule.backend_request_timeout.and_then(|limit| {
            let at = now.checked_add(limit)?;
            Some(Deadline { at, rejection: Rejection::BackendTimeout { limit } })
        });
        match (request, attempt) {
            (Some(request), Some(attempt)) if attempt.at < request.at => Some(attempt),
            (None, attempt) => attempt,
            (request, _) => request,
        }
    }

    /// Whether the whole request can still be sent to an endpoint that is not among `tried`.
    pub(super) fn can_go_elsewhere(&self, shard: &Shard, tried: &Tried) -> bool {
        tried.len() <= REDISPATCHES_MAX
            && self.body.as_ref().is_none_or(Pump::can_restart)
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
