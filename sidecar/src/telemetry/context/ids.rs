//! Trace and span ids: random, never 0.

use std::cell::RefCell;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

thread_local! {
    /// One for each shard, seeded by the system: an id must be unlikely to collide, not hard to guess.
    static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::from_os_rng());
}

pub(super) fn trace_id() -> u128 {
    RANDOM.with_borrow_mut(|random| random.random::<u128>().max(1))
}

pub(super) fn span_id() -> u64 {
    RANDOM.with_borrow_mut(|random| random.random::<u64>().max(1))
}
