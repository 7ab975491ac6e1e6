//! Sentences about a breaker, a naive model of it, the count over shards, and who is left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::traffic::{Breaker, SlowCall};
use outrider_shared::units::GepDuration;
use proptest::prelude::*;

use super::ejection::{self, Mode, Reason};
use super::machine::{PROBE_MAX, TRANSITIONS_MAX};
use super::streaks::{STREAKS_MAX, Streaks};
use super::window::Window;
use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Opens after 3 failures in a row, or half of at least 10 within 10 s; waits 1 s, 2 s, 4 s at most.
fn settings() -> Breaker {
    Breaker {
        requests_min: 10,
        consecutive_failures: Some(3),
        open_max: GepDuration::from_millis(4_000),
        open_jitter: 0.0,
        ..Breaker::default()
    }
}

fn slow_call() -> SlowCall {
    SlowCall { threshold: GepDuration::from_millis(800), ratio: 0.8 }
}

/// A machine with the clock that drives it.
struct Driven {
    machine: Machine,
    now: Instant,
}

impl Driven {
    fn new(settings: Breaker) -> Self {
        let now = Instant::now();
        Self { machine: Machine::new(Arc::new(settings), now), now }
    }

    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(input, 0.0, self.now).to_vec()
    }

    /// `successes`, then `failures`, told by one shard.
    fn told(&mut self, successes: u32, failures: u32) -> Vec<Output> {
        self.told_slow(successes, failures, 0)
    }

    fn told_slow(&mut self, successes: u32, failures: u32, slow: u32) -> Vec<Output> {
        self.now += MS;
        let at = self.now;
        let streak = (failures > 0).then_some(Streak { first_at: at, last_at: at, failures });
        let outcomes = Outcomes {
            shard: 0,
            epoch: self.machine.snapshot().epoch,
            counts: Counts { successes, failures, slow },
            success_at: (successes > 0).then_some(at),
            streak,
        };
        self.handle(Input::Outcomes(outcomes))
    }

    fn trip(&mut self) {
        assert_eq!(self.told(0, 3), [Output::Publish]);
        assert!(matches!(self.position(), Position::Open { .. }));
    }

    /// Lets the wait end.
    fn wait(&mut self) -> Duration {
        let due = self.machine.poll_timeout().expect("something is waited for");
        let waited = due.saturating_duration_since(self.now);
        self.now = self.now.max(due);
        self.machine.handle_timeout(self.now);
        waited
    }

    fn probe(&mut self) -> Probe {
        match self.handle(Input::ProbeAsked)[..] {
            [Output::Answer(Gate::Probe(probe))] => probe,
            ref other => panic!("no probe but {other:?}"),
        }
    }

    fn end(&mut self, probe: Probe, ended: Probed) -> Vec<Output> {
        self.handle(Input::ProbeEnded { probe, ended })
    }

    fn position(&self) -> Position {
        self.machine.snapshot().position
    }

    fn cause(&self) -> String {
        self.machine.view(self.now).cause
    }
}

#[test]
fn failures_in_a_row_open_it_and_the_cause_has_the_figure() {
    let mut breaker = Driven::new(settings());
    assert!(breaker.told(0, 2).is_empty());
    assert!(breaker.told(1, 2).is_empty(), "a success lies between");
    assert_eq!(breaker.told(0, 1), [Output::Publish]);
    assert_eq!(breaker.position(), Position::Open { until: breaker.now + SECOND });
    assert_eq!(breaker.cause(), "3 requests failed in a row");
    assert_eq!(breaker.machine.view(breaker.now).next_probe_at, Some(breaker.now + SECOND));
}

#[test]
fn a_ratio_opens_it_only_from_the_minimum_of_requests_on() {
    let mut breaker = Driven::new(Breaker { consecutive_failures: None, ..settings() });
    assert!(breaker.told(0, 9).is_empty());
    assert_eq!(breaker.told(3, 0), [Output::Publish]);
    assert_eq!(breaker.cause(), "9 of 12 requests failed within 10s");
}

