//! The mailbox of an actor, as those see it who look from outside: how many messages lie in it, and how long they lay there.
//!
//! Every message goes in a [`Letter`], which is counted until it is opened or dropped: in a mailbox that was full, or was that
//! of an actor that crashed. So the depth comes back to 0 whatever happens. An ordinary request sends no message and touches
//! none of this.

use std::any::type_name;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use actix::{Actor, Handler, Message, MessageResult};

use super::actor::UpstreamActor;
use super::supervisor::Supervisor;
use super::{CLASSES_MAX, PENDING_MAX};
use crate::stats::LatencyHistogram;

/// Messages that wait for an upstream's actor: what every class may have asked for, and as many facts as an upstream's permits can
/// cause at once.
pub const CAPACITY: usize = CLASSES_MAX * PENDING_MAX as usize + 2_048;

/// What happened to the actors of all upstreams, those included that are in use no more.
#[derive(Debug, Default)]
pub struct ActorTotals {
    /// Actors that were started anew.
    pub restarts: AtomicU64,
    /// Messages that were not taken.
    pub refused: AtomicU64,
}

/// Of all incarnations of one actor.
#[derive(Debug, Default)]
pub struct Mailbox {
    all: Arc<ActorTotals>,
    depth: AtomicU64,
    refused: AtomicU64,
    /// From sent to heard. Written by the actor alone, of which there is one at a time.
    latency: LatencyHistogram,
}

impl Mailbox {
    pub fn new(all: &Arc<ActorTotals>) -> Self {
        Self { all: Arc::clone(all), ..Self::default() }
    }

    /// Encloses a message that is sent now.
    pub fn enclose<M>(self: &Arc<Self>, message: M) -> Letter<M> {
        self.depth.fetch_add(1, Ordering::Relaxed);
        Letter { message, sent: Instant::now(), counted: Counted(Arc::clone(self)) }
    }

    /// A message was not taken: the mailbox is full, or the actor gone.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.all.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages on their way; those included that wait for room, so it may be more than [`CAPACITY`].
    pub fn depth(&self) -> u64 {
        self.depth.load(Ordering::Relaxed)
    }

    /// Messages that were not taken.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How long those lay in it that were heard.
    pub fn latency(&self) -> &LatencyHistogram {
        &self.latency
    }
}

#[derive(Debug)]
struct Counted(Arc<Mailbox>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A message in its envelope. From whoever sends the message. Lost: as the message is.
#[derive(Debug)]
pub struct Letter<M> {
    message: M,
    sent: Instant,
    counted: Counted,
}

impl<M: Message> Message for Letter<M> {
    type Result = M::Result;
}

impl<M> Letter<M> {
    fn open(self) -> M {
        self.counted.0.latency.observe(self.sent.elapsed());
        self.message
    }
}

/// What the actor does about a message. Not [`Handler`], so that none comes to it uncounted.
pub trait Hears<M: Message>: Actor {
    fn hear(&mut self, message: M, ctx: &mut Self::Context) -> M::Result;
}

impl<M: Message> Handler<Letter<M>> for UpstreamActor
where
    Self: Hears<M>,
{
    type Result = MessageResult<Letter<M>>;

    fn handle(&mut self, letter: Letter<M>, ctx: &mut Self::Context) -> Self::Result {
        self.is_about(type_name::<M>());
        MessageResult(self.hear(letter.open(), ctx))
    }
}

impl<M: Message> Handler<Letter<M>> for Supervisor
where
    Self: Hears<M>,
{
    type Result = MessageResult<Letter<M>>;

    fn handle(&mut self, letter: Letter<M>, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(self.hear(letter.open(), ctx))
    }
}
