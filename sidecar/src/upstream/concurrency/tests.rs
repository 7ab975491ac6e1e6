//! The limiter by example, and in front of simulated apps.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and microseconds of a minute that is simulated"
)]

mod simulator;

use std::time::Instant;

use outrider_shared::traffic;
use proptest::prelude::*;

use super::*;
use simulator::{App, Load, Report, Simulator, Work};

const SECOND: Duration = Duration::from_secs(1);

/// Not the product's, so that these cases stay what they are.
fn learnt() -> traffic::Concurrency {
    traffic::Concurrency { algorithm: ConcurrencyAlgorithm::Gradient, initial: 64, min: 4, max: 1_024 }
}

fn settings(algorithm: ConcurrencyAlgorithm) -> traffic::Concurrency {
    traffic::Concurrency { algorithm, ..learnt() }
}

/// As the product comes.
fn gradient() -> Limiter {
    Limiter::new(&learnt())
}

fn ms<const MS: u64>(_: f64) -> f64 {
    MS as f64 * 1_000.0
}

/// 10 ms in the mean, as widely spread as chance makes it.
fn exponential(drawn: f64) -> f64 {
    -(1.0 - drawn).ln() * 10_000.0
}

/// A cache that is hit nine times in ten.
fn mostly_fast(drawn: f64) -> f64 {
    if drawn < 0.9 { 5_000.0 } else { 100_000.0 }
}

fn half_fast(drawn: f64) -> f64 {
    if drawn < 0.5 { 5_000.0 } else { 100_000.0 }
}

/// What a request takes alone, in the mean.
fn alone_us(work: Work) -> f64 {
    (0..10_000).map(|n| work((f64::from(n) + 0.5) / 10_000.0)).sum::<f64>() / 10_000.0
}

fn capacity(app: App, work: Work) -> f64 {
    let at_once = match app {
        App::Pool(workers) => workers as f64,
        App::Cores(cores) => cores,
    };
    at_once * 1e6 / alone_us(work)
}

#[track_caller]
fn assert_good(what: &str, report: &Report, demand: f64, app: App, work: Work) {
    let optimum = demand.min(capacity(app, work));
    let got = report.per_second() / optimum;
    assert!(got >= 0.9, "{what}: {got:.2} of the optimum, {report:?}");
    // What takes less counts as that fast.
    let times = report.latency_us() / alone_us(work).max(2_000.0);
    assert!(times <= 2.0, "{what}: {times:.2} times as slow as alone, {report:?}");
}

const APPS: [(&str, App, Work); 10] = [
    ("a pool of 4", App::Pool(4), ms::<10>),
    ("a pool of 16", App::Pool(16), ms::<10>),
    ("a pool of 200", App::Pool(200), ms::<40>),
    ("a pool of 30 that takes 200 ms", App::Pool(30), ms::<200>),
    ("times of chance", App::Pool(16), exponential),
    ("mostly fast", App::Pool(16), mostly_fast),
    ("half fast", App::Pool(40), half_fast),
    ("8 cores", App::Cores(8.0), ms::<1>),
    ("8 cores, longer work", App::Cores(8.0), ms::<20>),
    ("8 cores, times of chance", App::Cores(8.0), exponential),
];

#[test]
fn an_app_that_is_overloaded_when_it_is_met_is_kept_busy_and_nothing_stands_inside_it() {
    for (what, app, work) in APPS {
        let mut simulator = Simulator::new(app, work, Load::Closed(600), gradient());
        simulator.run(2 * SECOND);
        assert_good(what, &simulator.run(13 * SECOND), f64::INFINITY, app, work);
    }
}

#[test]
fn a_demand_spike_is_answered_within_a_second() {
    for (what, app, work) in APPS {
        let most = capacity(app, work);
        let mut simulator = Simulator::new(app, work, Load::Open(0.5 * most), gradient());
        simulator.run(5 * SECOND);
        simulator.load = Load::Open(1.4 * most);
        simulator.run(SECOND);
        assert_good(what, &simulator.run(9 * SECOND), 1.4 * most, app, work);
    }
}