#[test]
fn slow_answers_open_it_even_where_all_of_them_succeed() {
    let mut breaker = Driven::new(Breaker { slow_call: Some(slow_call()), ..settings() });
    assert!(breaker.told_slow(20, 0, 15).is_empty());
    assert_eq!(breaker.told_slow(5, 0, 5), [Output::Publish]);
    assert_eq!(breaker.cause(), "20 of 25 requests within 10s took longer than 800ms");
}

#[test]
fn what_left_the_window_counts_no_more() {
    let mut breaker = Driven::new(Breaker { consecutive_failures: None, ..settings() });
    breaker.told(0, 9);
    breaker.now += 11 * SECOND;
    assert!(breaker.told(0, 9).is_empty());
    assert_eq!(breaker.machine.view(breaker.now).counts.failures, 9);
}

#[test]
fn an_open_breaker_refuses_until_the_wait_ends_and_then_lets_few_probes_through() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    assert_eq!(breaker.handle(Input::ProbeAsked), [Output::Answer(Gate::Refuse)]);
    assert!(breaker.machine.handle_timeout(breaker.now).is_empty());
    breaker.wait();
    assert_eq!(breaker.position(), Position::HalfOpen);
    assert_eq!(breaker.cause(), "it was open for 1.000s");
    for _ in 0..3 {
        breaker.probe();
    }
    assert_eq!(breaker.handle(Input::ProbeAsked), [Output::Answer(Gate::Refuse)]);
}

#[test]
fn whoever_asks_when_the_wait_is_over_need_not_await_the_timer() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    breaker.now += SECOND;
    let outputs = breaker.handle(Input::ProbeAsked);
    assert!(matches!(outputs[..], [Output::Publish, Output::Answer(Gate::Probe(_))]), "{outputs:?}");
}

#[test]
fn enough_successful_probes_close_it_and_its_window_begins_anew() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    breaker.wait();
    let (first, second) = (breaker.probe(), breaker.probe());
    assert!(breaker.end(first, Probed::Succeeded).is_empty());
    assert!(breaker.end(first, Probed::Succeeded).is_empty(), "a probe ends once");
    assert_eq!(breaker.end(second, Probed::Slow), [Output::Publish], "slow is no failure without a rule");
    assert_eq!(breaker.position(), Position::Closed);
    assert_eq!(breaker.cause(), "2 probes in a row succeeded");
    assert_eq!(breaker.machine.view(breaker.now).counts, Counts::default());
    let epoch = breaker.machine.snapshot().epoch;
    assert_eq!(breaker.handle(Input::ProbeAsked), [Output::Answer(Gate::Admit { epoch })]);
}

#[test]
fn any_failed_probe_opens_it_again_for_longer_up_to_the_longest_wait() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    let mut waits = vec![breaker.wait()];
    for _ in 0..3 {
        let (first, second) = (breaker.probe(), breaker.probe());
        breaker.end(first, Probed::Succeeded);
        assert_eq!(breaker.end(second, Probed::Failed), [Output::Publish]);
        assert_eq!(breaker.cause(), "a probe failed after 1 had succeeded");
        waits.push(breaker.wait());
    }
    assert_eq!(waits, [SECOND, 2 * SECOND, 4 * SECOND, 4 * SECOND]);
}

#[test]
fn a_slow_probe_opens_it_again_where_slow_calls_open_it() {
    let mut breaker = Driven::new(Breaker { slow_call: Some(slow_call()), ..settings() });
    breaker.trip();
    breaker.wait();
    let probe = breaker.probe();
    assert_eq!(breaker.end(probe, Probed::Slow), [Output::Publish]);
    assert_eq!(breaker.cause(), "a probe took longer than 800ms");
}

