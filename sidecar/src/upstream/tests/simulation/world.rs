//! The world: shards, an actor that may crash at any message, and a scheduler that draws who goes on next.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dice::Dice;
use super::ledger::Ledger;
use super::plan::Plan;
use super::shard::{Answer, Request, Shard, State, breaker};
use super::wire::{Held, Message, ProbeRight, Waiter, Wire};
use crate::upstream::admission::{Asking, Told};
use crate::upstream::breaker::{Gate, Outcome, Pace, Position, Probed, Urgency};
use crate::upstream::budget::Block;
use crate::upstream::digest::{PERIOD, Scope, Spent};
use crate::upstream::lease::Take;
use crate::upstream::machine::{Input, Machine, Output};
use crate::upstream::queue::PeerKey;
use crate::upstream::settings::Settings;
use crate::upstream::supply::Supply;
use crate::upstream::wait::{ASKED_MAX, Askers, SLACK};
use crate::upstream::{CLASSES_MAX, PENDING_MAX, Snapshot, tokens};

/// A message, a timer and a digest are late by so much at most, and as much again by the steps of time.
const DELAY_MAX: Duration = Duration::from_millis(15);
/// A crash is followed by a new actor within so much.
const RESTART_MAX: Duration = Duration::from_millis(60);
/// The supervisor tries again where its message was not taken, as [`crate::upstream::supervisor`] does.
const RETELL_PAUSE: Duration = Duration::from_millis(100);
/// Steps after the last request came, within which all must be over.
const DRAIN_STEPS_MAX: u32 = 20_000;

struct Actor {
    machine: Machine,
    supply: Supply<Waiter>,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Arrive,
    Deliver(usize, Fate),
    Timer(Fate),
    /// Sees its answer.
    Wake(usize),
    /// Its client goes away.
    Leave(usize),
    /// Its answer comes from the endpoint.
    End(usize),
    Restart,
    Configure,
    Weather,
    /// An endpoint cannot be connected to, or can again.
    Connect,
    Pass,
}

/// What becomes of the actor in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Lives,
    /// Panics: before the message, in the midst of what it does because of it, or after.
    Crashes,
}

pub struct World {
    pub dice: Dice,
    pub plan: Plan,
    pub ledger: Ledger,
    /// Every step is told.
    pub is_told: bool,
    wire: Rc<Wire>,
    askers: Arc<Askers>,
    published: Arc<Snapshot>,
    wanted: Settings,
    actor: Option<Actor>,
    crashed_at: Instant,
    /// The supervisor's messages were not taken.
    retell_at: Option<Instant>,
    shards: Vec<Shard>,
    requests: Vec<Request>,
    fails: bool,
}

impl World {
    pub fn new(mut dice: Dice, plan: Plan) -> Self {
        let now = Instant::now();
        let wanted = plan.settings(&mut dice);
        let empty = Snapshot {
            generation: 0,
            incarnation: 0,
            identity: None,
            settings: Arc::new(wanted.clone()),
            endpoints: Vec::new(),
            breaker: None,
            panic: None,
        };
        let mut machine = Machine::resume(&empty, now);
        machine.handle(Plan::directory(), 0.0, now);
        let published = Arc::new(machine.snapshot());
        let wire = Rc::new(Wire::new(&plan, wanted.concurrency.initial, now));
        let supply = Supply::resume(&published, &wire.leases, now);
        let shards = (0..plan.shards).map(|number| Shard::new(number, &plan.scopes, now)).collect();
        let ledger = Ledger::new(&wire, &published);
        Self {
            dice,
            plan,
            ledger,
            is_told: false,
            wire,
            askers: Arc::default(),
            published,
            wanted,
            actor: Some(Actor { machine, supply }),
            crashed_at: now,
            retell_at: None,
            shards,
            requests: Vec::new(),
            fails: false,
        }
    }

    fn now(&self) -> Instant {
        self.wire.now.get()
    }

    /// The supervisor, and whoever gives back on the control arbiter.
    fn control(&self) -> usize {
        self.plan.shards
    }

    /// Draws one of what may happen, and lets it; `false`: nothing may.
    pub fn step(&mut self) -> bool {
        let steps = self.possible();
        if steps.is_empty() {
            return false;
        }
        let step = self.dice.pick(&steps);
        if self.is_told {
            eprintln!("{:?} {step:?}", self.now().duration_since(self.ledger.start));
        }
        self.act(step);
        self.check();
        true
    }

