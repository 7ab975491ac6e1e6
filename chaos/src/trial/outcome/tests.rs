use std::time::Duration;

use super::{Bar, LAG_P99_MAX, Outcome, Run, percent, time};
use crate::trial::Trial;
use crate::trial::plot::Panel;
use crate::trial::system::System;

fn run(system: System, met: bool, lag_p99: Option<Duration>) -> Run {
    Run {
        system,
        bars: vec![Bar::new("it holds", "yes", if met { "yes" } else { "no" }, met)],
        figures: vec![("goodput".to_owned(), "1|2".to_owned())],
        lines: vec![vec![(0.0, 1.0), (1.0, 2.0)]],
        lag_p99,
    }
}

fn outcome(runs: Vec<Run>) -> Outcome {
    Outcome {
        trial: Trial::RetryStorm,
        seed: 7,
        shortened: Some("0.1 of the time".to_owned()),
        runs,
        skipped: vec![(System::Envoy, "there is none".to_owned())],
        envoy: None,
        panels: vec![Panel::new("Goodput", "seconds", "a second")],
        made: "2026-01-01T00:00:00Z".to_owned(),
        cores: 2,
    }
}

#[test]
fn bars_are_judged_at_their_edges() {
    let second = Duration::from_secs(1);
    assert!(Bar::within("x", second, Some(second)).met);
    assert!(!Bar::within("x", second, Some(second + Duration::from_millis(1))).met);
    let never = Bar::within("x", second, None);
    assert_eq!((never.met, never.got.as_str()), (false, "never"));
    assert!(Bar::at_least("x", 0.95, Some(0.95)).met);
    assert!(!Bar::at_least("x", 0.95, Some(0.9499)).met);
    assert!(!Bar::at_least("x", 0.95, None).met);
}

#[test]
fn a_share_is_never_rounded_up_to_its_goal() {
    assert_eq!(percent(0.99949), "99.9 %");
    assert_eq!(percent(0.9996), "99.9 %");
    assert_eq!(percent(0.999), "99.9 %");
    assert_eq!(percent(1.0), "100.0 %");
    assert_eq!(
        (time(Duration::from_millis(12)), time(Duration::from_millis(1_250))),
        ("12.0 ms".into(), "1.2 s".into())
    );
}

#[test]
fn the_last_line_is_ours_and_has_what_is_promised() {
    let fine = Some(Duration::from_millis(2));
    let outcome = outcome(vec![run(System::Ours, true, fine), run(System::Unprotected, true, fine)]);
    let lines: Vec<_> = outcome
        .lines()
        .iter()
        .map(|line| serde_json::to_value(line).expect("a line is plain values"))
        .collect();
    assert_eq!(lines[0]["system"], "unprotected");
    let last = lines.last().expect("two systems");
    assert_eq!((last["name"].as_str(), last["seed"].as_u64()), (Some("retry-storm"), Some(7)));
    assert_eq!(last["system"], "ours");
    for key in ["what", "goal", "got", "met"] {
        assert!(!last["bars"][0][key].is_null(), "{key}");
    }
}

#[test]
fn only_what_ours_misses_or_what_shows_nothing_is_a_trouble() {
    let fine = Some(LAG_P99_MAX);
    let all = |system, met, lag| outcome(vec![run(system, met, lag)]).troubles();
    assert!(all(System::Ours, true, fine).is_empty());
    assert!(all(System::Envoy, false, fine).is_empty(), "another's miss is a finding, not a failure");
    assert_eq!(all(System::Ours, false, fine), ["ours: it holds: no, not yes"]);
    assert_eq!(all(System::Unprotected, false, fine).len(), 1, "there was nothing to prevent");
    assert_eq!(all(System::Envoy, true, Some(LAG_P99_MAX * 2)).len(), 1);
    assert_eq!(all(System::Ours, true, None).len(), 1);
}
