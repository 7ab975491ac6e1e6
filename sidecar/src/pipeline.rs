//! The life of a request, in the order in which it runs.
//!
//! ```text
//! outbound: accept ─▶ find ─▶ route ─▶ admit ─▶ choose ─▶ forward ─▶ record
//! inbound:  identify (accept) ─▶ find ─▶ authorize ─▶ admit ─▶ forward ─▶ record
//! ```
//!
//! Each stage consumes the evidence of the one before it, whose fields only its own file can fill: a stage called out of
//! order does not compile. A refusal at any stage becomes an answer in one place; the record ends with the answer.

pub mod accept;
pub mod admit;
pub mod answer;
pub mod authorize;
pub mod authorized;
pub mod choose;
pub mod egress;
pub mod find;
pub mod forward;
pub mod forwarded;
pub mod headers;
pub mod identify;
pub mod judge;
pub mod matching;
pub mod path;
pub mod principal;
pub mod record;
pub mod refused;
pub mod rejection;
pub mod retry;
pub mod route;
pub mod trace;
pub mod upgrade;
pub mod urgency;
pub mod way;

use std::rc::Rc;

use http::{Request, Response};

use self::accept::Accepted;
use self::answer::Answer;
use self::choose::Tried;
use self::find::Asked;
use self::forward::{Failure, Forwarded, Reply};
use self::judge::Ended;
use self::record::Record;
use self::refused::Refused;
use self::rejection::Rejection;
use self::retry::Next;
use self::route::Routed;
use self::trace::Trace;
use crate::leg::body::Body;
use crate::leg::h1::malformed::Malformed;
use crate::leg::interim::Interim;
use crate::leg::service::Service;
use crate::stats::Side;

pub use self::identify::{AppConnection, InboundConnection};

/// From the own app to a service of the mesh.
pub async fn outbound(
    app: Rc<AppConnection>,
    mut request: Request<Body>,
    interim: Interim,
) -> Response<Answer> {
    let mut record = Record::begin(&app.shard, Side::Outbound, &mut request);
    if app.ahead {
        record.is_ahead();
    }
    match send_out(&app, request, &interim, &mut record).await {
        Ok(forwarded) => forwarded.deliver(record),
        Err(refused) => app.refuse(&refused, record),
    }
}

async fn send_out(
    app: &AppConnection,
    request: Request<Body>,
    interim: &Interim,
    record: &mut Record,
) -> Result<Forwarded, Refused> {
    let published = app.shard.published().ok_or(Rejection::NotReady)?;
    let (mut accepted, cause) = {
        let contexts = &app.shard.node.contexts;
        Accepted::from_app(request, published.table.paths(), contexts, record.started())?
    };
    accepted.ahead = app.ahead;
    record.trace = Trace::outbound(&published, &app.shard.node.tracer, &mut accepted, record.started());
    let found = match find::service(app, &published.table, accepted, record)? {
        Asked::Service(found) => found,
        Asked::Outside(outside) => {
            // Boxed: rare, and large.
            let sent = egress::send(&app.shard, &published, outside, interim, record);
            return Box::pin(sent).await;
        }
    };
    let mut routed = route::route(&app.shard, &published, found, cause, record).await?;
    let tunnel = routed.outgoing.tunnel;
    admit::call(&app.shard, &published.table, tunnel).map_err(|why| routed.refused(why))?;
    routed.share.began();
    let mut tried = Tried::new();
    loop {
        let admitted = admit::to_upstream(&routed.share, routed.request_deadline(), &app.peer, record).await;
        let admitted = admitted.map_err(|why| routed.refused(why))?;
        let chosen = choose::endpoint(&app.shard, &routed, admitted, &tried).await;
        let chosen = chosen.map_err(|why| routed.refused(why))?;
        let address = chosen.address();
        routed.begin_attempt(&app.shard, address, record);
        let (ended, settled) = match forward::to_peer(&app.shard, &mut routed, chosen, &tried, interim).await
        {
            Ok(reply) => {
                let ended = reply.ended(record.protocol());
                (ended, Settled::Reply(Box::new(reply)))
            }
            Err(Failure::Final(why)) => (Failure::Final(why.clone()).ended(), Settled::Refusal(why)),
            Err(Failure::NeverRan(why)) => {
                tried.push(address);
                if !interim.is_hinted() && routed.can_go_elsewhere(&app.shard, &tried) {
                    routed.restart();
                    record.redispatched(&why);
                    continue;
                }
                (Failure::NeverRan(why.clone()).ended(), Settled::Refusal(why))
            }
        };
        match routed.after(&app.shard, &ended, settled.reply(), interim.is_hinted()).await {
            Next::Settled => return settled.answer(&mut routed, &tried, record),
            Next::Refused(why) => return Err(routed.refused(why)),
            Next::Again { wait, why } => {
                settled.give_up(ended);
                record.retried(&why);
                actix_rt::time::sleep(wait).await;
                routed.restart();
                tried.clear();
                tried.push(address);
            }
        }
    }
}

