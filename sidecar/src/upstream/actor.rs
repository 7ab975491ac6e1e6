//! The shell of an upstream's machines: it decides nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, Recipient, SpawnHandle};

use super::admission::{Admission, Told};
use super::machine::{Input, Machine, Output};
use super::queue::View as QueueView;
use super::settings::Settings;
use super::wait::{Answer, Ask, Cancelled, Grant, Returned};
use super::{CLASSES_MAX, Key, PENDING_MAX, Upstream};

/// Messages that wait: what every class may have asked for, and as many facts as an upstream's permits can cause at once.
const MAILBOX_MAX: usize = CLASSES_MAX * PENDING_MAX as usize + 2_048;

/// Owns: an upstream's endpoints with their health, its limit, its queue, and where its permits lie. Receives: [`Input`],
/// [`Ask`], [`Cancelled`], [`Returned`], [`Configure`], [`Look`]. Publishes: [`super::Snapshot`]. Capacity: [`MAILBOX_MAX`].
/// On full: the sender goes on with what it knows; who asks is refused. On restart: a new one resumes from the last
/// snapshot, incarnation + 1; who waited asks again.
pub struct UpstreamActor {
    upstream: Arc<Upstream>,
    machine: Machine,
    admission: Admission<Answer>,
    timer: Option<SpawnHandle>,
    _guard: Guard,
}

/// Other settings hold from now on. From the supervisor. Lost: never, the supervisor sends it again.
pub struct Configure(pub Settings);
impl Message for Configure {
    type Result = ();
}

/// How it stands. From whoever shows it.
pub struct Look;
impl Message for Look {
    type Result = View;
}

/// What only the actor knows, at one instant.
#[derive(Debug)]
pub struct View {
    pub queue: QueueView,
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
    pub fn new(upstream: Arc<Upstream>, supervisor: Recipient<Crashed>) -> Self {
        let snapshot = upstream.snapshot.load();
        let machine = Machine::resume(&snapshot);
        let admission = Admission::new(&snapshot.settings.queue);
        let guard = Guard { key: upstream.key.clone(), supervisor };
        Self { upstream, machine, admission, timer: None, _guard: guard }
    }

    fn apply(&mut self, output: Output) {
        match output {
            Output::Publish => self.upstream.snapshot.store(Arc::new(self.machine.snapshot())),
            Output::Nothing => {}
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

    /// One timer, for whatever is due first.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let due = [self.machine.poll_timeout(), self.admission.poll_timeout()].into_iter().flatten().min();
        self.timer = due.map(|at| {
            ctx.run_later(at.saturating_duration_since(Instant::now()), |this, ctx| {
                let now = Instant::now();
                let output = this.machine.handle_timeout(now);
                this.apply(output);
                let told = this.admission.handle_timeout(&this.upstream.leases, now);
                this.tell(told);
                this.arm(ctx);
            })
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
        let output = self.machine.handle(input, Instant::now());
        self.apply(output);
        self.arm(ctx);
    }
}

impl Handler<Configure> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, Configure(settings): Configure, ctx: &mut Self::Context) {
        let now = Instant::now();
        self.upstream.leases.set_limit(settings.concurrency.initial);
        let told = self.admission.reconfigure(&settings.queue, &self.upstream.leases, now);
        self.tell(told);
        let output = self.machine.configure(settings);
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
        let told = self.admission.enqueue(asking, &self.upstream.leases, Instant::now());
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

impl Handler<Look> for UpstreamActor {
    type Result = MessageResult<Look>;
    fn handle(&mut self, _: Look, _: &mut Self::Context) -> Self::Result {
        MessageResult(View { queue: self.admission.view(Instant::now()) })
    }
}
