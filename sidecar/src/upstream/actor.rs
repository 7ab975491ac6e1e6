//! The shell of an upstream's machines: it decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, ActorContext as _, AsyncContext, Context, Message, SpawnHandle};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::admission::Told;
use super::attempt::{AskProbe, ProbeGrant};
use super::budget::Block;
use super::concurrency::View as LimiterView;
use super::digest::{Digest, PERIOD, Scope};
use super::events::Events;
use super::machine::{Input, Machine, Output};
use super::mailbox::Hears;
use super::queue::View as QueueView;
use super::settings::Settings;
use super::supervisor::SupervisorHandle;
use super::supply::Supply;
use super::tokens::AskTokens;
use super::wait::{Answer, Ask, Cancelled, Grant, Returned};
use super::{Key, Snapshot, Upstream, breaker, budget};

/// Owns: an upstream's endpoints with their breakers and health, its limit, its queue, its retry budget, and where its
/// permits lie. Receives: [`Input`], [`Digest`], [`Ask`], [`Cancelled`], [`Returned`], [`AskProbe`], [`AskTokens`],
/// [`Configure`], [`Retire`]. Publishes: [`super::Snapshot`], [`View`]. Capacity: [`super::mailbox::CAPACITY`]. On full: the
/// sender goes on with what it knows; who asks is refused. On restart: a new one resumes from the last snapshot,
/// incarnation + 1, and the shards' digests; who waited asks again.
pub struct UpstreamActor {
    upstream: Arc<Upstream>,
    machine: Machine,
    supply: Supply<Answer>,
    events: Arc<Events>,
    random: SmallRng,
    /// When it was shown last, and whether anything has changed since.
    shown_at: Instant,
    is_shown: bool,
    timer: Option<(Instant, SpawnHandle)>,
    is_retired: bool,
    guard: Guard,
}

/// The directory no longer lists its upstream: it ends once nobody waits with it. From the supervisor. Lost: never, the
/// supervisor sends it again.
pub struct Retire;
impl Message for Retire {
    type Result = ();
}

/// Other settings hold from now on. From the supervisor. Lost: never, the supervisor sends it again.
pub struct Configure(pub Settings);
impl Message for Configure {
    type Result = ();
}

/// How its upstream stood at one instant.
#[derive(Debug)]
pub struct View {
    pub at: Instant,
    pub snapshot: Arc<Snapshot>,
    pub queue: QueueView,
    pub limiter: LimiterView,
    pub budget: budget::View,
    pub breaker: Option<breaker::View>,
    pub endpoints: Vec<(SocketAddr, breaker::View)>,
}

impl Message for Input {
    type Result = ();
}

/// The actor ended by a panic. To the supervisor, which starts a new one.
#[derive(Debug, Clone)]
pub struct Crashed {
    pub key: Key,
    /// What it was about: a message's type, or its timer.
    pub about: &'static str,
}
impl Message for Crashed {
    type Result = ();
}

/// Notices an unwind through the actor: actix drops an actor that panicked, and tells nobody.
struct Guard {
    upstream: Arc<Upstream>,
    supervisor: SupervisorHandle,
    about: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // Nobody waits with it any more; until there is another, idle permits are for whoever comes.
        self.upstream.leases.flow();
        let crashed = Crashed { key: self.upstream.key.clone(), about: self.about };
        self.supervisor.tell_of_crash(crashed);
    }
}

impl UpstreamActor {
    /// `machine` is what the snapshot says.
    pub fn new(
        upstream: Arc<Upstream>,
        machine: Machine,
        supervisor: SupervisorHandle,
        events: Arc<Events>,
    ) -> Self {
        let (snapshot, now) = (upstream.snapshot.load(), Instant::now());
        let supply = Supply::resume(&snapshot, &upstream.leases, now);
        let guard = Guard { upstream: Arc::clone(&upstream), supervisor, about: "its start" };
        Self {
            upstream,
            machine,
            supply,
            events,
            random: SmallRng::from_os_rng(),
            shown_at: now,
            is_shown: false,
            timer: None,
            is_retired: false,
            guard,
        }
    }

    /// What it does from now on, should it panic over that. `about`: a type's name.
    pub(super) fn is_about(&mut self, about: &'static str) {
        self.guard.about = about.rsplit("::").next().unwrap_or(about);
    }

    fn input(&mut self, input: Input, now: Instant) {
        let unit = self.random.random();
        let output = self.machine.handle(input, unit, now);
        self.apply(output);
    }

    fn apply(&mut self, output: Output) {
        match output {
            Output::Publish => self.upstream.snapshot.store(Arc::new(self.machine.snapshot())),
            Output::Nothing => {}
        }
        for event in self.machine.take_events() {
            self.events.happened(&self.upstream.key, event);
        }
    }

