//! A permit of the upstream: without one, nothing is sent on.

use std::rc::Rc;
use std::time::Instant;

use rand::Rng as _;

use super::accept::Accepted;
use super::authorized::Authorized;
use super::identify::InboundConnection;
use super::matching::Table;
use super::record::Record;
use super::refused::Refused;
use super::rejection::Rejection;
use super::upgrade::Tunnel;
use crate::overload::share_refused;
use crate::shard::{AppPort, Shard};
use crate::upstream::attempt::{Passed, Probes};
use crate::upstream::queue::{Cause, PeerKey};
use crate::upstream::share::{Permit, Share};
use crate::upstream::wait::{Asks, NoPermit};

/// Outbound: one more request may be under way.
pub struct Admitted {
    pub(super) permit: Permit,
    /// Where the service's breaker is half open.
    pub(super) probes: Probes,
}

/// Inbound: the app takes one more request.
pub struct AdmittedToApp<'t> {
    pub(super) authorized: Authorized<'t>,
    pub(super) app: Rc<AppPort>,
    pub(super) permit: Permit,
}

/// A call of the own app, while the sidecar is overloaded. What came in was asked for when it came: while any of that is under way, a
/// call may belong to it, whatever the app passes on, and is not refused halfway. Nor is a tunnel, which later requests may need.
pub fn call(shard: &Shard, table: &Table, tunnel: Option<Tunnel>) -> Result<(), Rejection> {
    if tunnel.is_some() || shard.node.stats.process.overload.level() == 0 {
        return Ok(());
    }
    if shard.node.stats.serves_app() {
        return Ok(());
    }
    let (class, classes) = table.classes().map_or((0, 1), |classes| (classes.default(), classes.count()));
    shed(shard, class, classes)
}

/// Where the caller's own limit has a queue, all requests of the app are of one class and one peer.
pub async fn to_upstream(
    share: &Rc<Share>,
    deadline: Option<Instant>,
    own: &PeerKey,
    record: &mut Record,
) -> Result<Admitted, Rejection> {
    let mut probes = Probes::new();
    match share.pass_breaker().await {
        Passed::Freely => {}
        Passed::As(probe) => probes.push(probe),
        Passed::Refused => return Err(breaker_open(share)),
    }
    let permit = permit(share, Asks { class: 0, peer: own, deadline }, record).await?;
    Ok(Admitted { permit, probes })
}

fn breaker_open(share: &Share) -> Rejection {
    let snapshot = share.upstream.snapshot.load();
    let cause = snapshot.breaker.as_ref().map(|breaker| breaker.cause().to_string());
    Rejection::BreakerOpen { cause: cause.unwrap_or_default().into() }
}

pub async fn to_app<'t>(
    from: &InboundConnection,
    mut authorized: Authorized<'t>,
    record: &mut Record,
) -> Result<AdmittedToApp<'t>, Refused> {
    let app = from.shard.app_port(authorized.found.local.target_port).await?;
    let found = &mut authorized.found;
    let Accepted { head, urgency, .. } = &mut found.identified.accepted;
    let (class, classes) = found.table.classes().map_or((0, 1), |classes| {
        let (class, name) = classes.of(&found.identified.principal, &head.headers, urgency.class.as_ref());
        urgency.class = Some(name);
        (class, classes.count())
    });
    let asks = Asks { class, peer: &from.peer, deadline: urgency.deadline };
    let target = Some((*found.local.name).into());
    let permit = match shed(&from.shard, class, classes) {
        Ok(()) => permit(&app.share, asks, record).await,
        Err(overloaded) => Err(overloaded),
    };
    let permit = permit.map_err(|rejection| Refused { rejection, rule: None, target })?;
    Ok(AdmittedToApp { authorized, app, permit })
}

/// While the sidecar itself is overloaded, what is less important is refused.
fn shed(shard: &Shard, class: usize, classes: usize) -> Result<(), Rejection> {
    let overload = &shard.node.stats.process.overload;
    let level = overload.level();
    if level > 0 && shard.rng.borrow_mut().random::<f64>() < share_refused(level, class, classes) {
        return Err(Rejection::Overloaded { short_of: overload.shortest_of() });
    }
    Ok(())
}

async fn permit(share: &Rc<Share>, asks: Asks<'_>, record: &mut Record) -> Result<Permit, Rejection> {
    // The clock is asked for the trace alone.
    let began = record.trace.as_ref().map(|_| Instant::now());
    let permit = share.admit(asks).await;
    if let (Some(trace), Some(began)) = (&mut record.trace, began) {
        trace.waited(began.elapsed());
    }
    permit.map_err(|why| rejection(why, share))
}

fn rejection(why: NoPermit, share: &Share) -> Rejection {
    match why {
        NoPermit::Limit => Rejection::ConcurrencyLimit { limit: share.upstream.leases.limit() },
        NoPermit::Dropped(Cause::Full) => Rejection::QueueFull { why: "as many requests wait as may" },
        NoPermit::Dropped(Cause::FairShare) => {
            Rejection::QueueFull { why: "its caller has more requests waiting than others" }
        }
        NoPermit::Dropped(Cause::Overtaken) => {
            Rejection::QueueFull { why: "it made room for a request of a more important class" }
        }
        NoPermit::Dropped(Cause::MaxWait) => {
            Rejection::QueueTimeout { why: "it waited as long as a request may wait" }
        }
        NoPermit::Dropped(Cause::CoDel) => {
            Rejection::QueueTimeout { why: "those who wait have waited too long for a while (CoDel)" }
        }
        NoPermit::Dropped(Cause::Deadline) => Rejection::DeadlineUnreachable,
        NoPermit::Dropped(Cause::Closed) => Rejection::QueueTimeout { why: "the queue was closed" },
        NoPermit::NoAnswer => Rejection::QueueTimeout { why: "whoever gives permits out did not answer" },
    }
}
