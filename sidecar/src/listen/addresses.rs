//! How many connections each address has open, so that one of them cannot take all descriptors.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Addresses counted apart. 16,384: more of them at once than a sidecar serves; past that a new one is not counted, and the
/// process's own bound on descriptors holds.
const ADDRESSES_MAX: usize = 16 << 10;
/// How often addresses without connections are forgotten at most: it is a walk over all of them.
const SWEEP: Duration = Duration::from_secs(1);

/// Only the listeners' thread looks here; a connection that ends on a shard gives its place back through its count.
#[derive(Debug)]
pub struct Addresses {
    open: RefCell<HashMap<IpAddr, Arc<AtomicU32>>>,
    swept_at: Cell<Instant>,
    limit: u32,
}

/// One connection of an address, until it is dropped.
#[derive(Debug)]
pub struct Place(Option<Arc<AtomicU32>>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(open) = &self.0 {
            open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The address has as many connections as it may have.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Addresses {
    pub fn new(limit: u32, now: Instant) -> Self {
        Self { open: RefCell::default(), swept_at: Cell::new(now), limit }
    }

    pub fn enter(&self, address: IpAddr, now: Instant) -> Result<Place, Full> {
        let mut open = self.open.borrow_mut();
        let key = network(address);
        if open.len() >= ADDRESSES_MAX && !open.contains_key(&key) {
            if now.saturating_duration_since(self.swept_at.get()) >= SWEEP {
                self.swept_at.set(now);
                open.retain(|_, open| open.load(Ordering::Relaxed) > 0);
            }
            if open.len() >= ADDRESSES_MAX {
                return Ok(Place(None));
            }
        }
        let count = open.entry(key).or_default();
        // Nobody else adds to it.
        if count.load(Ordering::Relaxed) >= self.limit {
            return Err(Full);
        }
        count.fetch_add(1, Ordering::Relaxed);
        Ok(Place(Some(Arc::clone(count))))
    }
}

/// Whoever has one address of IPv6 has the /64 around it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more_until_one_ends() {
        let now = Instant::now();
        let addresses = Addresses::new(2, now);
        let first = addresses.enter(ip("192.0.2.1"), now).expect("room");
        let _second = addresses.enter(ip("::ffff:192.0.2.1"), now).expect("room");
        assert_eq!(addresses.enter(ip("192.0.2.1"), now).err(), Some(Full));
        assert!(addresses.enter(ip("192.0.2.2"), now).is_ok(), "another one is not in its way");
        drop(first);
        assert!(addresses.enter(ip("192.0.2.1"), now).is_ok());
    }

    #[test]
    fn all_addresses_of_one_network_of_ipv6_count_together() {
        let now = Instant::now();
        let addresses = Addresses::new(1, now);
        let _first = addresses.enter(ip("2001:db8::1"), now).expect("room");
        assert_eq!(addresses.enter(ip("2001:db8::ffff:2"), now).err(), Some(Full));
        assert!(addresses.enter(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn addresses_without_connections_are_forgotten_and_those_past_the_bound_are_let_in_uncounted() {
        let start = Instant::now();
        let addresses = Addresses::new(1, start);
        let nth = |n: usize| IpAddr::from(u32::try_from(n).expect("small").to_be_bytes());
        let kept: Vec<_> = (0..ADDRESSES_MAX).map(|n| addresses.enter(nth(n), start)).collect();
        assert!(addresses.enter(nth(ADDRESSES_MAX), start).is_ok_and(|place| place.0.is_none()));
        drop(kept);
        let later = start + SWEEP;
        assert!(addresses.enter(nth(ADDRESSES_MAX), later).is_ok_and(|place| place.0.is_some()));
        assert_eq!(addresses.open.borrow().len(), 1);
    }
}
