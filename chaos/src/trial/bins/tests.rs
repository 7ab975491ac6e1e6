use std::time::Duration;

use super::{BIN, Bins, quantile};
use crate::trial::traffic::{Ended, Sample};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn sample(due: Duration, ended: Ended, took: Duration) -> Sample {
    Sample { due, lag: Duration::ZERO, took, stream: 0, attempts: 1, ended }
}

/// Ten requests in each tenth of a second, of which `good` says how many are good.
fn bins(tenths: u32, good: impl Fn(u32) -> u32) -> Bins {
    let samples: Vec<_> = (0..tenths)
        .flat_map(|tenth| (0..10).map(move |number| (tenth, number)))
        .map(|(tenth, number)| {
            let ended = if number < good(tenth) { Ended::Answered(200) } else { Ended::TimedOut };
            sample(BIN * tenth + MS * number, ended, MS * 5)
        })
        .collect();
    Bins::of(&samples, SECOND, BIN * tenths)
}

#[test]
fn a_request_counts_where_it_was_due_and_a_late_answer_is_not_good() {
    let samples = [
        sample(MS * 99, Ended::Answered(200), MS * 500),
        sample(MS * 100, Ended::Answered(200), MS * 501),
        sample(MS * 101, Ended::Answered(503), MS),
    ];
    let bins = Bins::of(&samples, MS * 500, SECOND);
    assert_eq!(bins.0.len(), 10, "as long as the load was");
    assert_eq!((bins.0[0].due, bins.0[0].good), (1, 1));
    assert_eq!((bins.0[1].due, bins.0[1].good), (2, 0));
    assert_eq!(bins.0[1].latencies, [MS * 501], "a late answer has a latency, a refusal none");
}

#[test]
fn recovery_is_where_a_window_and_all_that_follows_is_good() {
    // Down from 2 s to 3.5 s; one lucky tenth in between is none.
    let bins = bins(100, |tenth| if (20..35).contains(&tenth) && tenth != 25 { 0 } else { 10 });
    assert_eq!(bins.recovery(SECOND * 2, SECOND * 10), Some(SECOND + MS * 500));
    assert_eq!(bins.recovery(SECOND * 4, SECOND * 10), Some(Duration::ZERO));
}

#[test]
fn what_falls_back_has_not_recovered() {
    let bins = bins(100, |tenth| if tenth < 50 { 10 } else { 4 });
    assert_eq!(bins.recovery(SECOND, SECOND * 10), None);
    assert_eq!(bins.recovery(SECOND, SECOND + MS * 500), None, "no whole window is left to see");
}

#[test]
fn goodput_has_settled_where_it_stays_near_its_level() {
    let bins = bins(60, |tenth| match tenth {
        0..30 => 10,
        30..33 => 2,
        _ => 9,
    });
    assert_eq!(bins.settled(SECOND * 3, SECOND * 6, 90.0, 0.95), Some(MS * 300));
    assert_eq!(bins.settled(SECOND * 3, SECOND * 6, 120.0, 0.95), None);
}

#[test]
fn shares_rates_and_lines_are_over_the_time_that_was_asked_for() {
    let bins = bins(20, |tenth| if tenth < 10 { 10 } else { 5 });
    assert_eq!(bins.share(Duration::ZERO, SECOND), Some(1.0));
    assert_eq!(bins.share(SECOND, SECOND * 2), Some(0.5));
    assert_eq!(bins.share(SECOND * 3, SECOND * 4), None);
    assert!((bins.goodput(SECOND, SECOND * 2) - 50.0).abs() < 1e-9);
    assert_eq!(bins.goodput_line(10), [(0.5, 100.0), (1.5, 50.0)]);
    assert_eq!(bins.share_line(10), [(0.5, 100.0), (1.5, 50.0)]);
    assert_eq!(bins.latency_line(10), [(0.5, 5.0), (1.5, 5.0)]);
}

#[test]
fn a_quantile_is_one_of_the_values() {
    let values: Vec<_> = (1..=200).map(|value| MS * value).collect();
    assert_eq!(quantile(values.clone(), 0.99), Some(MS * 198));
    assert_eq!(quantile(values.clone(), 0.5), Some(MS * 100));
    assert_eq!(quantile(values, 1.0), Some(MS * 200));
    assert_eq!(quantile(vec![MS], 0.5), Some(MS));
    assert_eq!(quantile(Vec::new(), 0.5), None);
}
