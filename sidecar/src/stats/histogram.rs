//! Durations, in the buckets that reports carry.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outrider_shared::session::{LATENCY_BUCKETS, latency_bucket};

use super::{AnswerClass, Counter};

/// Durations of one kind on one shard; one writer, as [`Counter`].
#[derive(Debug)]
pub struct LatencyHistogram {
    /// Orders series by when they began, so that what folds past a bound does not change between two scrapes.
    sequence: u64,
    buckets: [Counter; LATENCY_BUCKETS],
    sum_us: Counter,
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            sequence: NEXT.fetch_add(1, Ordering::Relaxed),
            buckets: std::array::from_fn(|_| Counter::default()),
            sum_us: Counter::default(),
        }
    }
}

impl LatencyHistogram {
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[usize::from(latency_bucket(us))].increment();
        self.sum_us.add(us);
    }
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
    /// Of each bucket, in order. From any thread.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::get)
    }
    pub fn sum_us(&self) -> u64 {
        self.sum_us.get()
    }
}

/// A histogram for each way in which a request can end, made when the first one ends so: most peers see two of the seven.
#[derive(Debug, Default)]
pub struct ClassHistograms([OnceLock<Box<LatencyHistogram>>; AnswerClass::ALL.len()]);

impl ClassHistograms {
    pub fn observe(&self, class: AnswerClass, duration: Duration) {
        self.0[class.index()].get_or_init(Box::default).observe(duration);
    }
    /// Those that exist. From any thread.
    pub fn each(&self) -> impl Iterator<Item = (AnswerClass, &LatencyHistogram)> {
        AnswerClass::ALL.into_iter().filter_map(|class| Some((class, &**self.0[class.index()].get()?)))
    }
}