    /// Messages for which there was no room.
    pub fn lost(&self) -> u32 {
        self.wire.lost.get()
    }

    fn check(&mut self) {
        let supply = self.actor.as_ref().map(|actor| &actor.supply);
        self.ledger.check(&self.wire, &self.published, supply);
    }

    fn possible(&mut self) -> Vec<(u64, Step)> {
        let now = self.now();
        let mut steps = Vec::new();
        if self.plan.arrivals > 0 {
            steps.push((12, Step::Arrive));
        }
        let may_crash = self.plan.crashes > 0 && self.actor.is_some();
        let eagerness = self.plan.eagerness;
        let mut with_fate = |step: &dyn Fn(Fate) -> Step| {
            steps.push((eagerness, step(Fate::Lives)));
            if may_crash {
                steps.push((1, step(Fate::Crashes)));
            }
        };
        let told: Vec<usize> = {
            let mailbox = self.wire.mailbox.borrow();
            (0..mailbox.len()).filter(|&from| !mailbox[from].is_empty()).collect()
        };
        for from in told {
            with_fate(&|fate| Step::Deliver(from, fate));
        }
        if self.timer_due().is_some_and(|at| at <= now) {
            with_fate(&Step::Timer);
        }
        for (index, request) in self.requests.iter_mut().enumerate() {
            if request.is_answered() {
                steps.push((20, Step::Wake(index)));
            }
            if matches!(request.state, State::Runs { .. }) {
                steps.push((4, Step::End(index)));
            }
            // Without time it is the same as its end for one that runs.
            if !request.is_done() && (self.plan.time_passes || !matches!(request.state, State::Runs { .. })) {
                steps.push((1, Step::Leave(index)));
            }
        }
        if self.actor.is_none() {
            steps.push((20, Step::Restart));
        }
        if self.plan.time_passes {
            steps.push((30, Step::Pass));
        }
        if self.plan.changes {
            steps.extend([(1, Step::Configure), (1, Step::Weather), (1, Step::Connect)]);
        }
        steps
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Arrive => self.arrive(),
            Step::Deliver(from, fate) => self.deliver(from, fate),
            Step::Timer(fate) => self.timer(fate),
            Step::Wake(index) => self.wake(index),
            Step::Leave(index) => self.leave(index),
            Step::End(index) => self.end(index),
            Step::Restart => self.restart(),
            Step::Configure => {
                self.wanted = self.plan.settings(&mut self.dice);
                self.tell_settings();
            }
            Step::Weather => self.fails = self.dice.once_in(2),
            Step::Connect => {
                let address = Plan::any_endpoint(&mut self.dice);
                let input = if self.dice.once_in(2) {
                    Input::ConnectFailed { address, cause: "refused".into() }
                } else {
                    Input::Connected { address }
                };
                // Lost: the next attempt says so again.
                let _lost = self.wire.tell(0, Message::Input(input));
            }
            Step::Pass => self.pass(),
        }
    }

    // The actor, as its handlers have it.

    fn deliver(&mut self, from: usize, fate: Fate) {
        let (_, message) = self.wire.mailbox.borrow_mut()[from].pop_front().expect("it was there");
        let now = self.now();
        if fate == Fate::Crashes && self.dice.once_in(3) {
            drop(message);
            return self.crash();
        }
        let wire = Rc::clone(&self.wire);
        let mut actor = self.actor.take().expect("a mailbox is its actor's");
        let (told, output) = match message {
            // It went away while its message waited.
            Message::Ask { asking, .. } if asking.waiter.answer.is_closed() => (Vec::new(), Output::Nothing),
            Message::Ask { asking, _counted: counted } => {
                drop(counted);
                wire.return_lost.set(false);
                (actor.supply.asked(asking, &wire.leases, now), Output::Nothing)
            }
            Message::Cancelled(id) => {
                wire.return_lost.set(false);
                (actor.supply.cancelled(id, &wire.leases, now), Output::Nothing)
            }
            Message::Returned => {
                wire.return_lost.set(false);
                (actor.supply.returned(&wire.leases, now), Output::Nothing)
            }
            Message::Configure(settings) => {
                let told = actor.supply.configured(&settings, &wire.leases, now);
                (told, actor.machine.configure(*settings, now))
            }
            Message::Digest(digest) => {
                let told = actor.supply.seen(&digest, &wire.leases, now);
                let mut output = Output::Nothing;
                for (scope, outcomes) in digest.outcomes {
                    let input = Input::Outcomes { scope, outcomes };
                    if actor.machine.handle(input, self.dice.unit(), now) == Output::Publish {
                        output = Output::Publish;
                    }
                }
                (told, output)
            }
            Message::Input(input) => (Vec::new(), actor.machine.handle(input, self.dice.unit(), now)),
            Message::AskProbe { scope, answer, shard } => {
                let (gate, output) = actor.machine.ask_probe(scope, now);
                let right = match gate {
                    Gate::Probe(probe) => Some(ProbeRight::new(&wire, scope, probe, shard)),
                    Gate::Admit { .. } | Gate::Refuse => None,
                };
                // Whoever is gone gives it back by dropping it.
                let _gone = answer.send(right);
                (Vec::new(), output)
            }
            Message::AskTokens { spent, answer } => {
                // Lost: its tokens expire.
                let _gone = answer.send(actor.supply.tokens(spent, now));
                (Vec::new(), Output::Nothing)
            }
        };
        self.carry_out(actor, told, output, fate);
    }

    fn timer(&mut self, fate: Fate) {
        let now = self.now();
        let wire = Rc::clone(&self.wire);
        let mut actor = self.actor.take().expect("a timer is its actor's");
        let output = actor.machine.handle_timeout(now);
        let told = actor.supply.handle_timeout(&wire.leases, now);
        wire.return_lost.set(false);
        self.carry_out(actor, told, output, fate);
    }

    fn timer_due(&self) -> Option<Instant> {
        let actor = self.actor.as_ref()?;
        actor.machine.poll_timeout().into_iter().chain(actor.supply.poll_timeout()).min()
    }

    fn carry_out(&mut self, mut actor: Actor, told: Vec<Told<'_, Waiter>>, output: Output, fate: Fate) {
        let done = match fate {
            Fate::Lives => u64::MAX,
            Fate::Crashes => self.dice.below(told.len() as u64 + 2),
        };
        for (_, told) in (0..done).zip(told) {
            match told {
                Told::Granted { waiter, shard, permit } => {
                    assert!(
                        waiter.deadline.is_none_or(|at| at > self.now()),
                        "dispatched after its deadline"
                    );
                    permit.grant();
                    // Whoever is gone gives it back by dropping it.
                    let _gone = waiter.answer.send(Ok(Held::new(&self.wire, shard)));
                }
                Told::Dropped { waiter, cause } => {
                    let _gone = waiter.answer.send(Err(cause));
                }
            }
        }
        // What it did not come to say is dropped above, as a panic drops it.
        if fate == Fate::Lives || done == 0 {
            self.publish(&mut actor, output);
        }
        self.actor = Some(actor);
        match fate {
            Fate::Lives => self.check(),
            Fate::Crashes => self.crash(),
        }
    }

    fn publish(&mut self, actor: &mut Actor, output: Output) {
        actor.machine.take_events();
        match output {
            Output::Publish => self.published = Arc::new(actor.machine.snapshot()),
            Output::Nothing => {}
        }
    }

    fn crash(&mut self) {
        self.plan.crashes -= 1;
        self.ledger.crashes += 1;
        self.wire.is_up.set(false);
        self.actor = None;
        let mailbox: Vec<_> = self.wire.mailbox.borrow_mut().iter_mut().map(std::mem::take).collect();
        drop(mailbox);
        self.wire.leases.flow();
        self.crashed_at = self.now();
    }

    fn restart(&mut self) {
        let now = self.now();
        let machine = Machine::restart(&self.published, now);
        self.published = Arc::new(machine.snapshot());
        let supply = Supply::resume(&self.published, &self.wire.leases, now);
        self.actor = Some(Actor { machine, supply });
        self.wire.return_lost.set(false);
        self.wire.is_up.set(true);
        self.tell_settings();
    }

    fn tell_settings(&mut self) {
        let settings = Message::Configure(Box::new(self.wanted.clone()));
        let is_told = self.wire.tell(self.control(), settings).is_ok()
            && self.wire.tell(self.control(), Message::Input(Plan::directory())).is_ok();
        self.retell_at = (!is_told).then(|| self.now() + RETELL_PAUSE);
    }

    // The shards, as `share.rs`, `wait.rs`, `attempt.rs`, `tokens.rs` and `digest.rs` have it.

    fn arrive(&mut self) {
        self.plan.arrivals -= 1;
        let now = self.now();
        let shard = self.plan.any_shard(&mut self.dice);
        let (class, peer) = self.plan.any_caller(&mut self.dice);
        let deadline = self.plan.any_deadline(&mut self.dice).map(|within| now + within);
        let peer = PeerKey(format!("peer-{peer}").into());
        let request = Request { shard, class, peer, deadline, attempts: 1, state: State::Done, since: now };
        self.shards[shard].pending.began += 1;
        self.note(shard, Urgency::Later);
        self.ledger.began(now);
        self.requests.retain(|request| !request.is_done());
        self.requests.push(request);
        self.admit(self.requests.len() - 1);
    }

    fn set(&mut self, index: usize, state: State) {
        let since = self.now();
        let request = &mut self.requests[index];
        (request.state, request.since) = (state, since);
    }

    fn admit(&mut self, index: usize) {
        let shard = self.requests[index].shard;
        let depth = self.actor.as_ref().map_or(0, |a| a.supply.queue_view(self.now()).depth);
        let took = self.wire.leases.take(shard);
        if matches!(took, Take::Taken | Take::TakenAndMoved) {
            assert_eq!(depth, 0, "overtook those who queue");
        }
        match took {
            Take::Taken => self.admitted(index, Held::new(&self.wire, shard)),
            Take::TakenAndMoved => unreachable!("no queue begins within a take here"),
            Take::Spent | Take::Queueing if !self.published.settings.queues() => {
                self.set(index, State::Done);
                self.ledger.refused += 1;
            }
            Take::Spent | Take::Queueing => self.ask(index, 1),
        }
    }

    fn ask(&mut self, index: usize, asked: usize) {
        let request = &self.requests[index];
        let (shard, class, deadline) = (request.shard, request.class, request.deadline);
        let id = self.shards[shard].next_id();
        let (sender, answer) = Answer::channel();
        let waiter = Waiter { answer: sender, deadline };
        let asking = Asking { id, class, peer: request.peer.clone(), deadline, waiter };
        let is_told = self
            .askers
            .count(class)
            .is_some_and(|counted| self.wire.tell(shard, Message::Ask { asking, _counted: counted }).is_ok());
        let within = self.published.settings.queue.wait_max.get() + SLACK;
        let state = if is_told { State::Waits { id, answer, within, asked } } else { State::Done };
        self.set(index, state);
    }

    fn wake(&mut self, index: usize) {
        let now = self.now();
        match std::mem::replace(&mut self.requests[index].state, State::Done) {
            State::Waits { answer, asked, .. } => match answer.take() {
                Some(Ok(held)) => {
                    if self.requests[index].deadline.is_none_or(|deadline| deadline > now) {
                        self.admitted(index, held);
                    }
                }
                None if asked < ASKED_MAX => self.ask(index, asked + 1),
                Some(Err(_)) | None => self.ledger.refused += 1,
            },
            State::AsksProbe { held, scope, answer } => {
                let right = answer.take().flatten();
                match right {
                    Some(right) => self.run(index, held, scope, Some(right)),
                    None => self.over(index, held),
                }
            }
            State::AsksToken { answer } => {
                if let Some(block) = answer.take().flatten() {
                    let shard = &mut self.shards[self.requests[index].shard];
                    (shard.block, shard.block_size) = (Some(block), block.tokens);
                    if shard.take_token(now) {
                        self.retry(index);
                    }
                }
            }
            State::Runs { .. } | State::Done => unreachable!("it asked for nothing"),
        }
    }

    /// Has a permit.
    fn admitted(&mut self, index: usize, held: Held) {
        let shard = self.requests[index].shard;
        self.shards[shard].begins();
        self.shards[shard].adopt(&self.published);
        let scope = self.plan.any_scope(&mut self.dice);
        match breaker(&self.published, scope) {
            None | Some((_, Position::Closed)) => self.run(index, held, scope, None),
            Some((_, Position::Open { .. })) => self.over(index, held),
            Some((_, Position::HalfOpen)) => {
                let (sender, answer) = Answer::channel();
                let question = Message::AskProbe { scope, answer: sender, shard };
                // Lost: its sender is gone with it.
                let _lost = self.wire.tell(shard, question);
                self.set(index, State::AsksProbe { held, scope, answer });
            }
        }
    }

    fn run(&mut self, index: usize, held: Held, scope: Scope, probe: Option<ProbeRight>) {
        let epoch = breaker(&self.published, scope).map_or(0, |(epoch, _)| epoch);
        self.set(index, State::Runs { held, scope, epoch, probe });
    }

    fn over(&mut self, index: usize, held: Held) {
        self.shards[self.requests[index].shard].in_flight -= 1;
        drop(held);
        self.set(index, State::Done);
    }

    fn end(&mut self, index: usize) {
        // Rarely, or mostly.
        let fails = self.plan.time_passes && self.dice.once_in(if self.fails { 2 } else { 20 });
        self.ended(index, if fails { Outcome::Failure } else { Outcome::Success });
        let request = &self.requests[index];
        if fails && request.attempts <= self.plan.retries {
            let shard = &mut self.shards[request.shard];
            if shard.take_token(self.wire.now.get()) {
                self.retry(index);
            } else {
                self.ask_tokens(index);
            }
        }
    }

    fn ended(&mut self, index: usize, outcome: Outcome) {
        let now = self.now();
        let request = &mut self.requests[index];
        let State::Runs { held, scope, epoch, probe } = std::mem::replace(&mut request.state, State::Done)
        else {
            unreachable!("it runs");
        };
        let took = now.duration_since(request.since);
        let number = request.shard;
        let shard = &mut self.shards[number];
        match outcome {
            Outcome::Success => shard.pending.sample.answered(took.as_secs_f64() * 1e6, 1),
            Outcome::Failure => shard.pending.sample.overloads += 1,
            Outcome::Ignored => {}
        }
        shard.adopt(&self.published);
        let urgency = shard.tally(scope).record(outcome, Pace::Prompt, epoch, now);
        if let Some(probe) = probe {
            probe.tell(match outcome {
                Outcome::Success => Probed::Succeeded,
                Outcome::Failure => Probed::Failed,
                Outcome::Ignored => Probed::Ignored,
            });
        }
        self.note(number, urgency);
        self.over(index, held);
    }

    fn ask_tokens(&mut self, index: usize) {
        let shard = self.requests[index].shard;
        let spent: Option<Spent> = self.shards[shard].drop_block();
        let (sender, answer) = Answer::<Option<Block>>::channel();
        // Lost: its sender is gone with it.
        let _lost = self.wire.tell(shard, Message::AskTokens { spent, answer: sender });
        self.set(index, State::AsksToken { answer });
    }

    /// A token was spent.
    fn retry(&mut self, index: usize) {
        self.note(self.requests[index].shard, Urgency::Later);
        let budget = self.published.settings.client.retry_budget;
        self.ledger.retried(&budget, self.wire.now.get());
        self.requests[index].attempts += 1;
        self.admit(index);
    }

    /// Its client went away, or waits no longer.
    fn leave(&mut self, index: usize) {
        match &self.requests[index].state {
            State::Runs { .. } => return self.ended(index, Outcome::Ignored),
            State::Waits { .. } | State::AsksProbe { .. } | State::AsksToken { .. } | State::Done => {}
        }
        let shard = self.requests[index].shard;
        match std::mem::replace(&mut self.requests[index].state, State::Done) {
            State::Waits { id, answer, .. } => {
                drop(answer);
                // Lost: its place is free when its wait is over.
                let _lost = self.wire.tell(shard, Message::Cancelled(id));
            }
            State::AsksProbe { held, .. } => self.over(index, held),
            State::AsksToken { .. } | State::Runs { .. } | State::Done => {}
        }
    }

    fn note(&mut self, shard: usize, urgency: Urgency) {
        let due = self.now() + PERIOD;
        match urgency {
            Urgency::Now => self.send_digest(shard),
            Urgency::Later => _ = self.shards[shard].digest_due.get_or_insert(due),
        }
    }

    fn send_digest(&mut self, number: usize) {
        let now = self.now();
        let shard = &mut self.shards[number];
        match self.wire.tell(number, Message::Digest(shard.digest())) {
            Ok(()) => shard.digest_taken(now),
            Err(_) => self.note(number, Urgency::Later),
        }
    }

    // Time.

    /// Time passes, and what has waited for long enough happens before.
    fn pass(&mut self) {
        let now = self.now();
        if self.actor.is_none() && now.duration_since(self.crashed_at) >= RESTART_MAX {
            self.restart();
        }
        if self.retell_at.is_some_and(|at| at <= now) {
            self.tell_settings();
        }
        for from in 0..=self.plan.shards {
            while self.is_overdue(from) {
                self.deliver(from, Fate::Lives);
            }
        }
        if self.timer_due().is_some_and(|at| at + DELAY_MAX <= now) {
            self.timer(Fate::Lives);
        }
        for number in 0..self.plan.shards {
            if self.shards[number].digest_due.is_some_and(|at| at <= now) {
                self.shards[number].digest_due = None;
                self.send_digest(number);
            }
        }
        (0..self.requests.len()).for_each(|index| self.waits_no_longer(index));
        let pause = Duration::from_micros(100 * self.dice.between(1, 100));
        self.wire.now.set(now + pause);
    }

    fn is_overdue(&self, from: usize) -> bool {
        let mailbox = self.wire.mailbox.borrow();
        self.actor.is_some() && mailbox[from].front().is_some_and(|(at, _)| *at + DELAY_MAX <= self.now())
    }

    fn waits_no_longer(&mut self, index: usize) {
        let now = self.now();
        let request = &mut self.requests[index];
        let is_answered = request.is_answered();
        let waited = now.duration_since(request.since);
        let most = match &request.state {
            State::Waits { within, .. } => *within,
            State::AsksProbe { .. } | State::AsksToken { .. } => tokens::ASK_MAX,
            State::Runs { .. } | State::Done => return,
        };
        if is_answered || waited < most {
            return;
        }
        if matches!(request.state, State::Waits { .. }) {
            let settings = &self.published.settings.queue;
            assert!(
                settings.wait_max.get() + SLACK > most,
                "nobody answers within {most:?}, though no longer wait is allowed"
            );
        }
        self.leave(index);
    }

    /// No more requests come: all that are there end, and then nothing is left.
    pub fn drain(&mut self) {
        if self.plan.changes {
            self.act(Step::Configure);
            if self.actor.is_some() && self.dice.once_in(3) {
                // What it was told is lost with it.
                self.plan.crashes = 1;
                self.crash();
            }
        }
        (self.plan.arrivals, self.plan.crashes, self.plan.changes) = (0, 0, false);
        self.plan.time_passes = true;
        if self.actor.is_none() {
            self.restart();
        }
        for _ in 0..DRAIN_STEPS_MAX {
            let is_over = self.requests.iter().all(Request::is_done)
                && self.wire.mailbox.borrow().iter().all(std::collections::VecDeque::is_empty)
                && self.retell_at.is_none()
                && *self.published.settings == self.wanted;
            if is_over {
                return self.assert_empty();
            }
            assert!(self.step(), "time passes");
        }
        panic!("something is left after {DRAIN_STEPS_MAX} steps");
    }

    fn assert_empty(&self) {
        let leases = &self.wire.leases;
        assert_eq!(self.wire.held.get(), 0);
        assert_eq!(leases.idle().iter().sum::<u32>(), leases.limit(), "permits out equal permits in");
        assert!(!leases.is_queueing());
        let actor = self.actor.as_ref().expect("it was started anew");
        assert_eq!(actor.supply.queue_view(self.now()).depth, 0, "who left holds no place");
        assert!(self.wire.probes.borrow().values().all(|live| *live == 0));
        assert!(self.shards.iter().all(|shard| shard.in_flight == 0));
        for class in 0..CLASSES_MAX {
            let all: Option<Vec<_>> = (0..PENDING_MAX).map(|_| self.askers.count(class)).collect();
            assert!(all.is_some(), "whoever is heard, or lost, is counted no more");
        }
    }
}
