//! The pure machine of one breaker: no clock, no random source.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::traffic::Breaker;
use smallvec::smallvec;

use super::cause::{Cause, Position, Transition};
use super::messages::{Gate, Input, Output, Outputs, Probe, Probed, Snapshot, View};
use super::streaks::Streaks;
use super::tally::Outcomes;
use super::window::{Counts, Window};

/// Transitions that are kept. 16: five openings with all their attempts to close, to be read by somebody who comes late.
pub const TRANSITIONS_MAX: usize = 16;
/// After so long a probe whose end nobody told is taken for lost, and another may go. 30 s: longer than an answer is
/// waited for by most routes; a shard that gave up its probe unheard must not keep the breaker half open for ever.
pub const PROBE_MAX: Duration = Duration::from_secs(30);
/// The wait stops doubling here; with a first wait of a millisecond that is 12 days.
const DOUBLINGS_MAX: u32 = 30;

#[derive(Debug)]
enum State {
    Closed { window: Window, streaks: Streaks },
    Open { until: Instant },
    HalfOpen { in_flight: Vec<InFlight>, succeeded: u32 },
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    number: u64,
    /// From then on it is taken for lost.
    lost_at: Instant,
}

#[derive(Debug)]
pub struct Machine {
    settings: Arc<Breaker>,
    epoch: u64,
    state: State,
    since: Instant,
    openings: u32,
    unfit_since: Option<Instant>,
    /// Of the next probe.
    number: u64,
    transitions: VecDeque<Transition>,
    /// The latest time heard of: a clock that goes back stands still here.
    latest: Instant,
}

impl Machine {
    pub fn new(settings: Arc<Breaker>, now: Instant) -> Self {
        let begun = Transition { at: now, to: Position::Closed, cause: Cause::Begun };
        Self {
            state: closed(&settings, now),
            settings,
            epoch: 0,
            since: now,
            openings: 0,
            unfit_since: None,
            number: 0,
            transitions: VecDeque::from([begun]),
            latest: now,
        }
    }

    /// Goes on from what was published last. Counts are lost, and come again from the shards; probes under way are
    /// forgotten, so a half-open breaker begins a new epoch and gives new ones.
    pub fn resume(settings: Arc<Breaker>, last: &Snapshot, now: Instant) -> Self {
        let mut machine = Self::new(settings, now.max(last.since));
        machine.epoch = last.epoch;
        machine.since = last.since;
        machine.openings = last.openings;
        machine.unfit_since = last.unfit_since;
        machine.transitions = last.transitions.iter().cloned().collect();
        match last.position {
            Position::Closed => {}
            Position::Open { until } => machine.state = State::Open { until },
            Position::HalfOpen => {
                machine.epoch += 1;
                machine.state = State::HalfOpen { in_flight: Vec::new(), succeeded: 0 };
            }
        }
        machine.check_invariants();
        machine
    }