#[test]
fn what_opens_again_soon_after_it_closed_waits_longer_and_what_was_long_closed_does_not() {
    let mut breaker = Driven::new(Breaker { success_threshold: 1, ..settings() });
    let close = |breaker: &mut Driven| {
        let waited = breaker.wait();
        let probe = breaker.probe();
        breaker.end(probe, Probed::Succeeded);
        assert_eq!(breaker.position(), Position::Closed);
        waited
    };
    breaker.trip();
    assert_eq!(close(&mut breaker), SECOND);
    breaker.trip();
    assert_eq!(close(&mut breaker), 2 * SECOND);
    breaker.now += 11 * SECOND;
    breaker.trip();
    assert_eq!(close(&mut breaker), SECOND);
}

#[test]
fn a_part_of_the_wait_is_drawn_at_random() {
    for (unit, expected_ms) in [(0.0, 500), (0.5, 750), (1.0, 1_000)] {
        let mut breaker =
            Driven::new(Breaker { open_jitter: 0.5, consecutive_failures: Some(1), ..settings() });
        let at = breaker.now;
        let outcomes = Outcomes {
            shard: 0,
            epoch: 0,
            counts: Counts { failures: 1, ..Counts::default() },
            success_at: None,
            streak: Some(Streak::one(at)),
        };
        breaker.machine.handle(Input::Outcomes(outcomes), unit, at);
        assert_eq!(breaker.position(), Position::Open { until: at + expected_ms * MS });
    }
}

#[test]
fn a_probe_that_never_reports_or_says_nothing_is_given_back() {
    let mut breaker = Driven::new(Breaker { probes_max: 1, ..settings() });
    breaker.trip();
    breaker.wait();
    let ignored = breaker.probe();
    assert!(breaker.end(ignored, Probed::Ignored).is_empty());
    let lost = breaker.probe();
    assert_eq!(breaker.handle(Input::ProbeAsked), [Output::Answer(Gate::Refuse)]);
    assert_eq!(breaker.wait(), PROBE_MAX);
    breaker.probe();
    assert!(breaker.end(lost, Probed::Failed).is_empty(), "it was given up");
    assert_eq!(breaker.position(), Position::HalfOpen);
}

#[test]
fn outcomes_of_requests_sent_before_it_opened_change_nothing() {
    let mut breaker = Driven::new(settings());
    let at = breaker.now;
    let late = |failures| Outcomes {
        shard: 1,
        epoch: 0,
        counts: Counts { successes: 40, failures, slow: 0 },
        success_at: Some(at),
        streak: Some(Streak { first_at: at, last_at: at, failures }),
    };
    breaker.trip();
    for _ in 0..3 {
        let before = breaker.machine.snapshot();
        assert!(breaker.handle(Input::Outcomes(late(100))).is_empty());
        assert_eq!(breaker.machine.snapshot(), before);
        match breaker.position() {
            Position::Closed => assert_eq!(breaker.machine.view(breaker.now).counts, Counts::default()),
            Position::Open { .. } => _ = breaker.wait(),
            Position::HalfOpen => {
                for _ in 0..2 {
                    let probe = breaker.probe();
                    breaker.end(probe, Probed::Succeeded);
                }
            }
        }
    }
    assert_eq!(breaker.position(), Position::Closed);
}

#[test]
fn a_changed_policy_keeps_what_is_still_valid() {
    let mut breaker = Driven::new(settings());
    breaker.told(0, 2);
    let stricter = Arc::new(Breaker { requests_min: 1, failure_ratio: None, ..settings() });
    assert!(breaker.machine.reconfigure(stricter, breaker.now).is_empty());
    assert_eq!(breaker.machine.view(breaker.now).failures_in_a_row, 2);
    assert_eq!(breaker.machine.view(breaker.now).counts.failures, 2);
    assert_eq!(breaker.told(0, 1), [Output::Publish]);

    let shorter = Breaker { open_max: GepDuration::from_millis(100), ..settings() };
    assert_eq!(breaker.machine.reconfigure(Arc::new(shorter), breaker.now).to_vec(), [Output::Publish]);
    assert_eq!(breaker.wait(), 100 * MS);

    let probe = breaker.probe();
    breaker.end(probe, Probed::Succeeded);
    let lenient = Breaker { success_threshold: 1, ..settings() };
    assert_eq!(breaker.machine.reconfigure(Arc::new(lenient), breaker.now).to_vec(), [Output::Publish]);
    assert_eq!(breaker.position(), Position::Closed);
}

