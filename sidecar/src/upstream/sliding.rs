//! Sums over a sliding time, in a fixed number of buckets.
//!
//! A bucket is one stretch of a fixed grid of time. What is asked for decides which buckets belong to it, by where they
//! begin and end: whoever must not count too little asks otherwise than whoever must not count too much.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

/// Narrower buckets than this tell nothing apart: digests come each 50 ms.
const WIDTH_MIN: Duration = Duration::from_millis(1);

#[derive(Debug, Clone)]
pub struct Sliding<T> {
    /// The grid's begin; what was before it is not counted.
    origin: Instant,
    width: Duration,
    /// Bucket `n` of the grid lies at `n` modulo the length, or has been overwritten by a later one.
    buckets: Box<[Bucket<T>]>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket<T> {
    /// In the grid.
    number: u64,
    sum: T,
}

impl<T: AddAssign + Copy + Default> Sliding<T> {
    /// Remembers at least `span`, in buckets of a `parts`th of it.
    pub fn new(span: Duration, parts: u32, origin: Instant) -> Self {
        let width = (span / parts.max(1)).max(WIDTH_MIN);
        // One more, since a span that does not begin with a bucket touches one more.
        let length = usize::try_from(parts.max(1)).expect("a u32 fits") + 1;
        let buckets = (0..length as u64).map(|number| Bucket { number, sum: T::default() }).collect();
        Self { origin, width, buckets }
    }

    pub fn width(&self) -> Duration {
        self.width
    }

    /// Adds what happened at `at`. Older than what is remembered: it is not counted.
    pub fn add(&mut self, what: T, at: Instant) {
        let Some(since) = at.checked_duration_since(self.origin) else { return };
        let number = since.as_nanos() / self.width.as_nanos();
        let number = u64::try_from(number).expect("584 years of buckets of a millisecond");
        let index = number % self.buckets.len() as u64;
        let bucket = &mut self.buckets[usize::try_from(index).expect("below the length")];
        if bucket.number < number {
            *bucket = Bucket { number, sum: T::default() };
        }
        if bucket.number == number {
            bucket.sum += what;
        }
    }

    /// The sum of the buckets whose begin (inclusive) and end (exclusive) are wanted.
    pub fn sum(&self, wanted: impl Fn(Instant, Instant) -> bool) -> T {
        let mut sum = T::default();
        for bucket in &self.buckets {
            let nanos = self.width.as_nanos().saturating_mul(u128::from(bucket.number));
            let begin = self.origin + Duration::from_nanos_u128(nanos);
            if wanted(begin, begin + self.width) {
                sum += bucket.sum;
            }
        }
        sum
    }
}
