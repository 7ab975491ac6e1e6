use super::{Palette, bytes, microseconds, milliseconds, percent, principal, remaining, short};

#[test]
fn a_share_is_rounded_down_so_that_one_failure_shows() {
    assert_eq!(percent(Some(1.0)), "100 %");
    assert_eq!(percent(Some(0.999_9)), "99.9 %");
    assert_eq!(percent(Some(0.0)), "0.0 %");
    assert_eq!(percent(None), "-");
}

#[test]
fn durations_have_two_units_at_most() {
    for (seconds, text) in
        [(59, "59s"), (61, "1m 1s"), (3_600, "1h 0m"), (86_399, "23h 59m"), (90_000, "1d 1h"), (0, "expired")]
    {
        assert_eq!(remaining(Some(seconds)), text);
    }
    assert_eq!(remaining(Some(-5)), "expired");
    assert_eq!(remaining(None), "-");
}

#[test]
fn small_latencies_keep_a_digit_after_the_point() {
    assert_eq!(milliseconds(Some(0.42)), "0.4 ms");
    assert_eq!(milliseconds(Some(123.4)), "123 ms");
    assert_eq!(microseconds(1_500), "1.5 ms");
    assert_eq!(microseconds(0), "-");
}

#[test]
fn bytes_have_the_unit_that_keeps_them_short() {
    for (count, text) in [
        (0, "0 B"),
        (1_023, "1023 B"),
        (1_024, "1.0 KiB"),
        (1_536, "1.5 KiB"),
        (5 << 30, "5.0 GiB"),
        (u64::MAX, "16777216.0 TiB"),
    ] {
        assert_eq!(bytes(count), text);
    }
}

#[test]
fn a_principal_is_named_as_people_do() {
    assert_eq!(principal("spiffe://shop.local/ns/shop/sa/frontend"), "frontend");
    assert_eq!(principal("external"), "external");
}

#[test]
fn short_ids_do_not_cut_a_character() {
    assert_eq!(short("0123456789"), "01234567");
    assert_eq!(short("abc"), "abc");
    assert_eq!(short("äöüäöüäöü"), "äöüä");
}

#[test]
fn without_colour_a_cell_is_its_text() {
    let mut table = super::table(Palette::Plain, &["one"]);
    table.add_row([Palette::Plain.bad("broken")]);
    table.enforce_styling();
    assert!(!table.to_string().contains('\x1b'), "{table}");
    let mut table = super::table(Palette::Colour, &["one"]);
    table.add_row([Palette::Colour.bad("broken")]);
    table.enforce_styling();
    assert!(table.to_string().contains('\x1b'), "{table}");
}