/// How an attempt ended, while it may still be made again.
enum Settled {
    Reply(Box<Reply>),
    Refusal(Rejection),
}

impl Settled {
    fn reply(&self) -> Option<&Reply> {
        match self {
            Self::Reply(reply) => Some(reply),
            Self::Refusal(_) => None,
        }
    }

    /// Its permit is free while the next attempt waits.
    fn give_up(self, ended: Ended) {
        if let Self::Reply(reply) = self {
            reply.drop_for_retry(ended);
        }
    }

    fn answer(
        self,
        routed: &mut Routed<'_>,
        tried: &Tried,
        record: &mut Record,
    ) -> Result<Forwarded, Refused> {
        match self {
            Self::Reply(reply) => reply.settle(routed, tried, record).map_err(|failure| match failure {
                Failure::Final(why) | Failure::NeverRan(why) => routed.refused(why),
            }),
            Self::Refusal(why) => Err(routed.refused(why)),
        }
    }
}

/// From a peer, or from outside at an edge, to the own app.
pub async fn inbound(
    from: Rc<InboundConnection>,
    mut request: Request<Body>,
    interim: Interim,
) -> Response<Answer> {
    let mut record = Record::begin(&from.shard, Side::Inbound, &mut request);
    match take_in(&from, request, &interim, &mut record).await {
        Ok(forwarded) => forwarded.deliver(record),
        Err(refused) => from.refuse(&refused, record),
    }
}

async fn take_in(
    from: &InboundConnection,
    request: Request<Body>,
    interim: &Interim,
    record: &mut Record,
) -> Result<Forwarded, Refused> {
    let published = from.shard.published().ok_or(Rejection::NotReady)?;
    let identified = from.identify(&published, request, record)?;
    let found = find::port(from, &published.table, identified, record)?;
    let authorized = authorized::authorize(found, record)?;
    let admitted = admit::to_app(from, authorized, record).await?;
    forward::to_app(from, admitted, record, interim).await
}

impl Service for Rc<AppConnection> {
    fn serve(
        &self,
        request: Request<Body>,
        interim: Interim,
    ) -> impl Future<Output = Response<Answer>> + 'static {
        outbound(Rc::clone(self), request, interim)
    }

    fn refuse_malformed(&self, malformed: Malformed) -> Response<Answer> {
        let record = Record::begin(&self.shard, Side::Outbound, &mut Request::new(Body::empty()));
        self.content_was(malformed);
        self.refuse(&Rejection::from(malformed).into(), record)
    }

    fn content_was(&self, malformed: Malformed) {
        self.shard.stats.shard().malformed_requests.increment(malformed.label());
    }
}

impl Service for Rc<InboundConnection> {
    fn serve(
        &self,
        request: Request<Body>,
        interim: Interim,
    ) -> impl Future<Output = Response<Answer>> + 'static {
        inbound(Rc::clone(self), request, interim)
    }

    fn refuse_malformed(&self, malformed: Malformed) -> Response<Answer> {
        let record = Record::begin(&self.shard, Side::Inbound, &mut Request::new(Body::empty()));
        self.content_was(malformed);
        self.refuse(&Rejection::from(malformed).into(), record)
    }

    fn content_was(&self, malformed: Malformed) {
        self.shard.stats.shard().malformed_requests.increment(malformed.label());
    }
}
