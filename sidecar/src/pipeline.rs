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
pub mod matching;
pub mod path;
pub mod principal;
pub mod record;
pub mod refused;
pub mod rejection;
pub mod route;
pub mod trace;
pub mod upgrade;
pub mod way;

use std::rc::Rc;

use http::{Request, Response};

use self::accept::Accepted;
use self::answer::Answer;
use self::choose::Tried;
use self::find::Asked;
use self::forward::{Failure, Forwarded};
use self::record::Record;
use self::refused::Refused;
use self::rejection::Rejection;
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
    let mut accepted = Accepted::from_app(request, published.table.paths())?;
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
    let mut routed = route::route(&app.shard, &published, found, record).await?;
    let mut tried = Tried::new();
    loop {
        let admitted = admit::to_upstream(&routed.share, record).await.map_err(|why| routed.refused(why))?;
        let chosen = choose::endpoint(&app.shard, &routed, admitted, &tried);
        let chosen = chosen.map_err(|why| routed.refused(why))?;
        let address = chosen.address();
        routed.begin_attempt(&app.shard, address, record);
        match forward::to_peer(&app.shard, &mut routed, chosen, &tried, interim).await {
            Ok(forwarded) => return Ok(forwarded),
            Err(Failure::Final(why)) => return Err(routed.refused(why)),
            Err(Failure::NeverRan(why)) => {
                tried.push(address);
                if !routed.can_go_elsewhere(&app.shard, &tried) {
                    return Err(routed.refused(why));
                }
                routed.restart();
                record.redispatched(&why);
            }
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
    let admitted = admit::to_app(&from.shard, authorized, record).await?;
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