#[test]
fn a_policy_without_a_rule_that_opens_closes_it() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    let none = Breaker { consecutive_failures: None, failure_ratio: None, ..settings() };
    assert_eq!(breaker.machine.reconfigure(Arc::new(none), breaker.now).to_vec(), [Output::Publish]);
    assert_eq!(breaker.cause(), "policy has no rule any more that opens it");
    breaker.told(0, 100);
    assert_eq!(breaker.position(), Position::Closed);
}

#[test]
fn a_resumed_breaker_stands_where_the_last_one_stood_and_never_goes_back_in_epoch() {
    let mut breaker = Driven::new(settings());
    breaker.told(1, 0);
    for _ in 0..3 {
        let last = breaker.machine.snapshot();
        let resumed = Machine::resume(Arc::new(settings()), &last, breaker.now);
        let now = resumed.snapshot();
        assert_eq!(
            (now.position, now.since, now.openings, now.cause()),
            (last.position, last.since, last.openings, last.cause())
        );
        assert!(now.epoch >= last.epoch);
        match last.position {
            Position::Closed => breaker.trip(),
            Position::Open { .. } => _ = breaker.wait(),
            Position::HalfOpen => {
                let old = breaker.probe();
                breaker.machine = resumed;
                assert!(breaker.end(old, Probed::Failed).is_empty(), "its probes are forgotten");
            }
        }
    }
}

#[test]
fn a_reset_closes_it_and_keeps_the_history() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    assert_eq!(breaker.machine.reset(breaker.now).to_vec(), [Output::Publish]);
    assert_eq!(breaker.position(), Position::Closed);
    let causes: Vec<String> =
        breaker.machine.view(breaker.now).transitions.iter().map(|t| t.cause.to_string()).collect();
    assert_eq!(causes, ["it has not had a reason to open", "3 requests failed in a row", "it was reset"]);
    breaker.trip();
    assert_eq!(breaker.wait(), SECOND);
}

#[test]
fn the_history_keeps_the_last_transitions() {
    let mut breaker = Driven::new(settings());
    breaker.trip();
    for _ in 0..TRANSITIONS_MAX {
        breaker.wait();
        let probe = breaker.probe();
        breaker.end(probe, Probed::Failed);
    }
    let transitions = breaker.machine.view(breaker.now).transitions;
    assert_eq!(transitions.len(), TRANSITIONS_MAX);
    assert_eq!(transitions.last().map(|t| t.at), Some(breaker.now));
}

#[test]
fn time_that_stands_still_or_goes_back_is_tolerated() {
    let mut breaker = Driven::new(settings());
    let begun = breaker.now;
    breaker.now += 5 * SECOND;
    breaker.trip();
    breaker.now = begun;
    assert!(breaker.machine.handle_timeout(begun).is_empty());
    assert_eq!(breaker.handle(Input::ProbeAsked), [Output::Answer(Gate::Refuse)]);
    breaker.machine.reset(begun);
    let streak = Streak { first_at: begun, last_at: begun, failures: 2 };
    let epoch = breaker.machine.snapshot().epoch;
    let counts = Counts { successes: 1, failures: 2, slow: 0 };
    for expected in [2, 2] {
        let outcomes = Outcomes { shard: 0, epoch, counts, success_at: Some(begun), streak: Some(streak) };
        breaker.handle(Input::Outcomes(outcomes));
        assert_eq!(breaker.machine.view(begun).failures_in_a_row, expected);
    }
}

