//! Waiting, renewing, and which snapshot may come into force.

use std::time::Duration;

use outrider_shared::snapshot::Version;
use proptest::prelude::*;
use rustls_pki_types::UnixTime;

use crate::session::backoff::Backoff;
use crate::session::gate::{Gate, Mark, Refusal, Verdict};
use crate::session::renewal::Life;

fn at(unix_s: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(unix_s))
}

const DAY: Life = Life {
    not_before: UnixTime::since_unix_epoch(Duration::from_secs(1_000_000)),
    not_after: UnixTime::since_unix_epoch(Duration::from_secs(1_086_400)),
};

#[test]
fn waits_grow_to_their_bound_and_begin_anew_after_a_success() {
    let (base, max) = (Duration::from_millis(100), Duration::from_secs(10));
    let mut backoff = Backoff::new(base, max);
    let longest: Vec<_> = (0..9).map(|_| backoff.after_failure(1.0).as_millis()).collect();
    assert_eq!(longest, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
    assert_eq!(backoff.after_failure(0.0), base);
    backoff.reset();
    assert_eq!(backoff.after_failure(1.0), base * 2);
}

proptest! {
    #[test]
    fn a_wait_is_never_below_its_base_or_above_its_bound(units in prop::collection::vec(0.0..1.0_f64, 1..100)) {
        let (base, max) = (Duration::from_millis(200), Duration::from_secs(30));
        let mut backoff = Backoff::new(base, max);
        for unit in units {
            let wait = backoff.after_failure(unit);
            prop_assert!(base <= wait && wait <= max, "{wait:?}");
        }
    }

    #[test]
    fn a_leaf_is_renewed_between_two_and_three_fifths_of_its_life(unit in 0.0..1.0_f64) {
        let wait_s = DAY.until_renewal(unit, DAY.not_before).as_secs();
        prop_assert!((34_560..=51_840).contains(&wait_s), "{wait_s} s");
    }

    #[test]
    fn the_version_in_force_never_decreases(offers in prop::collection::vec((0..3_u64, 0..4_u64, "[ab]"), 0..40)) {
        let mut gate = Gate::default();
        for (epoch, sequence, hash) in offers {
            let offered = Mark { version: Version { epoch, sequence }, hash };
            let before = gate.in_force();
            if gate.judge(&offered) == Verdict::Take {
                gate.took(offered);
            }
            prop_assert!(before <= gate.in_force());
        }
    }
}

#[test]
fn renewal_is_due_at_half_of_life_and_at_once_when_that_is_past() {
    assert_eq!(DAY.until_renewal(0.5, at(1_000_000)).as_secs(), 43_200);
    assert_eq!(DAY.until_renewal(0.5, at(1_043_200)), Duration::ZERO);
    assert_eq!(DAY.until_renewal(0.5, at(9_000_000)), Duration::ZERO);
}

#[test]
fn a_clock_before_the_leaf_s_begin_only_waits_longer() {
    assert_eq!(DAY.until_renewal(0.5, at(999_000)).as_secs(), 44_200);
}

#[test]
fn a_session_leaves_its_leaf_before_it_expires_and_after_it_could_be_renewed() {
    assert_eq!(DAY.until_leaving(at(1_000_000)).as_secs(), 77_760);
    assert!(!DAY.expired(at(1_086_400)));
    assert!(DAY.expired(at(1_086_401)));
}

#[test]
fn a_leaf_without_a_life_is_due_at_once() {
    let none = Life { not_before: at(5), not_after: at(4) };
    assert_eq!(none.until_renewal(0.5, at(5)), Duration::ZERO);
}

fn mark(epoch: u64, sequence: u64, hash: &str) -> Mark {
    Mark { version: Version { epoch, sequence }, hash: hash.to_owned() }
}

#[test]
fn a_newer_snapshot_is_taken_and_an_older_one_refused() {
    let mut gate = Gate::default();
    assert_eq!(gate.judge(&mark(1, 5, "a")), Verdict::Take);
    gate.took(mark(1, 5, "a"));
    assert_eq!(gate.judge(&mark(1, 6, "b")), Verdict::Take);
    assert_eq!(gate.judge(&mark(2, 1, "b")), Verdict::Take);
    let older = Refusal::Older { got: mark(1, 4, "").version, seen: mark(1, 5, "").version };
    assert_eq!(gate.judge(&mark(1, 4, "a")), Verdict::Refuse(older));
}

#[test]
fn the_same_snapshot_is_had_already_and_another_of_its_version_is_refused() {
    let mut gate = Gate::default();
    gate.took(mark(1, 5, "a"));
    assert_eq!(gate.judge(&mark(1, 5, "a")), Verdict::Have);
    let changed = Refusal::Changed { version: mark(1, 5, "").version };
    assert_eq!(gate.judge(&mark(1, 5, "b")), Verdict::Refuse(changed));
}

#[test]
fn a_restarted_sidecar_takes_the_newest_it_has_seen_and_nothing_older() {
    let gate = Gate::new(Some(mark(1, 5, "a")));
    assert_eq!(gate.in_force(), None);
    assert_eq!(gate.judge(&mark(1, 5, "a")), Verdict::Take);
    assert!(matches!(gate.judge(&mark(1, 4, "a")), Verdict::Refuse(_)));
    assert!(matches!(gate.judge(&mark(1, 5, "b")), Verdict::Refuse(_)));
}
