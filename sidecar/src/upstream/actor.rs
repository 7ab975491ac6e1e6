//! The shell of an upstream's machine.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler, Message, MessageResult, Recipient, SpawnHandle};

use super::machine::{Input, Machine, Output};
use super::{Key, Upstream};

/// Messages that wait. 1,024: as many as an upstream's default permits, each of which can fail to connect once.
const MAILBOX_MAX: usize = 1_024;

/// Owns: an upstream's endpoints with their health, and where its permits lie. Receives: [`Input`], [`Lease`].
/// Publishes: [`super::Snapshot`]. Capacity: [`MAILBOX_MAX`]. On full: the sender goes on with what it knows. On restart:
/// a new one resumes from the last snapshot, incarnation + 1.
pub struct UpstreamActor {
    upstream: Arc<Upstream>,
    machine: Machine,
    timer: Option<SpawnHandle>,
    _guard: Guard,
}

/// A shard has no idle permit left. From a shard. Lost: the request is refused as if all were spent.
pub struct Lease {
    pub shard: usize,
}
impl Message for Lease {
    /// How many permits were moved to the shard.
    type Result = u32;
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
        let machine = Machine::resume(&upstream.snapshot.load());
        let guard = Guard { key: upstream.key.clone(), supervisor };
        Self { upstream, machine, timer: None, _guard: guard }
    }

    fn apply(&mut self, output: Output, ctx: &mut Context<Self>) {
        match output {
            Output::Publish => self.upstream.snapshot.store(Arc::new(self.machine.snapshot())),
            Output::Nothing => {}
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = self.machine.poll_timeout().map(|at| {
            ctx.run_later(at.saturating_duration_since(Instant::now()), |this, ctx| {
                let output = this.machine.handle_timeout(Instant::now());
                this.apply(output, ctx);
            })
        });
    }
}

impl Actor for UpstreamActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX_MAX);
    }
}

impl Handler<Input> for UpstreamActor {
    type Result = ();
    fn handle(&mut self, input: Input, ctx: &mut Self::Context) {
        let output = self.machine.handle(input, Instant::now());
        self.apply(output, ctx);
    }
}

impl Handler<Lease> for UpstreamActor {
    type Result = MessageResult<Lease>;
    fn handle(&mut self, lease: Lease, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.upstream.leases.rebalance(lease.shard))
    }
}
