//! Latency buckets: bounds, order, and what a quantile read from them may be off by.

use proptest::prelude::*;

use super::{LATENCY_BUCKETS, latency_bucket, latency_bucket_us, latency_quantile_us};

/// Longest duration that has a bucket with a bound: the last but one.
fn bounded_us() -> u64 {
    latency_bucket_us(u16::try_from(LATENCY_BUCKETS - 2).unwrap())
}

#[test]
fn each_bucket_s_bound_lies_in_it_and_one_more_lies_in_the_next() {
    for index in 0..u16::try_from(LATENCY_BUCKETS - 1).unwrap() {
        let bound = latency_bucket_us(index);
        assert_eq!(latency_bucket(bound), index, "{bound} us");
        assert_eq!(latency_bucket(bound + 1), index + 1, "{} us", bound + 1);
    }
}

#[test]
fn bounds_grow_by_a_quarter_at_most() {
    for index in 1..u16::try_from(LATENCY_BUCKETS).unwrap() {
        let (before, bound) = (latency_bucket_us(index - 1), latency_bucket_us(index));
        assert!(before < bound && bound * 4 <= before * 5, "bucket {index}: {before} then {bound} us");
    }
}

#[test]
fn the_first_bucket_takes_what_is_shorter_and_the_last_what_is_longer() {
    assert_eq!(latency_bucket(0), 0);
    assert_eq!(latency_bucket(64), 0);
    assert_eq!(usize::from(latency_bucket(u64::MAX)), LATENCY_BUCKETS - 1);
    assert!(bounded_us() > 450_000_000, "buckets reach to minutes");
}

#[test]
fn a_histogram_without_requests_has_no_quantile() {
    assert_eq!(latency_quantile_us(&[], 0.5), 0);
    assert_eq!(latency_quantile_us(&[(3, 0)], 0.99), 0);
}

#[test]
fn counts_that_do_not_add_up_do_no_harm() {
    assert_eq!(latency_quantile_us(&[(1, u64::MAX), (2, u64::MAX)], 0.5), latency_bucket_us(1));
    assert!(latency_quantile_us(&[(u16::MAX, 1)], 0.5) > 0);
}

proptest! {
    #[test]
    fn a_longer_duration_has_no_lower_bucket(a in any::<u64>(), b in any::<u64>()) {
        let (short, long) = (a.min(b), a.max(b));
        prop_assert!(latency_bucket(short) <= latency_bucket(long));
    }

    #[test]
    fn a_duration_is_at_most_its_bucket_s_bound_and_above_four_fifths_of_it(us in 65..600_000_000_u64) {
        prop_assume!(us <= bounded_us());
        let bound = latency_bucket_us(latency_bucket(us));
        prop_assert!(us <= bound && bound * 4 < us * 5 + 4, "{} in a bucket to {}", us, bound);
    }

    #[test]
    fn a_quantile_is_never_too_low_and_at_most_a_quarter_too_high(mut durations in prop::collection::vec(65..500_000_000_u64, 1..200), q in 0.0..=1.0_f64) {
        let mut counts = std::collections::BTreeMap::new();
        for &us in &durations {
            *counts.entry(latency_bucket(us)).or_insert(0) += 1;
        }
        let buckets: Vec<(u16, u64)> = counts.into_iter().collect();
        durations.sort_unstable();
        // The rank by counting up, apart from the arithmetic under test.
        let count = u32::try_from(durations.len()).unwrap();
        let rank = (1..=count).find(|&rank| f64::from(rank) >= f64::from(count) * q).unwrap();
        let exact = durations[rank as usize - 1];
        let read = latency_quantile_us(&buckets, q);
        prop_assert!(exact <= read && read * 4 < exact * 5 + 4, "{} read as {}", exact, read);
    }
}