    /// `unit` is uniform in [0, 1), and decides about the wait if the breaker opens.
    pub fn handle(&mut self, input: Input, unit: f64, now: Instant) -> Outputs {
        let now = self.clock(now);
        let mut outputs = self.pass(now);
        match input {
            Input::Outcomes(outcomes) => outputs.extend(self.count(&outcomes, unit, now)),
            Input::ProbeAsked => outputs.push(Output::Answer(self.gate(now))),
            Input::ProbeEnded { probe, ended } => outputs.extend(self.probed(probe, ended, unit, now)),
        }
        outputs.dedup();
        self.check_invariants();
        outputs
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { until } => Some(*until),
            State::HalfOpen { in_flight, .. } => in_flight.iter().map(|probe| probe.lost_at).min(),
        }
    }

    /// Ends the wait of an open breaker, and gives lost probes back. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Outputs {
        let now = self.clock(now);
        let outputs = self.pass(now);
        self.check_invariants();
        outputs
    }

    /// Policy has changed. The state and all counts that still mean something stay: a window of another length begins
    /// anew, a wait is cut to the new longest, and a breaker that nothing could open any more closes.
    pub fn reconfigure(&mut self, settings: Arc<Breaker>, now: Instant) -> Outputs {
        let now = self.clock(now);
        let never = !opens_at_all(&settings);
        self.settings = settings;
        let mut outputs = Outputs::new();
        match &mut self.state {
            State::Closed { window, .. } => {
                if window.length() != self.settings.window.get() {
                    *window = Window::new(self.settings.window.get(), now);
                }
            }
            State::Open { .. } | State::HalfOpen { .. } if never => {
                outputs = self.close(Cause::PolicyWithdrawn, now);
            }
            State::Open { until } => {
                let latest = now + self.settings.open_max.get();
                if *until > latest {
                    *until = latest;
                    outputs = smallvec![Output::Publish];
                }
            }
            State::HalfOpen { succeeded, .. } => {
                let succeeded = *succeeded;
                if succeeded >= success_threshold(&self.settings) {
                    outputs = self.close(Cause::ProbesSucceeded { succeeded }, now);
                }
            }
        }
        self.check_invariants();
        outputs
    }

    /// Closed, whatever it was; only the history stays.
    pub fn reset(&mut self, now: Instant) -> Outputs {
        let now = self.clock(now);
        let outputs = self.close(Cause::Reset, now);
        self.openings = 0;
        self.check_invariants();
        outputs
    }

    /// What shards read.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            epoch: self.epoch,
            position: self.position(),
            since: self.since,
            openings: self.openings,
            unfit_since: self.unfit_since,
            transitions: self.transitions.iter().cloned().collect(),
        }
    }

    pub fn view(&self, now: Instant) -> View {
        let (mut counts, mut failures_in_a_row, mut probes_in_flight, mut probes_succeeded) =
            (Counts::default(), 0, 0, 0);
        let mut next_probe_at = None;
        match &self.state {
            State::Closed { window, streaks } => {
                counts = window.counts(now.max(self.latest));
                failures_in_a_row = streaks.in_a_row();
            }
            State::Open { until } => next_probe_at = Some(*until),
            State::HalfOpen { in_flight, succeeded } => {
                (probes_in_flight, probes_succeeded) = (in_flight.len(), *succeeded);
            }
        }
        let cause = self.transitions.back().map_or(&Cause::Begun, |transition| &transition.cause);
        View {
            position: self.position(),
            since: self.since,
            cause: cause.to_string(),
            next_probe_at,
            counts,
            failures_in_a_row,
            probes_in_flight,
            probes_succeeded,
            openings: self.openings,
            transitions: self.transitions.iter().cloned().collect(),
        }
    }

    pub fn position(&self) -> Position {
        match self.state {
            State::Closed { .. } => Position::Closed,
            State::Open { until } => Position::Open { until },
            State::HalfOpen { .. } => Position::HalfOpen,
        }
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// What time alone does.
    fn pass(&mut self, now: Instant) -> Outputs {
        match &mut self.state {
            State::Open { until } if *until <= now => {
                let waited = now.saturating_duration_since(self.since);
                let state = State::HalfOpen { in_flight: Vec::new(), succeeded: 0 };
                self.enter(state, Cause::Waited { waited }, now)
            }
            State::HalfOpen { in_flight, .. } => {
                in_flight.retain(|probe| probe.lost_at > now);
                Outputs::new()
            }
            State::Closed { .. } | State::Open { .. } => Outputs::new(),
        }
    }

    fn count(&mut self, outcomes: &Outcomes, unit: f64, now: Instant) -> Outputs {
        let State::Closed { window, streaks } = &mut self.state else { return Outputs::new() };
        if outcomes.epoch != self.epoch {
            return Outputs::new();
        }
        window.add(outcomes.counts, now);
        if let Some(at) = outcomes.success_at {
            streaks.success(outcomes.shard, at);
        }
        if let Some(streak) = outcomes.streak {
            streaks.failures(outcomes.shard, streak);
        }
        let cause = to_open(&self.settings, window.counts(now), streaks.in_a_row());
        cause.map_or_else(Outputs::new, |cause| self.open(cause, unit, now))
    }

    fn gate(&mut self, now: Instant) -> Gate {
        match &mut self.state {
            State::Closed { .. } => Gate::Admit { epoch: self.epoch },
            State::Open { .. } => Gate::Refuse,
            State::HalfOpen { in_flight, .. } => {
                let max = usize::try_from(self.settings.probes_max.max(1)).unwrap_or(usize::MAX);
                if in_flight.len() >= max {
                    return Gate::Refuse;
                }
                let number = self.number;
                self.number += 1;
                in_flight.push(InFlight { number, lost_at: now + PROBE_MAX });
                Gate::Probe(Probe { epoch: self.epoch, number })
            }
        }
    }

    fn probed(&mut self, probe: Probe, ended: Probed, unit: f64, now: Instant) -> Outputs {
        let State::HalfOpen { in_flight, succeeded } = &mut self.state else { return Outputs::new() };
        let known = in_flight.iter().position(|under_way| under_way.number == probe.number);
        let Some(index) = known.filter(|_| probe.epoch == self.epoch) else { return Outputs::new() };
        in_flight.swap_remove(index);
        match (ended, self.settings.slow_call) {
            (Probed::Ignored, _) => Outputs::new(),
            (Probed::Failed, _) => {
                let succeeded = *succeeded;
                self.open(Cause::ProbeFailed { succeeded }, unit, now)
            }
            (Probed::Slow, Some(slow)) => {
                self.open(Cause::ProbeSlow { threshold: slow.threshold.get() }, unit, now)
            }
            (Probed::Slow, None) | (Probed::Succeeded, _) => {
                *succeeded = succeeded.saturating_add(1);
                let succeeded = *succeeded;
                if succeeded < success_threshold(&self.settings) {
                    return Outputs::new();
                }
                self.close(Cause::ProbesSucceeded { succeeded }, now)
            }
        }
    }

    fn open(&mut self, cause: Cause, unit: f64, now: Instant) -> Outputs {
        // What opens again within a window of its closing was closed too early: its wait goes on growing.
        let closed_for = now.saturating_duration_since(self.since);
        if matches!(self.state, State::Closed { .. }) && closed_for > self.settings.window.get() {
            self.openings = 0;
        }
        let until = now + wait(&self.settings, self.openings, unit);
        self.openings = self.openings.saturating_add(1);
        self.unfit_since.get_or_insert(now);
        self.enter(State::Open { until }, cause, now)
    }

    fn close(&mut self, cause: Cause, now: Instant) -> Outputs {
        self.unfit_since = None;
        self.enter(closed(&self.settings, now), cause, now)
    }

    fn enter(&mut self, state: State, cause: Cause, now: Instant) -> Outputs {
        self.state = state;
        self.epoch += 1;
        self.since = now;
        if self.transitions.len() == TRANSITIONS_MAX {
            self.transitions.pop_front();
        }
        self.transitions.push_back(Transition { at: now, to: self.position(), cause });
        smallvec![Output::Publish]
    }

    fn check_invariants(&self) {
        debug_assert!((1..=TRANSITIONS_MAX).contains(&self.transitions.len()), "the history is bounded");
        debug_assert!(self.since <= self.latest, "no state began in the future");
        let is_closed = matches!(self.state, State::Closed { .. });
        debug_assert_eq!(is_closed, self.unfit_since.is_none(), "unfit is what is not closed");
        debug_assert!(is_closed || self.openings > 0, "what is not closed was opened");
        if let State::HalfOpen { in_flight, succeeded } = &self.state {
            debug_assert!(*succeeded < success_threshold(&self.settings), "enough successes close it");
            debug_assert!(in_flight.iter().all(|probe| probe.number < self.number), "numbers go up");
        }
    }
}