/// The same breaker in the fewest words, with a window that nothing leaves and waits without jitter.
#[derive(Debug)]
struct Naive {
    settings: Breaker,
    position: Position,
    since: Instant,
    /// Since it closed, in order.
    seen: Vec<Outcome>,
    /// Of those, whatever came of them.
    slow: u32,
    openings: u32,
    probes: Vec<(Probe, Instant)>,
    succeeded: u32,
}

impl Naive {
    fn pass(&mut self, now: Instant) {
        if matches!(self.position, Position::Open { until } if until <= now) {
            (self.position, self.since) = (Position::HalfOpen, now);
            (self.probes, self.succeeded) = (Vec::new(), 0);
        }
        self.probes.retain(|(_, given)| now < *given + PROBE_MAX);
    }

    fn open(&mut self, now: Instant) {
        if self.position == Position::Closed && now - self.since > self.settings.window.get() {
            self.openings = 0;
        }
        let doubled = self.settings.open_initial.get() * (1 << self.openings.min(20));
        self.position = Position::Open { until: now + doubled.min(self.settings.open_max.get()) };
        self.since = now;
        self.openings += 1;
    }

    fn seen(&mut self, (successes, failures, slow): (u32, u32, u32), now: Instant) {
        if self.position != Position::Closed {
            return;
        }
        self.seen.extend((0..successes).map(|_| Outcome::Success));
        self.seen.extend((0..failures).map(|_| Outcome::Failure));
        let in_a_row = self.seen.iter().rev().take_while(|o| **o == Outcome::Failure).count();
        let failed = self.seen.iter().filter(|o| **o == Outcome::Failure).count();
        self.slow += slow;
        // Four in five, where policy counts them.
        let slow = if self.settings.slow_call.is_some() { usize::try_from(self.slow).unwrap() } else { 0 };
        let many = |part: usize, of: usize, whole: usize| whole * part >= of * self.seen.len();
        if in_a_row >= 3 || (self.seen.len() >= 10 && (many(failed, 1, 2) || many(slow, 4, 5))) {
            self.open(now);
        }
    }