#[test]
fn an_app_that_becomes_slower_or_faster_for_good_is_met_anew_within_two_seconds() {
    let apps: [(&str, App, Work); 7] = [
        ("begins", App::Pool(16), ms::<10>),
        ("four times as slow", App::Pool(16), ms::<40>),
        ("as before", App::Pool(16), ms::<10>),
        ("half as slow again", App::Pool(16), ms::<15>),
        ("fewer workers", App::Pool(5), ms::<15>),
        ("more workers", App::Pool(60), ms::<15>),
        ("both", App::Pool(12), ms::<50>),
    ];
    for load in [Load::Closed(400), Load::Open(7_000.0)] {
        let mut simulator = Simulator::new(apps[0].1, apps[0].2, load, gradient());
        for (what, app, work) in apps {
            simulator.becomes(app, work);
            simulator.run(2 * SECOND);
            assert_good(what, &simulator.run(6 * SECOND), f64::INFINITY, app, work);
        }
    }
}

#[test]
fn capacity_that_goes_and_comes_back_leaves_nothing_behind() {
    for taken in [0.5, 0.7, 0.9] {
        for seconds in [1, 5, 20] {
            let app = App::Cores(8.0);
            let demand = 0.75 * capacity(app, ms::<4>);
            let mut simulator = Simulator::new(app, ms::<4>, Load::Open(demand), gradient());
            simulator.run(3 * SECOND);
            simulator.becomes(App::Cores(8.0 * (1.0 - taken)), ms::<4>);
            simulator.run(seconds * SECOND);
            simulator.becomes(app, ms::<4>);
            simulator.run(SECOND);
            let what = format!("{taken} for {seconds} s");
            let after = simulator.run(10 * SECOND);
            assert_good(&what, &after, demand, app, ms::<4>);
            assert_eq!(after.shed, 0, "{what}");
        }
    }
}

#[test]
fn nothing_is_shed_to_learn_while_the_app_could_serve_it() {
    for (what, app, work) in APPS {
        let demand = 0.9 * capacity(app, work);
        let mut simulator = Simulator::new(app, work, Load::Open(demand), gradient());
        simulator.run(3 * SECOND);
        let report = simulator.run(25 * SECOND);
        let share = report.shed as f64 / (report.shed + report.answered) as f64;
        assert!(share < 0.001, "{what}: {share:.4} was shed, {report:?}");
    }
}

#[test]
fn an_app_with_room_to_spare_that_becomes_somewhat_slower_loses_nothing() {
    let mut simulator = Simulator::new(App::Pool(40), ms::<10>, Load::Open(1_600.0), gradient());
    simulator.run(3 * SECOND);
    simulator.becomes(App::Pool(40), ms::<16>);
    let report = simulator.run(60 * SECOND);
    assert_eq!(report.shed, 0);
    assert!(report.per_second() > 1_550.0, "{report:?}");
}

#[test]
fn streams_hold_permits_for_longer_than_they_take_to_begin_and_are_not_taken_for_overload() {
    let mut simulator = Simulator::new(App::Pool(64), ms::<10>, Load::Open(200.0), gradient());
    simulator.hold_us = 2_000_000;
    simulator.run(5 * SECOND);
    let report = simulator.run(60 * SECOND);
    assert!(report.limit_max >= 400, "{report:?}");
    assert_eq!(report.shed, 0, "{report:?}");
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut simulator = Simulator::new(App::Pool(200), ms::<10>, Load::Open(500.0), gradient());
    let report = simulator.run(60 * SECOND);
    assert!(report.limit_max <= 64, "{report:?}");
}

/// So many answers of so many milliseconds, with so many under way.
fn sample(answers: u64, latency_ms: f64, in_flight_max: u32) -> Sample {
    let mut sample = Sample { in_flight_max, ..Sample::default() };
    sample.answered(latency_ms * 1_000.0, answers);
    sample
}

