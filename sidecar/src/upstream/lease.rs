//! Permits of one upstream, leased to shards.
//!
//! Each shard's idle permits lie in an atomic on a cache line of its own, which only that shard touches on an ordinary
//! request. The actor may take permits back from it by compare-and-swap, so that no shard idles on permits while
//! another has none. The sum of idle and spent permits never exceeds the limit, whoever interleaves.

use std::sync::atomic::{AtomicU32, Ordering};

use crossbeam_utils::CachePadded;

/// How many permits a shard is given at most when it asks: enough to spare it the next question for a while.
const GRANT_MAX: u32 = 32;

#[derive(Debug)]
pub struct Leases {
    limit: u32,
    idle: Box<[CachePadded<AtomicU32>]>,
}

impl Leases {
    /// Gives `limit` permits out evenly to `shards`.
    pub fn new(limit: u32, shards: usize) -> Self {
        let count = u32::try_from(shards).expect("as many shards as cores").max(1);
        let idle = (0..count)
            .map(|shard| CachePadded::new(AtomicU32::new(limit / count + u32::from(shard < limit % count))))
            .collect();
        Self { limit, idle }
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Takes one of the shard's idle permits.
    pub fn take(&self, shard: usize) -> bool {
        self.idle[shard]
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |idle| idle.checked_sub(1))
            .is_ok()
    }

    /// Gives one back, to the shard that it was taken from.
    pub fn give_back(&self, shard: usize) {
        self.idle[shard].fetch_add(1, Ordering::Release);
    }

    /// Moves idle permits from other shards to `shard`, half of what the richest has. Only the actor calls it. Returns
    /// how many were moved; none: all permits are spent.
    pub fn rebalance(&self, shard: usize) -> u32 {
        let richest = (0..self.idle.len())
            .filter(|&other| other != shard)
            .max_by_key(|&other| self.idle[other].load(Ordering::Relaxed));
        let Some(richest) = richest else { return 0 };
        let taken = self.idle[richest].fetch_update(Ordering::AcqRel, Ordering::Relaxed, |idle| {
            let part = idle.div_ceil(2).min(GRANT_MAX);
            (part > 0).then(|| idle - part)
        });
        let Ok(before) = taken else { return 0 };
        let moved = before.div_ceil(2).min(GRANT_MAX);
        self.idle[shard].fetch_add(moved, Ordering::Release);
        moved
    }

    /// Idle permits by shard. Read one after the other, so the sum may be off while requests come and go.
    pub fn idle(&self) -> Vec<u32> {
        self.idle.iter().map(|idle| idle.load(Ordering::Relaxed)).collect()
    }

    /// Permits that are spent.
    pub fn in_use(&self) -> u32 {
        self.limit.saturating_sub(self.idle().iter().sum())
    }
}
