use std::time::Duration;

use super::{Check, Event, Report, Tolerated, Verdict, failures};
use crate::load::Sample;
use crate::scenario::Scenario;

fn sample(due_ms: u64, failure: Option<&str>) -> Sample {
    Sample {
        due: Duration::from_millis(due_ms),
        took: Duration::from_millis(7),
        failure: failure.map(str::to_owned),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_met_the_fault_may_fail_and_nothing_else() {
    // Each takes 7 ms; the fault comes at 1 s.
    let verdicts = |due: u64| {
        let samples = [sample(due, Some("no")), sample(3_000, None)];
        let checks = failures(&samples, SECOND, Tolerated::UnderWay);
        checks.iter().map(|check| check.verdict).collect::<Vec<_>>()
    };
    let (held, broken) = (vec![Verdict::Held; 2], vec![Verdict::Broken; 2]);
    assert_eq!(verdicts(995), held, "under way at the fault");
    assert_eq!(verdicts(1_200), held, "sent before it was seen");
    assert_eq!(verdicts(1_201), broken, "sent afterwards");
    assert_eq!(verdicts(990), broken, "over before the fault");
}

#[test]
fn where_nothing_may_fail_one_failure_is_too_many() {
    let verdict = |failure| failures(&[sample(1_000, failure)], SECOND, Tolerated::Nothing)[0].verdict;
    assert_eq!((verdict(None), verdict(Some("no"))), (Verdict::Held, Verdict::Broken));
}

#[test]
fn what_never_came_is_broken_and_says_why() {
    let check = Check::within("it is back".to_owned(), SECOND, Err("not seen".to_owned()));
    assert_eq!((check.verdict, check.observed.as_str()), (Verdict::Broken, "not seen"));
    assert_eq!(Check::within("it".to_owned(), SECOND, Ok(SECOND * 2)).verdict, Verdict::Broken);
    assert_eq!(Check::within("it".to_owned(), SECOND, Ok(SECOND)).verdict, Verdict::Held);
}

fn report() -> Report {
    let samples: Vec<_> = (0..15)
        .map(|n| sample(n * 100, (n == 12).then_some("POST: a|b")))
        .chain([sample(1_250, None)])
        .collect();
    let mut samples = samples;
    samples.sort_by_key(|sample| sample.due);
    let events = vec![Event { at: SECOND, what: "orders-1 killed".to_owned() }];
    let checks = failures(&samples, SECOND, Tolerated::Nothing);
    Report::new(Scenario::EndpointKilled, 10, events, checks, &samples)
}

#[test]
fn one_broken_check_breaks_the_report() {
    let report = report();
    assert_eq!(report.verdict, Verdict::Broken);
    assert_eq!(report.failures.get("POST: a|b"), Some(&1));
}

#[test]
fn the_document_shows_hypothesis_bound_and_every_tenth_of_a_second() {
    let text = report().markdown();
    assert!(text.starts_with("# endpoint-killed: broken\n"), "{text}");
    assert!(text.contains("Hypothesis: When an instance vanishes"), "{text}");
    assert!(text.contains("| requests that failed | none | 1 of 16 | broken |"), "{text}");
    assert!(text.contains("| 1.0 s | orders-1 killed |"), "{text}");
    assert!(text.contains("| 1 | POST: a\\|b |"), "{text}");
    assert!(text.contains("     0  ##########        10       0     7 ms\n"), "{text}");
    assert!(text.contains("     1  ##+##              6       1     7 ms\n"), "{text}");
}

#[test]
fn a_tenth_without_requests_and_one_without_success_look_different() {
    let samples = [sample(0, Some("no")), sample(200, None)];
    let report = Report::new(Scenario::SidecarKilled, 1, Vec::new(), Vec::new(), &samples);
    assert!(report.markdown().contains("     0  !.# "), "{}", report.markdown());
}

#[test]
fn times_in_json_are_milliseconds() {
    let json = serde_json::to_value(report()).expect("a report is plain values");
    assert_eq!(json["events"][0]["at_ms"], 1_000);
    assert_eq!(json["timeline"][0]["slowest_ms"], 7);
    assert_eq!(json["verdict"], "broken");
}

#[test]
fn every_scenario_is_found_by_its_name_and_no_other() {
    for scenario in Scenario::ALL {
        assert_eq!(scenario.name().parse(), Ok(scenario));
    }
    let error = "endpoint".parse::<Scenario>().expect_err("no scenario has that name").to_string();
    assert!(error.contains("endpoint-killed, sidecar-killed, control-plane-down"), "{error}");
}
