//! Who has to wait, for how long, and that the table stays within its bound.

use super::*;

fn source(n: u32) -> IpAddr {
    IpAddr::V4(n.into())
}

#[test]
fn a_source_that_was_refused_too_often_waits_until_one_refusal_is_forgiven() {
    let now = Instant::now();
    let mut throttle = Throttle::default();
    for _ in 0..REFUSALS_MAX {
        throttle.refused(source(1), now);
        assert_eq!(throttle.wait(source(1), now), None);
    }
    throttle.refused(source(1), now);
    assert_eq!(throttle.wait(source(1), now), Some(FORGIVEN_AFTER));
    assert_eq!(throttle.wait(source(1), now + FORGIVEN_AFTER), None);
    assert_eq!(throttle.wait(source(2), now), None);
}

#[test]
fn refusals_that_are_rarer_than_they_are_forgiven_never_add_up() {
    let mut now = Instant::now();
    let mut throttle = Throttle::default();
    for _ in 0..10 * REFUSALS_MAX {
        throttle.refused(source(1), now);
        assert_eq!(throttle.wait(source(1), now), None);
        now += FORGIVEN_AFTER;
    }
}

#[test]
fn addresses_of_one_host_count_together() {
    let now = Instant::now();
    let mut throttle = Throttle::default();
    for n in 0..=REFUSALS_MAX {
        throttle.refused(format!("2001:db8:1:2::{n:x}").parse().unwrap(), now);
    }
    assert!(throttle.wait("2001:db8:1:2:ffff::1".parse().unwrap(), now).is_some());
    assert!(throttle.wait("2001:db8:1:3::1".parse().unwrap(), now).is_none());
    // IPv4 in IPv6's clothes is IPv4.
    for _ in 0..=REFUSALS_MAX {
        throttle.refused("::ffff:192.0.2.1".parse().unwrap(), now);
    }
    assert!(throttle.wait("192.0.2.1".parse().unwrap(), now).is_some());
    assert!(throttle.wait("::ffff:192.0.2.2".parse().unwrap(), now).is_none());
}

#[test]
fn sources_without_end_do_not_grow_the_table_and_do_not_free_the_worst() {
    let now = Instant::now();
    let mut throttle = Throttle::default();
    for _ in 0..2 * REFUSALS_MAX {
        throttle.refused(source(0), now);
    }
    for n in 1..3 * u32::try_from(SOURCES_MAX).unwrap() {
        throttle.refused(source(n), now);
        assert!(throttle.0.len() <= SOURCES_MAX);
    }
    assert!(throttle.wait(source(0), now).is_some());
    // All of them are forgiven, and make room at once.
    let later = now + FORGIVEN_AFTER * 3 * REFUSALS_MAX;
    throttle.refused(source(1), later);
    throttle.refused(source(u32::MAX), later);
    assert_eq!(throttle.0.len(), 2);
}