fn closed(settings: &Breaker, now: Instant) -> State {
    State::Closed { window: Window::new(settings.window.get(), now), streaks: Streaks::default() }
}

fn opens_at_all(settings: &Breaker) -> bool {
    settings.consecutive_failures.is_some()
        || settings.failure_ratio.is_some()
        || settings.slow_call.is_some()
}

fn success_threshold(settings: &Breaker) -> u32 {
    settings.success_threshold.max(1)
}

/// What opens it, if anything does.
fn to_open(settings: &Breaker, counts: Counts, failures: u32) -> Option<Cause> {
    if settings.consecutive_failures.is_some_and(|threshold| failures >= threshold.max(1)) {
        return Some(Cause::ConsecutiveFailures { failures });
    }
    let requests = counts.requests();
    if requests < settings.requests_min.max(1) {
        return None;
    }
    let within = settings.window.get();
    let reaches = |part: u32, ratio: f64| f64::from(part) / f64::from(requests) >= ratio;
    if settings.failure_ratio.is_some_and(|ratio| reaches(counts.failures, ratio)) {
        return Some(Cause::FailureRatio { failures: counts.failures, requests, within });
    }
    let slow = settings.slow_call.filter(|slow| reaches(counts.slow, slow.ratio))?;
    Some(Cause::SlowCalls { slow: counts.slow, requests, within, threshold: slow.threshold.get() })
}

/// How long it stays open: the first wait, doubled with each opening before, of which a part is drawn at random.
fn wait(settings: &Breaker, openings_before: u32, unit: f64) -> Duration {
    let doubled = settings.open_initial.get().saturating_mul(1 << openings_before.min(DOUBLINGS_MAX));
    let longest = doubled.min(settings.open_max.get());
    let jitter = settings.open_jitter.clamp(0.0, 1.0);
    longest.mul_f64(1.0 - jitter * (1.0 - unit.clamp(0.0, 1.0)))
}