/// The limits that the samples made, one digest each.
fn limits(limiter: &mut Limiter, start: Instant, samples: &[Sample]) -> Vec<u32> {
    (1..)
        .zip(samples)
        .filter_map(|(n, s)| limiter.observe(*s, start + n * Duration::from_millis(50)))
        .collect()
}

#[test]
fn a_fixed_limit_stays() {
    let mut limiter =
        Limiter::new(&traffic::Concurrency { initial: 7, ..settings(ConcurrencyAlgorithm::Fixed) });
    let overload = Sample { overloads: 100, queued: true, in_flight_max: 7, ..sample(100, 900.0, 7) };
    assert!(limits(&mut limiter, Instant::now(), &[overload; 20]).is_empty());
    assert_eq!((limiter.limit(), limiter.poll_timeout()), (7, None));
}

#[test]
fn aimd_adds_one_a_used_window_and_takes_a_tenth_after_an_overload() {
    let mut limiter = Limiter::new(&settings(ConcurrencyAlgorithm::Aimd));
    let start = Instant::now();
    let full = sample(100, 10.0, 64);
    assert_eq!(limits(&mut limiter, start, &[full; 2]), [65]);
    let unused = sample(100, 10.0, 20);
    assert!(limits(&mut limiter, start + SECOND, &[unused; 4]).is_empty());
    let queued = Sample { queued: true, ..unused };
    assert_eq!(limits(&mut limiter, start + 2 * SECOND, &[queued; 2]), [66, 67]);
    let overloaded = Sample { overloads: 1, ..full };
    assert_eq!(limits(&mut limiter, start + 3 * SECOND, &[overloaded; 3]), [60, 54, 48]);
    assert_eq!(
        limits(&mut limiter, start + 4 * SECOND, &[overloaded; 60]).last(),
        Some(&4),
        "never below the least"
    );
}

#[test]
fn what_fails_fast_is_taken_for_overload_and_not_for_speed() {
    let mut limiter = gradient();
    let start = Instant::now();
    limits(&mut limiter, start, &[sample(100, 10.0, 4); 6]);
    let learned = limiter.view().least;
    let failing = Sample { overloads: 50, ..sample(50, 1.0, 60) };
    let made = limits(&mut limiter, start + SECOND, &[failing; 20]);
    assert_eq!(limiter.view().least, learned);
    assert!(made.is_sorted_by(|a, b| a > b) && limiter.limit() < 20, "{made:?}");
}

#[test]
fn an_app_that_answers_nobody_gets_little_within_a_second() {
    let mut limiter = gradient();
    let start = Instant::now();
    limits(&mut limiter, start, &[sample(100, 10.0, 4); 4]);
    let stopped = Sample { overloads: 15, in_flight_max: 60, queued: true, ..Sample::default() };
    limits(&mut limiter, start + SECOND, &[stopped; 16]);
    assert_eq!(limiter.limit(), 4, "the least");
    let one = Sample { overloads: 1, in_flight_max: 1, ..Sample::default() };
    let mut limiter = gradient();
    limits(&mut limiter, start, &[one; 19]);
    assert!(limiter.limit() >= 57, "one that was late is not all");
}

#[test]
fn a_dip_for_which_no_samples_come_ends_by_time() {
    let mut limiter = gradient();
    let start = Instant::now();
    limits(&mut limiter, start, &[sample(100, 10.0, 64); 4]);
    assert_eq!((limiter.view().phase, limiter.limit()), (Phase::Dip, 32));
    let due = limiter.poll_timeout().expect("a dip ends");
    assert_eq!(limiter.handle_timeout(start), None, "too early");
    assert_eq!(limiter.handle_timeout(due), Some(64));
    assert_eq!((limiter.view().phase, limiter.poll_timeout()), (Phase::Steady, None));
}

