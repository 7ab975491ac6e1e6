//! What is past a bound, and what is not.

use super::*;

fn request(target: &str, fields: usize) -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = target.parse().unwrap();
    for n in 0..fields {
        request.headers_mut().append("x-field", n.into());
    }
    request
}

#[test]
fn a_head_is_judged_by_its_fields_and_its_target() {
    let limits = Limits::default().of_outside();
    assert_eq!(limits.judge(&request("/", 100)), Ok(()));
    assert_eq!(limits.judge(&request("/", 101)), Err(Malformed::TooManyFields { limit: 100 }));
    let target = format!("/{}", "a".repeat(16 << 10));
    assert_eq!(limits.judge(&request(&target[..16 << 10], 0)), Ok(()));
    assert_eq!(limits.judge(&request(&target, 0)), Err(Malformed::TargetTooLong { limit: 16 << 10 }));
}

#[test]
fn those_who_have_proved_more_are_given_more() {
    let limits = Limits::default();
    assert_eq!(
        (limits.of_outside().streams, limits.of_app().streams, limits.of_peer().streams),
        (128, 1_024, 1_024)
    );
    assert_eq!(limits.of_outside().resets_per_second, Some(200));
    assert_eq!((limits.of_app().resets_per_second, limits.of_peer().resets_per_second), (None, None));
    assert_eq!((limits.of_app().head.fields, limits.of_peer().head.fields), (100, 200));
    assert!(limits.of_peer().idle_time > limits.of_app().idle_time);
}

#[test]
fn a_seconds_worth_of_resets_may_come_at_once_and_is_given_back_as_time_passes() {
    let start = Instant::now();
    let meter = ResetMeter::new(Some(10), start);
    for _ in 0..10 {
        meter.count(start);
    }
    assert!(!meter.is_over());
    meter.count(start);
    assert!(meter.is_over());

    let meter = ResetMeter::new(Some(10), start);
    // At the rate itself, for as long as one likes.
    for n in 0..1_000_u32 {
        meter.count(start + Duration::from_millis(100) * n);
        assert!(!meter.is_over(), "{n}");
    }
    // Time that goes back gives nothing.
    for _ in 0..12 {
        meter.count(start);
    }
    assert!(meter.is_over());
}

#[test]
fn who_has_no_bound_is_never_over_it() {
    let meter = ResetMeter::new(None, Instant::now());
    for _ in 0..100_000 {
        meter.count(Instant::now());
    }
    assert!(!meter.is_over());
}
