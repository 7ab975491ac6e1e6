//! A permit of the upstream: without one, nothing is sent on.

use std::rc::Rc;

use super::authorized::Authorized;
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

pub async fn to_upstream(share: &Rc<Share>) -> Result<Admitted, Rejection> {
    let limit = share.upstream.leases.limit();
    let permit = share.admit().await.ok_or(Rejection::ConcurrencyLimit { limit })?;
    Ok(Admitted { permit })
}

pub async fn to_app<'t>(shard: &Shard, authorized: Authorized<'t>) -> Result<AdmittedToApp<'t>, Refused> {
    let app = shard.app_port(authorized.found.local.target_port).await.ok_or(Rejection::NotReady)?;
    let limit = app.share.upstream.leases.limit();
    let permit = app.share.admit().await.ok_or(Rejection::ConcurrencyLimit { limit })?;
    Ok(AdmittedToApp { authorized, app, permit })
}