    fn tell(&self, told: Vec<Told<'_, Answer>>) {
        for told in told {
            // Whoever is gone gives its permit back by dropping it.
            let _gone = match told {
                Told::Granted { waiter, shard, permit } => {
                    permit.grant();
                    waiter.send(Ok(Grant::new(&self.upstream, shard)))
                }
                Told::Dropped { waiter, cause } => waiter.send(Err(cause)),
            };
        }
    }

    /// What it has become is shown before long, one consistent picture at a time.
    fn show(&mut self, now: Instant) {
        self.is_shown = now.saturating_duration_since(self.shown_at) >= PERIOD;
        if !self.is_shown {
            return;
        }
        self.shown_at = now;
        let snapshot = self.upstream.snapshot.load();
        let of = |address: SocketAddr| self.machine.breaker_view(Scope::Endpoint(address), now);
        let endpoints = snapshot.endpoints.iter().filter_map(|e| Some((e.address, of(e.address)?))).collect();
        self.upstream.view.store(Some(Arc::new(View {
            at: now,
            snapshot: Arc::clone(&snapshot),
            queue: self.supply.queue_view(now),
            limiter: self.supply.limiter_view(),
            budget: self.supply.budget_view(now),
            breaker: self.machine.breaker_view(Scope::Service, now),
            endpoints,
        })));
    }

    /// After whatever happened: shown, and one timer for whatever is due first.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if self.is_retired && self.supply.is_empty() {
            return ctx.stop();
        }
        self.show(Instant::now());
        let due = [
            self.machine.poll_timeout(),
            self.supply.poll_timeout(),
            (!self.is_shown).then(|| self.shown_at + PERIOD),
        ];
        let Some(due) = due.into_iter().flatten().min() else { return };
        // One that is early does no harm, and what is due first is put off by most of what happens.
        if self.timer.as_ref().is_some_and(|(at, _)| *at <= due) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(due.saturating_duration_since(Instant::now()), |this, ctx| {
            this.timer = None;
            this.is_about("its timer");
            let now = Instant::now();
            let output = this.machine.handle_timeout(now);
            this.apply(output);
            let told = this.supply.handle_timeout(&this.upstream.leases, now);
            this.tell(told);
            this.arm(ctx);
        });
        self.timer = Some((due, timer));
    }
}

impl Actor for UpstreamActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.arm(ctx);
    }
}

impl Hears<Input> for UpstreamActor {
    fn hear(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.input(input, Instant::now());
        self.arm(ctx);
    }
}

impl Hears<Digest> for UpstreamActor {
    fn hear(&mut self, digest: Digest, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let told = self.supply.seen(&digest, &self.upstream.leases, now);
        self.tell(told);
        for (scope, outcomes) in digest.outcomes {
            self.input(Input::Outcomes { scope, outcomes }, now);
        }
        self.arm(ctx);
    }
}

impl Hears<Configure> for UpstreamActor {
    fn hear(&mut self, Configure(settings): Configure, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let told = self.supply.configured(&settings, &self.upstream.leases, now);
        self.tell(told);
        let output = self.machine.configure(settings, now);
        self.apply(output);
        self.arm(ctx);
    }
}

impl Hears<Retire> for UpstreamActor {
    fn hear(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.is_retired = true;
        self.arm(ctx);
    }
}

impl Hears<Ask> for UpstreamActor {
    fn hear(&mut self, Ask { asking, counted }: Ask, ctx: &mut Context<Self>) {
        drop(counted);
        // It went away while its message waited.
        if asking.waiter.is_closed() {
            return;
        }
        let told = self.supply.asked(asking, &self.upstream.leases, Instant::now());
        self.tell(told);
        self.arm(ctx);
    }
}

impl Hears<Cancelled> for UpstreamActor {
    fn hear(&mut self, Cancelled(id): Cancelled, ctx: &mut Context<Self>) {
        let told = self.supply.cancelled(id, &self.upstream.leases, Instant::now());
        self.tell(told);
        self.arm(ctx);
    }
}

impl Hears<Returned> for UpstreamActor {
    fn hear(&mut self, _: Returned, ctx: &mut Context<Self>) {
        let told = self.supply.returned(&self.upstream.leases, Instant::now());
        self.tell(told);
        self.arm(ctx);
    }
}

impl Hears<AskProbe> for UpstreamActor {
    fn hear(&mut self, AskProbe(scope): AskProbe, ctx: &mut Context<Self>) -> Option<ProbeGrant> {
        let (gate, output) = self.machine.ask_probe(scope, Instant::now());
        self.apply(output);
        self.arm(ctx);
        ProbeGrant::new(&self.upstream, scope, gate)
    }
}

impl Hears<AskTokens> for UpstreamActor {
    fn hear(&mut self, AskTokens(spent): AskTokens, _: &mut Context<Self>) -> Option<Block> {
        self.supply.tokens(spent, Instant::now())
    }
}