#[test]
fn a_dip_that_keeps_somebody_waiting_for_long_ends_and_one_beside_a_standing_queue_does_not() {
    let waited = |ms| Sample { queued: true, waited: Duration::from_millis(ms), ..sample(100, 10.0, 64) };
    let start = Instant::now();
    let mut limiter = gradient();
    limits(&mut limiter, start, &[waited(5); 4]);
    assert_eq!(limiter.view().phase, Phase::Dip);
    assert_eq!(limits(&mut limiter, start + SECOND / 5, &[waited(65)]), [64]);
    assert_eq!(limiter.view().phase, Phase::Steady);
    let mut limiter = gradient();
    limits(&mut limiter, start, &[waited(90); 4]);
    assert_eq!(limiter.view().phase, Phase::Dip);
    assert!(limits(&mut limiter, start + SECOND / 5, &[waited(130)]).is_empty());
    assert_eq!(limiter.view().phase, Phase::Dip);
}

#[test]
fn an_app_that_answers_within_a_millisecond_is_not_held_to_less_for_more_requests_at_once() {
    let mut limiter = gradient();
    let start = Instant::now();
    limits(&mut limiter, start, &[sample(100, 0.2, 4); 4]);
    assert!(limits(&mut limiter, start + SECOND, &[sample(100, 1.9, 40); 40]).is_empty());
    limits(&mut limiter, start + 4 * SECOND, &[sample(100, 9.0, 40); 4]);
    assert_eq!(limiter.view().phase, Phase::Dip, "that is slow");
}

#[test]
fn a_limit_that_nobody_uses_comes_down_to_four_times_what_is_used_and_to_no_less_than_a_burst() {
    for (in_flight, enough) in [(15, 60), (1, 32)] {
        let mut limiter = Limiter::new(&traffic::Concurrency { initial: 128, max: 1_024, ..learnt() });
        let made = limits(&mut limiter, Instant::now(), &[sample(100, 10.0, in_flight); 200]);
        assert!(made.is_sorted_by(|a, b| a > b), "{made:?}");
        assert_eq!(limiter.limit(), enough);
    }
}

#[test]
fn an_app_that_was_started_anew_is_learned_anew_from_the_limit_that_it_had() {
    let start = Instant::now();
    let mut limiter = Limiter::resume(&learnt(), 20);
    assert_eq!(limiter.limit(), 20);
    limits(&mut limiter, start, &[sample(100, 10.0, 4); 6]);
    assert_eq!(limiter.view().least, Some(Duration::from_millis(10)));
    assert_eq!(limiter.reset(), None);
    assert_eq!((limiter.limit(), limiter.view().least), (20, None));
    assert_eq!(Limiter::resume(&learnt(), 0).limit(), 4);
    assert_eq!(Limiter::resume(&learnt(), u32::MAX).limit(), 1_024);
}