    fn ended(&mut self, probe: Probe, ended: Probed, now: Instant) {
        if self.position != Position::HalfOpen || !self.probes.iter().any(|(known, _)| *known == probe) {
            return;
        }
        self.probes.retain(|(known, _)| *known != probe);
        match ended {
            Probed::Failed => self.open(now),
            Probed::Slow if self.settings.slow_call.is_some() => self.open(now),
            Probed::Ignored => {}
            Probed::Succeeded | Probed::Slow => {
                self.succeeded += 1;
                if self.succeeded == self.settings.success_threshold {
                    (self.position, self.since) = (Position::Closed, now);
                    self.seen.clear();
                    self.slow = 0;
                }
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Told {
        successes: u32,
        failures: u32,
        /// Of both.
        slow: u32,
    },
    Ask,
    /// Of the probes given so far, at this index modulo their number.
    End(usize, Probed),
}

fn any_step() -> impl Strategy<Value = Step> {
    let ended = prop_oneof![
        5 => Just(Probed::Succeeded), 1 => Just(Probed::Slow), 1 => Just(Probed::Failed), 1 => Just(Probed::Ignored)
    ];
    prop_oneof![
        (0_u64..3_000).prop_map(Step::Wait),
        Just(Step::Wait(31_000)),
        (0_u32..5, 0_u32..3, 0_u32..8).prop_map(|(successes, failures, slow)| {
            Step::Told { successes, failures, slow: slow.min(successes + failures) }
        }),
        Just(Step::Ask),
        (0_usize..64, ended).prop_map(|(index, ended)| Step::End(index, ended)),
    ]
}

proptest! {
    #[test]
    fn the_machine_is_the_naive_model(
        steps in prop::collection::vec(any_step(), 0..150),
        slow_call in prop::option::of(Just(slow_call())),
    ) {
        // Two hours and a half: longer than any run, so that nothing leaves the window.
        let settings = Breaker { window: GepDuration::from_millis(9_000_000), slow_call, ..settings() };
        let mut breaker = Driven::new(settings.clone());
        let mut naive = Naive {
            settings, position: Position::Closed, since: breaker.now, seen: Vec::new(), slow: 0, openings: 0,
            probes: Vec::new(), succeeded: 0,
        };
        let mut given = Vec::new();
        for step in steps {
            let epoch = breaker.machine.snapshot().epoch;
            match step {
                Step::Wait(ms) => {
                    breaker.now += Duration::from_millis(ms);
                    breaker.machine.handle_timeout(breaker.now);
                    naive.pass(breaker.now);
                }
                Step::Told { successes, failures, slow } => {
                    naive.pass(breaker.now + MS);
                    breaker.told_slow(successes, failures, slow);
                    naive.seen((successes, failures, slow), breaker.now);
                }
                Step::Ask => {
                    naive.pass(breaker.now);
                    let answer = breaker.handle(Input::ProbeAsked).pop();
                    let room = naive.probes.len() < 3;
                    match (naive.position, answer) {
                        (Position::Closed, Some(Output::Answer(Gate::Admit { .. })))
                        | (Position::Open { .. }, Some(Output::Answer(Gate::Refuse))) => {}
                        (Position::HalfOpen, Some(Output::Answer(Gate::Refuse))) => prop_assert!(!room),
                        (Position::HalfOpen, Some(Output::Answer(Gate::Probe(probe)))) => {
                            prop_assert!(room && !given.contains(&probe));
                            naive.probes.push((probe, breaker.now));
                            given.push(probe);
                        }
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                Step::End(index, ended) => {
                    naive.pass(breaker.now);
                    if let Some(&probe) = given.get(index % given.len().max(1)) {
                        breaker.end(probe, ended);
                        naive.ended(probe, ended, breaker.now);
                    }
                }
            }
            let snapshot = breaker.machine.snapshot();
            prop_assert_eq!(snapshot.position, naive.position);
            prop_assert_eq!(snapshot.since, naive.since);
            prop_assert!(snapshot.epoch >= epoch);
        }
        // Drain: with time and an endpoint that is well it closes, whatever was before.
        while breaker.position() != Position::Closed {
            match breaker.position() {
                Position::HalfOpen if breaker.machine.view(breaker.now).probes_in_flight < 3 => {
                    let probe = breaker.probe();
                    breaker.end(probe, Probed::Succeeded);
                }
                Position::Closed | Position::Open { .. } | Position::HalfOpen => _ = breaker.wait(),
            }
        }
        prop_assert_eq!(breaker.machine.poll_timeout(), None);
    }

    /// Requests end on several shards, each of which tells what it must at once and the rest at any time. The breaker is
    /// open by failure N + shards in a row, and never before N failures that no success the shards have told followed.
    #[test]
    fn failures_in_a_row_over_all_shards_open_it_within_n_and_the_number_of_shards(
        n in 1_u32..8,
        shards in 1_usize..5,
        events in prop::collection::vec((0_usize..5, 0_u8..8), 0..300),
    ) {
        let settings = Breaker { consecutive_failures: Some(n), failure_ratio: None, ..settings() };
        let mut breaker = Driven::new(settings);
        let mut tallies: Vec<Tally> = (0..shards).map(|shard| Tally::new(shard, 0, Some(n))).collect();
        // Every outcome in the order in which they ended, with the shard, and whether it was told.
        let mut ended: Vec<(usize, Outcome, bool)> = Vec::new();
        for (shard, event) in events {
            let shard = shard % shards;
            breaker.now += MS;
            let outcome = match event {
                0 | 1 => Some(Outcome::Success),
                2 => Some(Outcome::Ignored),
                3 => None,
                _ => Some(Outcome::Failure),
            };
            let tally = &mut tallies[shard];
            let urgency = outcome.map(|outcome| tally.record(outcome, Pace::Prompt, 0, breaker.now));
            ended.extend(outcome.filter(|o| *o != Outcome::Ignored).map(|outcome| (shard, outcome, false)));
            if urgency.is_none_or(|urgency| urgency == Urgency::Now)
                && let Some(outcomes) = tally.unsent()
            {
                breaker.machine.handle(Input::Outcomes(outcomes), 0.0, breaker.now);
                tally.sent();
                ended.iter_mut().filter(|(of, ..)| *of == shard).for_each(|(.., told)| *told = true);
            }
            let is_failure = |(_, outcome, _): &&(usize, Outcome, bool)| *outcome == Outcome::Failure;
            let really = ended.iter().rev().take_while(is_failure).count();
            let known = ended.iter().rev().filter(|(.., told)| *told).take_while(is_failure).count();
            let n = usize::try_from(n).unwrap();
            let is_open = breaker.position() != Position::Closed;
            if is_open {
                prop_assert!(known >= n);
                break;
            }
            prop_assert!(really < n + shards, "{} in a row", really);
            prop_assert_eq!(usize::try_from(breaker.machine.view(breaker.now).failures_in_a_row).unwrap(), known);
        }
    }

    /// Between nine and ten tenths of the window.
    #[test]
    fn a_window_forgets_at_most_a_tenth_too_early_and_nothing_too_late(
        steps in prop::collection::vec((0_u64..700, 0_u32..5), 0..200)
    ) {
        let mut now = Instant::now();
        let mut window = Window::new(SECOND, now);
        let mut all = Vec::new();
        for (wait_ms, successes) in steps {
            now += Duration::from_millis(wait_ms);
            window.add(Counts { successes, ..Counts::default() }, now);
            all.push((now, successes));
            let within = |span: Duration| -> u32 {
                all.iter().filter(|(at, _)| now - *at <= span).map(|(_, n)| n).sum()
            };
            let counted = window.counts(now).successes;
            prop_assert!((within(SECOND * 9 / 10)..=within(SECOND)).contains(&counted));
        }
    }

    /// The oldest first, never more than the share; and if one more has a reason than may be left out, nobody is.
    #[test]
    fn no_more_endpoints_are_left_out_than_policy_allows(
        endpoints in prop::collection::btree_set(0_u32..20, 0..12),
        reasons in prop::collection::vec((0_u32..20, 0_u64..5), 0..20),
        share in prop_oneof![4 => 0.0_f64..=1.0, 1 => Just(1.0)],
    ) {
        let begun = Instant::now();
        let endpoints: Vec<u32> = endpoints.into_iter().collect();
        let reasons: Vec<(u32, Reason<usize>)> = reasons.iter().enumerate()
            .map(|(why, (endpoint, s))| (*endpoint, Reason { since: begun + Duration::from_secs(*s), why })).collect();
        let decision = ejection::decide(&endpoints, reasons.clone(), share);
        let left_out = endpoints.iter().filter(|e| decision.is_left_out(e)).count();
        let unfit = endpoints.iter().filter(|e| reasons.iter().any(|(of, _)| of == *e)).count();
        let as_float = |n: usize| f64::from(u32::try_from(n).unwrap());
        prop_assert!(left_out == 0 || left_out < endpoints.len() || share >= 1.0);
        prop_assert!(left_out == 0 || as_float(left_out) / as_float(endpoints.len()) <= share);
        prop_assert_eq!(decision.unfit.len(), unfit);
        prop_assert_eq!(left_out, if decision.mode == Mode::Ordinary { unfit } else { 0 });
        if let Mode::Panic { ceiling, .. } = decision.mode {
            prop_assert_eq!(ceiling, (0..=endpoints.len()).filter(|n| as_float(*n) / as_float(endpoints.len()) <= share).max().unwrap_or(0));
            prop_assert!(unfit > ceiling);
        }
        let since: Vec<Instant> = decision.unfit.iter().map(|u| u.reasons[0].since).collect();
        prop_assert!(since.is_sorted());
        prop_assert!(decision.unfit.iter().all(|u| u.reasons.is_sorted_by_key(|r| r.since)));
        let reversed = ejection::decide(&endpoints, reasons.into_iter().rev(), share);
        prop_assert_eq!(reversed.mode, decision.mode);
    }
}

#[test]
fn of_more_failures_than_a_shard_should_keep_only_the_certain_ones_count() {
    let at = |ms: u32| Instant::now() + 100 * SECOND + ms * MS;
    let begun = at(0);
    let ms = |n: u32| begun + n * MS;
    let mut streaks = Streaks::default();
    streaks.failures(0, Streak { first_at: ms(1), last_at: ms(9), failures: 5 });
    streaks.failures(0, Streak::one(ms(12)));
    streaks.success(1, ms(5));
    assert_eq!(streaks.in_a_row(), 2, "the one at 9 ms, and the one at 12 ms");
    streaks.success(1, ms(3));
    assert_eq!(streaks.in_a_row(), 2, "an earlier success that was told later changes nothing");
    streaks.failures(2, Streak::one(ms(4)));
    assert_eq!(streaks.in_a_row(), 2, "nor does a failure before the latest success");
    streaks.success(0, ms(20));
    assert_eq!(streaks.in_a_row(), 0);
}

#[test]
fn streaks_are_bounded_and_none_is_lost() {
    let at = Instant::now();
    let mut streaks = Streaks::default();
    for _ in 0..1_000 {
        streaks.failures(0, Streak::one(at));
        streaks.failures(1, Streak::one(at));
    }
    assert_eq!(streaks.in_a_row(), 2_000);
    assert!(streaks.kept() <= STREAKS_MAX + 2);
}

#[test]
fn a_tally_keeps_what_could_not_be_sent_and_drops_what_another_epoch_saw() {
    let now = Instant::now();
    let mut tally = Tally::new(4, 7, None);
    assert_eq!(tally.unsent(), None);
    for _ in 0..5 {
        assert_eq!(tally.record(Outcome::Failure, Pace::Slow, 7, now), Urgency::Later, "no rule, no urgency");
    }
    assert_eq!(tally.record(Outcome::Success, Pace::Prompt, 6, now), Urgency::Later);
    let unsent = tally.unsent().expect("five failures");
    assert_eq!(unsent.counts, Counts { successes: 0, failures: 5, slow: 5 });
    assert_eq!(tally.unsent(), Some(unsent), "nobody took it");
    tally.sent();
    assert_eq!(tally.unsent(), None);
    tally.record(Outcome::Failure, Pace::Prompt, 7, now);
    tally.adopt(8, Some(1));
    assert_eq!(tally.unsent(), None);
    assert_eq!(tally.record(Outcome::Failure, Pace::Prompt, 8, now), Urgency::Now);
}

#[test]
fn beyond_the_ceiling_all_are_used_and_the_view_says_why() {
    let now = Instant::now();
    let reason = |endpoint| (endpoint, Reason { since: now, why: "3 requests failed in a row" });
    let two = ejection::decide(&[1, 2, 3, 4], [reason(2), reason(4), reason(9)], 0.5);
    assert!(two.is_left_out(&2) && two.is_left_out(&4) && !two.is_left_out(&1));
    let three = ejection::decide(&[1, 2, 3, 4], [reason(2), reason(4), reason(1)], 0.5);
    assert!(!three.is_left_out(&2));
    assert_eq!(
        three.mode.to_string(),
        "3 of 4 endpoints have a reason to be left out, and at most 2 may be: all are used"
    );
    let last = ejection::decide(&[1], [reason(1)], 0.99);
    assert!(!last.is_left_out(&1), "one is left");
    let last = ejection::decide(&[1], [reason(1)], 1.0);
    assert!(last.is_left_out(&1), "unless policy says that none need be");
}
