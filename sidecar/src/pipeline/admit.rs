//! A permit of the upstream: without one, nothing is sent on.

use std::rc::Rc;
use std::time::Instant;

use super::authorized::Authorized;
use super::record::Record;
use super::refused::Refused;
use super::rejection::Rejection;
use crate::shard::{AppPort, Shard};
use crate::upstream::share::{Permit, Share};

/// Outbound: one more request may be under way.
pub struct Admitted {
    pub(super) permit: Permit,
}

/// Inbound: the app takes one more request.
pub struct AdmittedToApp<'t> {
    pub(super) authorized: Authorized<'t>,
    pub(super) app: Rc<AppPort>,
    pub(super) permit: Permit,
}

pub async fn to_upstream(share: &Rc<Share>, record: &mut Record) -> Result<Admitted, Rejection> {
    let permit = permit(share, record).await?;
    Ok(Admitted { permit })
}

pub async fn to_app<'t>(
    shard: &Shard,
    authorized: Authorized<'t>,
    record: &mut Record,
) -> Result<AdmittedToApp<'t>, Refused> {
    let app = shard.app_port(authorized.found.local.target_port).await.ok_or(Rejection::NotReady)?;
    let permit = permit(&app.share, record).await?;
    Ok(AdmittedToApp { authorized, app, permit })
}

async fn permit(share: &Rc<Share>, record: &mut Record) -> Result<Permit, Rejection> {
    // The clock is asked for the trace alone.
    let began = record.trace.as_ref().map(|_| Instant::now());
    let permit = share.admit().await;
    if let (Some(trace), Some(began)) = (&mut record.trace, began) {
        trace.waited(began.elapsed());
    }
    permit.ok_or_else(|| Rejection::ConcurrencyLimit { limit: share.upstream.leases.limit() })
}
