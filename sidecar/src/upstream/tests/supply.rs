//! What is expected of an upstream while it says nothing.

use super::*;
use crate::upstream::admission::{Told, WaiterId};
use crate::upstream::concurrency::Sample;
use crate::upstream::digest::Digest;
use crate::upstream::queue::{Cause, PeerKey};
use crate::upstream::supply::Supply;

/// An app whose two permits are spent, and who asks for another.
struct Case {
    supply: Supply<u64>,
    leases: Leases,
    asked: u64,
}

impl Case {
    fn start(now: Instant) -> Self {
        let concurrency = Concurrency { algorithm: ConcurrencyAlgorithm::Fixed, initial: 2, min: 2, max: 2 };
        let app = ServerTraffic { concurrency, ..ServerTraffic::default() };
        let snapshot = Snapshot { settings: Arc::new(Settings::of_app(Some(&app), 16)), ..empty() };
        let leases = Leases::new(2, 1);
        let supply = Supply::resume(&snapshot, &leases, now);
        for _ in 0..2 {
            assert!(matches!(leases.take(0), Take::Taken | Take::TakenAndMoved));
        }
        Self { supply, leases, asked: 0 }
    }

    /// Asks, and goes away again: why it was dropped at once, if it was.
    fn ask(&mut self, left: Duration, now: Instant) -> Option<Cause> {
        self.asked += 1;
        let id = WaiterId { shard: 0, number: self.asked };
        let peer = PeerKey("peer".into());
        let asking = Asking { id, class: 0, peer, deadline: Some(now + left), waiter: self.asked };
        let told = self.supply.asked(asking, &self.leases, now);
        let dropped = told.iter().find_map(|told| match told {
            Told::Dropped { waiter, cause } if *waiter == self.asked => Some(*cause),
            Told::Dropped { .. } => None,
            Told::Granted { .. } => panic!("there is no permit"),
        });
        drop(told);
        assert!(self.supply.cancelled(id, &self.leases, now).is_empty());
        dropped
    }

    fn answered(&mut self, after: Duration, now: Instant) {
        self.answered_many(1, after, 0, now);
    }

    fn answered_many(&mut self, times: u64, after: Duration, shard: usize, now: Instant) {
        let mut sample = Sample::default();
        sample.answered(after.as_secs_f64() * 1e6, times);
        self.told_by(shard, sample, now);
    }

    fn told(&mut self, sample: Sample, now: Instant) {
        self.told_by(0, sample, now);
    }

    fn told_by(&mut self, shard: usize, sample: Sample, now: Instant) {
        let digest = Digest { shard, outcomes: Vec::new(), began: 0, since: now, spent: None, sample };
        assert!(self.supply.seen(&digest, &self.leases, now).is_empty());
    }
}

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(1);

#[test]
fn an_app_that_says_nothing_is_expected_to_say_nothing_for_as_long_again() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut case = Case::start(start);
    case.answered(Duration::from_millis(1), start);
    for ms in (0..=500).step_by(10) {
        assert_eq!(case.ask(SHORT, at(ms)), None, "after {ms} ms");
    }
    for ms in (510..1_000).step_by(10) {
        assert_eq!(case.ask(SHORT, at(ms)), Some(Cause::Deadline), "after {ms} ms");
        assert_eq!(case.ask(LONG, at(ms)), None, "after {ms} ms");
    }
    for ms in (1_010..5_000).step_by(10) {
        assert_eq!(case.ask(LONG, at(ms)), Some(Cause::Deadline), "after {ms} ms");
    }
    case.answered(Duration::from_millis(1), at(5_000));
    assert_eq!(case.ask(SHORT, at(5_000)), None);
}

#[test]
fn an_answer_that_says_nothing_of_the_load_ends_the_silence() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut case = Case::start(start);
    for ms in (0..2_000).step_by(10) {
        case.ask(SHORT, at(ms));
    }
    assert_eq!(case.ask(SHORT, at(2_000)), Some(Cause::Deadline));
    let mut sample = Sample::default();
    sample.heard = true;
    case.told(sample, at(2_000));
    assert_eq!(case.ask(SHORT, at(2_001)), None);
}

#[test]
fn what_nobody_asked_of_an_app_is_no_silence() {
    let start = Instant::now();
    let mut case = Case::start(start);
    case.answered(Duration::from_millis(1), start);
    assert_eq!(case.ask(SHORT, start + Duration::from_mins(10)), None);
}

#[test]
fn nobody_is_dropped_by_an_answer_that_took_long_long_ago() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut case = Case::start(start);
    for ms in [0, 60] {
        case.answered_many(30, Duration::from_secs(5), 0, at(ms));
    }
    assert_eq!(case.ask(LONG, at(60)), Some(Cause::Deadline));
    assert_eq!(case.ask(LONG, at(561)), None);
    case.answered(Duration::from_secs(4), at(562));
    assert_eq!(case.ask(LONG, at(562)), None, "less than long ago, and alone");
}

#[test]
fn one_slow_answer_beside_many_quick_ones_drops_nobody() {
    let start = Instant::now();
    let mut case = Case::start(start);
    for n in 0..40 {
        let now = start + n * Duration::from_millis(25);
        case.answered_many(10, Duration::from_millis(20), 0, now);
        if n % 10 == 5 {
            case.answered_many(1, Duration::from_secs(5), 1, now);
        }
        assert_eq!(case.ask(SHORT, now), None, "digest {n}");
    }
}

#[test]
fn of_a_quiet_app_one_slow_answer_drops_nobody() {
    let start = Instant::now();
    let mut case = Case::start(start);
    for n in 0..60 {
        let now = start + n * Duration::from_millis(200);
        let took = if n == 30 { Duration::from_secs(5) } else { Duration::from_millis(20) };
        case.answered_many(1, took, 0, now);
        assert_eq!(case.ask(SHORT, now), None, "digest {n}");
    }
}
