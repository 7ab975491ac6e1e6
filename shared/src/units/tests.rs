//! Durations and fractions as policy writes them.

use std::time::Duration;

use proptest::prelude::*;

use super::{Fraction, GepDuration};

#[test]
fn a_duration_is_one_to_four_counts_with_units() {
    for (text, ms) in [
        ("1h", 3_600_000),
        ("1m", 60_000),
        ("10s", 10_000),
        ("250ms", 250),
        ("1h30m", 5_400_000),
        ("1h2m3s4ms", 3_723_004),
        ("0s", 0),
        ("99999h", 359_996_400_000),
        ("1m1m", 120_000),
    ] {
        let duration: GepDuration = text.parse().unwrap();
        assert_eq!(duration.get(), Duration::from_millis(ms), "{text}");
    }
}

#[test]
fn anything_else_is_no_duration() {
    for text in [
        "",
        "1",
        "s",
        "1d",
        "-1s",
        "+1s",
        "1.5s",
        "1 s",
        " 1s",
        "1s ",
        "1S",
        "100000s",
        "1h1m1s1ms1s",
        "1us",
        "١s",
    ] {
        assert!(text.parse::<GepDuration>().is_err(), "{text:?}");
    }
}

#[test]
fn a_refused_duration_is_quoted_and_not_at_length() {
    let refusal = "x".repeat(1_000).parse::<GepDuration>().unwrap_err();
    assert_eq!(refusal.given.len(), 40);
}

#[test]
fn fractions_are_between_nothing_and_all() {
    let ratio = |numerator, denominator| Fraction { numerator, denominator }.ratio();
    assert!((ratio(1, 4) - 0.25).abs() < f64::EPSILON);
    assert!((ratio(3, 2) - 1.0).abs() < f64::EPSILON);
    assert!(ratio(1, 0).abs() < f64::EPSILON);
    assert!(Fraction::NONE.ratio().abs() < f64::EPSILON);
}

#[test]
fn parts_may_add_up_to_what_can_be_written_and_to_no_more() {
    let most = "99999h59m59s999ms";
    assert_eq!(most.parse::<GepDuration>().unwrap().to_string(), most);
    for beyond in ["40000h60000h", "99999h60m", "99999h59m59s1000ms", "99999h99999h99999h99999h"] {
        assert!(beyond.parse::<GepDuration>().is_err(), "{beyond}");
    }
}

proptest! {
    #[test]
    fn a_duration_written_is_the_duration_read(ms in 0..99_999_u32 * 3_600) {
        let duration = GepDuration::from_millis(ms);
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([0-9]{0,6}(h|m|s|ms)?){0,6}\\PC?") {
        if let Ok(duration) = text.parse::<GepDuration>() {
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
