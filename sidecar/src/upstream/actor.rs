//! The shell of an upstream's machines: it decides nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, Recipient, SpawnHandle};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::admission::{Admission, Told};
use super::attempt::{AskProbe, ProbeGrant};
use super::concurrency::{Limiter, Sample, View as LimiterView};
use super::digest::{Digest, PERIOD, Scope, Spent};
use super::events::Events;
use super::machine::{Input, Machine, Output};
use super::queue::View as QueueView;
use super::settings::Settings;
use super::tokens::AskTokens;
use super::wait::{Answer, Ask, Cancelled, Grant, Returned};
use super::{CLASSES_MAX, Key, PENDING_MAX, Upstream};
use super::{breaker, budget};

/// Messages that wait: what every class may have asked for, and as many facts as an upstream's permits can cause at once.
const MAILBOX_MAX: usize = CLASSES_MAX * PENDING_MAX as usize + 2_048;

/// What is in flight of one shard counts for so long after its last digest. 200 ms: four of them.
const PEAK_LASTS: Duration = Duration::from_millis(200);
/// How long an answer takes is believed for so long after the last one. 500 ms: after a slow spell somebody with a deadline
/// must be tried again, or nothing would show that it is over.
const EXPECTED_LASTS: Duration = Duration::from_millis(500);

/// Owns: an upstream's endpoints with their breakers and health, its limit, its queue, its retry budget, and where its
/// permits lie. Receives: [`Input`], [`Digest`], [`Ask`], [`Cancelled`], [`Returned`], [`AskProbe`], [`AskTokens`],
/// [`Configure`]. Publishes: [`super::Snapshot`], [`View`]. Capacity: [`MAILBOX_MAX`]. On full: the sender goes on with what
/// it knows; who asks is refused. On restart: a new one resumes from the last snapshot, incarnation + 1, and the shards'
/// digests; who waited asks again.
pub struct UpstreamActor {
    upstream: Arc<Upstream>,
    machine: Machine,
    admission: Admission<Answer>,
    limiter: Limiter,
    budget: budget::Machine,
    /// The most that each shard had in flight at once, and when it said so.
    peaks: Vec<Option<(u32, Instant)>>,
    /// When an answer came last.
    answered_at: Option<Instant>,
    events: Arc<Events>,
    random: SmallRng,
    /// When it was shown last, and whether anything has changed since.
    shown_at: Instant,
    is_shown: bool,
    timer: Option<(Instant, SpawnHandle)>,
    _guard: Guard,
}

/// Other settings hold from now on. From the supervisor. Lost: never, the supervisor sends it again.
pub struct Configure(pub Settings);
impl Message for Configure {
    type Result = ();
}

/// What only the actor knows, at one instant.
#[derive(Debug)]
pub struct View {
    pub at: Instant,
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
}
impl Message for Crashed {
    type Result = ();
}

/// Notices an unwind through the actor: actix drops an actor that panicked, and tells nobody.
struct Guard {
    key: Key,
    supervisor: Recipient<Crashed>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Err(error) = self.supervisor.try_send(Crashed { key: self.key.clone() })
        {
            tracing::error!(upstream = %self.key, %error, "nobody will restart this upstream's actor");
        }
    }
}

impl UpstreamActor {
    pub fn new(upstream: Arc<Upstream>, supervisor: Recipient<Crashed>, events: Arc<Events>) -> Self {
        let (snapshot, now) = (upstream.snapshot.load(), Instant::now());
        let (settings, shards) = (&snapshot.settings, upstream.leases.idle().len());
        let machine = Machine::resume(&snapshot, now);
        let admission = Admission::new(&settings.queue);
        let limiter = Limiter::resume(&settings.concurrency, upstream.leases.limit());
        let retries = settings.client.retry_budget;
        let budget = match snapshot.incarnation {
            0 => budget::Machine::new(retries, shards, now),
            // Longer ago than any block lasts, and numbers that no block of the last one has.
            incarnation => budget::Machine::resume(retries, shards, incarnation << 32, now),
        };
        let guard = Guard { key: upstream.key.clone(), supervisor };
        Self {
            upstream,
            machine,
            admission,
            limiter,
            budget,
            peaks: vec![None; shards],
            answered_at: None,
            events,
            random: SmallRng::from_os_rng(),
            shown_at: now,
            is_shown: false,
            timer: None,
            _guard: guard,
        }
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

    fn limit(&mut self, changed: Option<u32>, now: Instant) {
        if let Some(limit) = changed {
            self.upstream.leases.set_limit(limit);
            let told = self.admission.permits_returned(&self.upstream.leases, now);
            self.tell(told);
        }
    }

    fn tell(&self, told: Vec<Told<Answer>>) {
        for told in told {
            // Whoever is gone gives its permit back by dropping it.
            let _gone = match told {
                Told::Granted { waiter, shard } => waiter.send(Ok(Grant::new(&self.upstream, shard))),
                Told::Dropped { waiter, cause } => waiter.send(Err(cause)),
            };
        }
    }

    /// What all shards have seen.
    fn sample(&mut self, shard: usize, mut sample: Sample, now: Instant) -> Sample {
        if let Some(peak) = self.peaks.get_mut(shard) {
            *peak = Some((sample.in_flight_max, now));
        }
        let recent = |at: Instant| now.saturating_duration_since(at) <= PEAK_LASTS;
        let peaks = self.peaks.iter().flatten().filter(|(_, at)| recent(*at)).map(|(peak, _)| peak);
        sample.in_flight_max = peaks.sum::<u32>().min(self.upstream.leases.limit());
        sample.queued = self.upstream.leases.is_queueing();
        sample
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
            queue: self.admission.view(now),
            limiter: self.limiter.view(),
            budget: self.budget.view(now),
            breaker: self.machine.breaker_view(Scope::Service, now),
            endpoints,
        })));
    }

    /// After whatever happened: shown, and one timer for whatever is due first.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        self.show(Instant::now());
        let due = [
            self.machine.poll_timeout(),
            self.admission.poll_timeout(),
            self.limiter.poll_timeout(),
            (!self.is_shown).then(|| self.shown_at + PERIOD),
        ];
        let due = due.into_iter().flatten().min();
        if due == self.timer.as_ref().map(|(at, _)| *at) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = due.map(|at| {
            let timer = ctx.run_later(at.saturating_duration_since(Instant::now()), |this, ctx| {
                this.timer = None;
                let now = Instant::now();
                let output = this.machine.handle_timeout(now);
                this.apply(output);
                let changed = this.limiter.handle_timeout(now);
                this.limit(changed, now);
                let told = this.admission.handle_timeout(&this.upstream.leases, now);
                this.tell(told);
                this.arm(ctx);
            });
            (at, timer)
        });
    }
}