#[test]
fn new_settings_keep_the_limit_and_what_was_learned_as_far_as_they_allow() {
    let start = Instant::now();
    let mut limiter = gradient();
    limits(&mut limiter, start, &[sample(100, 10.0, 4); 6]);
    let lower = traffic::Concurrency { max: 30, ..learnt() };
    assert_eq!(limiter.reconfigure(&lower), Some(30));
    assert!(limiter.view().least.is_some());
    let aimd = settings(ConcurrencyAlgorithm::Aimd);
    assert_eq!(limiter.reconfigure(&aimd), None);
    assert_eq!((limiter.limit(), limiter.view().algorithm), (30, ConcurrencyAlgorithm::Aimd));
    assert_eq!(limiter.reconfigure(&settings(ConcurrencyAlgorithm::Fixed)), Some(64));
    let nonsense = traffic::Concurrency { initial: 9, min: 0, max: 0, ..aimd };
    assert_eq!(limiter.reconfigure(&nonsense), Some(1), "at least one may be under way");
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let latency = prop_oneof![
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(-1.0),
        Just(0.0),
        Just(f64::MAX),
        Just(1e22),
        0.0_f64..1e7,
    ];
    (latency, 0_u64..300, 0_u64..20, 0_u32..2_000, any::<bool>()).prop_map(
        |(us, answers, overloads, in_flight_max, queued)| {
            let mut sample = Sample { overloads, in_flight_max, queued, ..Sample::default() };
            sample.answered(us, answers);
            sample
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_is_seen_the_limit_is_within_its_bounds_and_changes_are_told(
        samples in prop::collection::vec((any_sample(), 0_u32..200), 0..100),
        algorithm in prop::sample::select(vec![ConcurrencyAlgorithm::Aimd, ConcurrencyAlgorithm::Gradient]),
        min in 0_u32..50, span in 0_u32..500,
    ) {
        let mut now = Instant::now();
        let mut limiter = Limiter::new(&traffic::Concurrency { algorithm, initial: 64, min, max: min + span });
        let mut told = limiter.limit();
        for (sample, wait_ms) in samples {
            // Time stands still for a quarter of them.
            now += Duration::from_millis(u64::from(wait_ms.saturating_sub(50)));
            told = limiter.observe(sample, now).unwrap_or(told);
            told = limiter.handle_timeout(now).unwrap_or(told);
            prop_assert_eq!(told, limiter.limit());
            prop_assert!((min.max(1)..=(min + span).max(1)).contains(&told));
            prop_assert!(limiter.poll_timeout().is_none_or(|due| due > now));
        }
    }
}

/// AIMD as it is described: all samples of a window are kept, and looked at anew after each.
struct NaiveAimd {
    limit: f64,
    least: f64,
    most: f64,
    since: Option<Instant>,
    kept: Vec<Sample>,
}

impl NaiveAimd {
    fn observe(&mut self, sample: Sample, now: Instant) {
        let elapsed = now - *self.since.get_or_insert(now);
        self.kept.push(sample);
        let ended: u64 = self.kept.iter().map(|s| s.count + s.overloads).sum();
        let is_over = (elapsed >= SECOND / 20 && ended >= 50)
            || (elapsed >= SECOND / 10 && ended >= 20)
            || elapsed >= SECOND;
        if !is_over {
            return;
        }
        let window = std::mem::take(&mut self.kept);
        self.since = Some(now);
        let is_full = |s: &Sample| s.queued || f64::from(s.in_flight_max) >= self.limit.floor();
        if window.iter().any(|s| s.overloads > 0) {
            self.limit *= 0.9;
        } else if window.iter().any(is_full) {
            self.limit += 1.0;
        }
        self.limit = self.limit.max(self.least).min(self.most);
    }
}

proptest! {
    #[test]
    fn aimd_is_what_its_description_says(
        samples in prop::collection::vec((0_u64..60, 0_u64..3, 0_u32..80, any::<bool>(), 0_u64..400), 0..200),
        initial in 1_u32..80, least in 1_u32..20, span in 0_u32..80,
    ) {
        let settings = traffic::Concurrency { algorithm: ConcurrencyAlgorithm::Aimd, initial, min: least, max: least + span };
        let mut limiter = Limiter::new(&settings);
        let (least, most) = (f64::from(least), f64::from(least + span));
        let mut naive = NaiveAimd { limit: f64::from(initial).clamp(least, most), least, most, since: None, kept: Vec::new() };
        let mut now = Instant::now();
        for (answers, overloads, in_flight_max, queued, wait_ms) in samples {
            now += Duration::from_millis(wait_ms);
            // Three in four windows without one, or the limit would lie at its least.
            let overloads = if answers % 4 == 0 { overloads } else { 0 };
            let sample = Sample { overloads, queued, ..sample(answers, 10.0, in_flight_max) };
            limiter.observe(sample, now);
            naive.observe(sample, now);
            prop_assert_eq!(limiter.limit(), naive.limit.floor() as u32);
        }
    }
}
