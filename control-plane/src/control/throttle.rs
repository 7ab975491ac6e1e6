//! How often one source may be refused at joining before it is asked to wait. Pure.
//!
//! The generic cell rate algorithm, of refusals alone: who shows a good credential is never counted. One number for each
//! source says when all of its refusals are forgiven.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Refusals of one source before it has to wait. 30: a host whose sidecars all have an old credential is told so.
pub const REFUSALS_MAX: u32 = 30;
/// One is forgiven in this time. 2 s: a service manager that starts a wrong sidecar again and again stays below it.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(2);
/// Sources remembered. Past it the one that is nearest to being forgiven is forgotten.
pub const SOURCES_MAX: usize = 4_096;

/// The sources that were refused of late, and when each is forgiven.
#[derive(Debug, Default)]
pub struct Throttle(HashMap<IpAddr, Instant>);

impl Throttle {
    /// How long a source has to wait before it may ask again; `None`: it may ask.
    pub fn wait(&self, source: IpAddr, now: Instant) -> Option<Duration> {
        let forgiven = self.0.get(&network(source))?;
        let owed = forgiven.saturating_duration_since(now);
        owed.checked_sub(FORGIVEN_AFTER * REFUSALS_MAX).filter(|wait| !wait.is_zero())
    }

    pub fn refused(&mut self, source: IpAddr, now: Instant) {
        let source = network(source);
        if self.0.len() >= SOURCES_MAX && !self.0.contains_key(&source) {
            self.0.retain(|_, forgiven| *forgiven > now);
            let nearest = self.0.iter().min_by_key(|(_, forgiven)| **forgiven).map(|(source, _)| *source);
            if let Some(nearest) = nearest.filter(|_| self.0.len() >= SOURCES_MAX) {
                self.0.remove(&nearest);
            }
        }
        let forgiven = self.0.entry(source).or_insert(now);
        *forgiven = now.max(*forgiven) + FORGIVEN_AFTER;
    }
}

/// Of IPv6 the first 64 bits, which is what one host is given.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests;
