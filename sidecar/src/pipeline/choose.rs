//! One endpoint out of those of the upstream, and a connection to it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use smallvec::SmallVec;

use super::admit::Admitted;
use super::rejection::Rejection;
use super::route::Routed;
use crate::shard::Shard;
use crate::upstream::share::{Endpoint, InFlight, Permit};

/// Times that one request goes to another endpoint because it provably never ran at the first.
pub const REDISPATCHES_MAX: usize = 2;

/// Endpoints at which a request provably never ran.
pub type Tried = SmallVec<[SocketAddr; REDISPATCHES_MAX + 1]>;

/// An endpoint that gets the request.
pub struct Chosen {
    pub(super) permit: Permit,
    pub(super) endpoint: Rc<Endpoint>,
    pub(super) in_flight: InFlight,
}

impl Chosen {
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address
    }
}

pub fn endpoint(
    shard: &Shard,
    routed: &Routed<'_>,
    admitted: Admitted,
    tried: &Tried,
) -> Result<Chosen, Rejection> {
    let chosen = routed.share.choose(tried, &mut shard.rng.borrow_mut(), Instant::now());
    let endpoint = chosen.ok_or_else(|| Rejection::NoEndpoint { ejected: routed.share.endpoints().len() })?;
    let in_flight = endpoint.begin();
    Ok(Chosen { permit: admitted.permit, endpoint, in_flight })
}
