//! Sentences about the wait before a retry.

use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn before(retry: u32) -> Before {
    Before { retry, first: 25 * MS, retry_after: None, left: None }
}

fn fields(value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))])
}

#[test]
fn the_ceiling_doubles_and_stops_at_ten_times_the_first() {
    let ceilings: Vec<Duration> = (1..8).map(|retry| wait(&before(retry), 1.0).unwrap()).collect();
    assert_eq!(ceilings, [25, 50, 100, 200, 250, 250, 250].map(|ms| ms * MS));
    assert_eq!(wait(&before(u32::MAX), 1.0), Ok(250 * MS));
    assert_eq!(wait(&before(0), 1.0), Ok(25 * MS));
}

#[test]
fn a_wait_is_drawn_from_nothing_to_the_ceiling() {
    assert_eq!(wait(&before(2), 0.0), Ok(Duration::ZERO));
    assert_eq!(wait(&before(2), 0.5), Ok(25 * MS));
}

#[test]
fn a_retry_that_would_begin_after_the_deadline_is_none() {
    let late = Before { left: Some(25 * MS), ..before(1) };
    assert_eq!(wait(&late, 0.9), Ok(Duration::from_micros(22_500)));
    assert_eq!(wait(&late, 1.0), Err(TooLate::Backoff { wait: 25 * MS, left: 25 * MS }));
}

#[test]
fn what_the_far_side_asks_for_is_waited_for_unless_it_lies_beyond_the_deadline() {
    let asked =
        |left_ms: u32| Before { retry_after: Some(1_000 * MS), left: Some(left_ms * MS), ..before(1) };
    assert_eq!(wait(&asked(2_000), 0.4), Ok(1_010 * MS));
    assert_eq!(wait(&asked(1_005), 0.4), Ok(1_000 * MS), "the jitter gives way");
    let refused = TooLate::RetryAfter { asked: 1_000 * MS, left: 1_000 * MS };
    assert_eq!(wait(&asked(1_000), 0.4), Err(refused));
}

#[test]
fn without_a_deadline_nobody_waits_longer_than_half_a_minute_on_the_far_sides_word() {
    let asked = |seconds| Before { retry_after: Some(Duration::from_secs(seconds)), ..before(1) };
    assert_eq!(wait(&asked(30), 0.0), Ok(Duration::from_secs(30)));
    assert!(matches!(wait(&asked(31), 0.0), Err(TooLate::RetryAfter { .. })));
    let patient =
        Before { first: Duration::from_mins(1), retry_after: Some(Duration::from_mins(1)), ..before(9) };
    assert_eq!(wait(&patient, 1.0), Ok(Duration::from_mins(11)), "policy's own waits are its own affair");
    let asked = Before { retry_after: Some(Duration::from_mins(2)), ..patient };
    assert!(matches!(wait(&asked, 0.0), Err(TooLate::RetryAfter { .. })));
}

#[test]
fn a_date_is_by_the_clock_of_whoever_wrote_it() {
    // Theirs is five minutes ahead of ours.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_477);
    let mut fields = fields("Sun, 06 Nov 1994 08:49:47 GMT");
    assert_eq!(retry_after(&fields, now), Some(Duration::from_secs(310)));
    fields.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert_eq!(retry_after(&fields, now), Some(Duration::from_secs(10)));
}

#[test]
fn retry_after_is_seconds_or_any_of_the_three_dates() {
    // Sun, 06 Nov 1994 08:49:07 GMT: half a minute before the dates below.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_747);
    let read = |value| retry_after(&fields(value), now);
    assert_eq!(read("125"), Some(Duration::from_secs(125)));
    assert_eq!(read(" 0 "), Some(Duration::ZERO));
    for date in
        ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
    {
        assert_eq!(read(date), Some(Duration::from_secs(30)), "{date}");
    }
    assert_eq!(read("Sun, 06 Nov 1994 08:48:00 GMT"), Some(Duration::ZERO), "it is over");
    assert_eq!(read("99999999999999999999999"), Some(Duration::MAX));
    for unreadable in ["", "-1", "1.5", "+3", "soon", "1s"] {
        assert_eq!(read(unreadable), None, "{unreadable:?}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

proptest! {
    /// Never later than the deadline, never sooner than was asked for, never above the ceiling without being asked.
    #[test]
    fn a_wait_keeps_both_sides_word(
        retry: u32, first_ms in 0_u64..2_000, asked_ms in prop::option::of(0_u64..5_000),
        left_ms in prop::option::of(0_u64..5_000), unit in 0.0_f64..1.0,
    ) {
        let ms = Duration::from_millis;
        let before = Before {
            retry, first: ms(first_ms), retry_after: asked_ms.map(ms), left: left_ms.map(ms),
        };
        match wait(&before, unit) {
            Ok(wait) => {
                prop_assert!(before.left.is_none_or(|left| wait < left));
                prop_assert!(wait >= before.retry_after.unwrap_or_default());
                prop_assert!(wait <= before.retry_after.unwrap_or_default() + before.first * 10);
            }
            Err(TooLate::Backoff { wait, left }) => prop_assert!(wait >= left && before.retry_after.is_none()),
            Err(TooLate::RetryAfter { asked, left }) => prop_assert!(asked >= left),
        }
    }
}
