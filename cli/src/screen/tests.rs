use super::{Redraw, Screen, reader_went_away};

fn drawn(terminal: bool, redraw: Redraw) -> String {
    let mut screen = Screen { out: Vec::new(), terminal, drawn: 0 };
    screen.draw("one\ntwo", redraw).unwrap();
    screen.draw("three\n", redraw).unwrap();
    String::from_utf8(screen.out).unwrap()
}

#[test]
fn without_a_terminal_nothing_is_escaped_and_nothing_overwritten() {
    assert_eq!(drawn(false, Redraw::InPlace), "one\ntwo\nthree\n");
    assert_eq!(drawn(false, Redraw::WholeScreen), "one\ntwo\nthree\n");
}

#[test]
fn on_a_terminal_a_table_goes_over_the_lines_of_the_last_one() {
    assert_eq!(drawn(true, Redraw::InPlace), "one\ntwo\n\x1b[2F\x1b[Jthree\n");
}

#[test]
fn on_a_terminal_a_watch_begins_at_the_top_of_an_empty_screen() {
    assert_eq!(drawn(true, Redraw::WholeScreen), "\x1b[H\x1b[Jone\ntwo\n\x1b[H\x1b[Jthree\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let gone = anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("printing");
    assert!(reader_went_away(&gone));
    let other = anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::NotFound)).context("printing");
    assert!(!reader_went_away(&other));
}
