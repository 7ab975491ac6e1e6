//! Numbers with one writer and any number of readers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A count that only grows.
///
/// One thread writes it, so adding is a load and a store, without the lock prefix that `fetch_add` costs. Two writers
/// would be safe, but would lose each other's additions.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
    pub fn increment(&self) {
        self.add(1);
    }
    /// From any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are now; one writer, as [`Counter`].
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
    }
    pub fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
    /// Stays at 0 rather than wrapping: a gauge that is off by one must not read 18 quintillion.
    pub fn decrement(&self) {
        let now = self.0.load(Ordering::Relaxed);
        debug_assert!(now > 0, "something ended that never began");
        self.0.store(now.saturating_sub(1), Ordering::Relaxed);
    }
    /// From any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
