use std::time::Duration;

use super::{Ended, LoadPlan, Sample, Stream, samples};
use crate::trial::schedule::{Arrivals, Phase};

fn sample(due_ms: u64, ended: Ended) -> Sample {
    Sample {
        due: Duration::from_millis(due_ms),
        lag: Duration::from_micros(120),
        took: Duration::from_micros(4_567),
        stream: 3,
        attempts: 2,
        ended,
    }
}

#[test]
fn a_sample_survives_its_line() {
    for ended in [Ended::Answered(200), Ended::Answered(503), Ended::TimedOut, Ended::Broke, Ended::NotSent] {
        let sample = sample(17, ended);
        assert_eq!(samples(&sample.line()).expect("its own line"), [sample]);
    }
}

#[test]
fn samples_come_by_due_time_and_a_broken_line_is_an_error() {
    let text = format!("{}{}", sample(9, Ended::TimedOut).line(), sample(5, Ended::Answered(200)).line());
    let dues: Vec<_> =
        samples(&text).expect("two lines").iter().map(|sample| sample.due.as_millis()).collect();
    assert_eq!(dues, [5, 9]);
    for broken in ["1 2 3 4 5", "1 2 3 4 5 200 7", "1 2 3 4 5 x", ""] {
        samples(&format!("{broken}\n")).expect_err(broken);
    }
}

#[test]
fn good_is_answered_well_and_in_time() {
    let took = Duration::from_micros(4_567);
    assert!(sample(0, Ended::Answered(204)).is_good(took));
    assert!(!sample(0, Ended::Answered(204)).is_good(took / 2));
    assert!(!sample(0, Ended::Answered(503)).is_good(took));
    assert!(!sample(0, Ended::TimedOut).is_good(took));
}

#[test]
fn a_plan_merges_its_streams_and_they_do_not_march_in_step() {
    let stream = Stream {
        target: ([127, 0, 0, 1], 1).into(),
        host: "backend".to_owned(),
        fields: std::collections::BTreeMap::new(),
        arrivals: Arrivals::Poisson,
        phases: vec![Phase::new(Duration::from_secs(10), 10.0)],
        patience: Duration::from_secs(1),
        retries: 0,
    };
    let plan = LoadPlan { seed: 1, begin_unix_us: 0, streams: vec![stream; 2], out: "samples".into() };
    let dues = plan.dues();
    assert!(dues.is_sorted());
    let of =
        |wanted| dues.iter().filter(|(_, stream)| *stream == wanted).map(|(due, _)| *due).collect::<Vec<_>>();
    assert!(!of(0).is_empty());
    assert_ne!(of(0), of(1));
}
