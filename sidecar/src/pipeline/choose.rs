//! One endpoint out of those of the upstream, and a connection to it.

use std::net::SocketAddr;
use std::time::Instant;

use smallvec::SmallVec;

use super::admit::Admitted;
use super::rejection::Rejection;
use super::route::Routed;
use crate::shard::Shard;
use crate::upstream::attempt::Attempt;
use crate::upstream::share::Permit;

/// Times that one request goes to another endpoint because it provably never ran at the first.
pub const REDISPATCHES_MAX: usize = 2;

/// Endpoints at which a request provably never ran, and the one at which it failed last.
pub type Tried = SmallVec<[SocketAddr; REDISPATCHES_MAX + 1]>;

/// An endpoint that gets the request.
pub struct Chosen {
    pub(super) permit: Permit,
    pub(super) attempt: Attempt,
}

impl Chosen {
    pub fn address(&self) -> SocketAddr {
        self.attempt.endpoint().address
    }
}

/// Waits only where some endpoint's breaker is half open: for the actor's word whether this request is a probe.
pub async fn endpoint(
    shard: &Shard,
    routed: &Routed<'_>,
    admitted: Admitted,
    tried: &Tried,
) -> Result<Chosen, Rejection> {
    let Admitted { permit, mut probes } = admitted;
    let share = &routed.share;
    if share.is_probing()
        && let Some((endpoint, probe)) = Box::pin(share.probe(tried)).await
    {
        probes.push(probe);
        return Ok(Chosen { permit, attempt: Attempt::begin(share, &endpoint, probes) });
    }
    let mut chosen = share.choose(tried, &mut shard.rng.borrow_mut(), Instant::now());
    if chosen.is_none() && routed.is_retry() {
        // There is no other than the one where it failed.
        chosen = share.choose(&[], &mut shard.rng.borrow_mut(), Instant::now());
    }
    let endpoint = chosen.ok_or_else(|| Rejection::NoEndpoint { ejected: share.endpoints().len() })?;
    Ok(Chosen { permit, attempt: Attempt::begin(share, &endpoint, probes) })
}