impl Actor for UpstreamActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
        // Whoever waited with one that crashed asks again.
        self.upstream.leases.flow();
        self.arm(ctx);
    }
}

impl Handler<Input> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, input: Input, ctx: &mut Self::Context) {
        self.input(input, Instant::now());
        self.arm(ctx);
    }
}

impl Handler<Digest> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, digest: Digest, ctx: &mut Self::Context) {
        let now = Instant::now();
        for (scope, outcomes) in digest.outcomes {
            self.input(Input::Outcomes { scope, outcomes }, now);
        }
        if digest.began > 0 {
            self.budget.began(digest.began, digest.since, now);
        }
        if let Some(Spent { number, tokens, rest }) = digest.spent {
            self.budget.spent(number, tokens, rest, now);
        }
        if let Some(expected) = digest.sample.likely() {
            self.answered_at = Some(now);
            self.admission.expect(expected);
        }
        let sample = self.sample(digest.shard, digest.sample, now);
        let changed = self.limiter.observe(sample, now);
        self.limit(changed, now);
        self.arm(ctx);
    }
}

impl Handler<Configure> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, Configure(settings): Configure, ctx: &mut Self::Context) {
        let now = Instant::now();
        let changed = self.limiter.reconfigure(&settings.concurrency);
        self.limit(changed, now);
        let told = self.admission.reconfigure(&settings.queue, &self.upstream.leases, now);
        self.tell(told);
        self.budget.reconfigure(settings.client.retry_budget, now);
        let output = self.machine.configure(settings, now);
        self.apply(output);
        self.arm(ctx);
    }
}

impl Handler<Ask> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, asking: Ask, ctx: &mut Self::Context) {
        self.upstream.pending[asking.class.min(CLASSES_MAX - 1)].fetch_sub(1, Ordering::Relaxed);
        // It went away while its message waited.
        if asking.waiter.is_closed() {
            return;
        }
        let now = Instant::now();
        if self.answered_at.is_some_and(|at| now.saturating_duration_since(at) > EXPECTED_LASTS) {
            self.answered_at = None;
            self.admission.expect(Duration::ZERO);
        }
        let told = self.admission.enqueue(asking, &self.upstream.leases, now);
        self.tell(told);
        self.arm(ctx);
    }
}

impl Handler<Cancelled> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, Cancelled(id): Cancelled, ctx: &mut Self::Context) {
        let told = self.admission.cancel(id, &self.upstream.leases, Instant::now());
        self.tell(told);
        self.arm(ctx);
    }
}

impl Handler<Returned> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, _: Returned, ctx: &mut Self::Context) {
        // Before the permits are looked at: one that comes back after that is told anew.
        self.upstream.return_told.store(false, Ordering::SeqCst);
        let told = self.admission.permits_returned(&self.upstream.leases, Instant::now());
        self.tell(told);
        self.arm(ctx);
    }
}

impl Handler<AskProbe> for UpstreamActor {
    type Result = MessageResult<AskProbe>;
    fn handle(&mut self, AskProbe(scope): AskProbe, ctx: &mut Self::Context) -> Self::Result {
        let (gate, output) = self.machine.ask_probe(scope, Instant::now());
        self.apply(output);
        self.arm(ctx);
        MessageResult(ProbeGrant::new(&self.upstream, scope, gate))
    }
}

impl Handler<AskTokens> for UpstreamActor {
    type Result = MessageResult<AskTokens>;
    fn handle(&mut self, AskTokens(spent): AskTokens, _: &mut Self::Context) -> Self::Result {
        let now = Instant::now();
        if let Some(Spent { number, tokens, rest }) = spent {
            self.budget.spent(number, tokens, rest, now);
        }
        MessageResult(self.budget.grant(now))
    }
}
