//! What shards and the actor share, and the way between them: a mailbox with a bound, and answers.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::oneshot;

use super::plan::Plan;

use crate::upstream::Unheard;
use crate::upstream::admission::{Asking, WaiterId};
use crate::upstream::breaker::{Probe, Probed};
use crate::upstream::budget::Block;
use crate::upstream::digest::{Digest, Scope, Spent};
use crate::upstream::lease::{Leases, Returned};
use crate::upstream::machine::Input;
use crate::upstream::queue::Cause;
use crate::upstream::settings::Settings;
use crate::upstream::wait::Counted;

/// As the actor's handlers have them.
pub enum Message {
    Ask { asking: Asking<Waiter>, _counted: Counted },
    Cancelled(WaiterId),
    Returned,
    Digest(Digest),
    Input(Input),
    AskProbe { scope: Scope, answer: oneshot::Sender<Option<ProbeRight>>, shard: usize },
    AskTokens { spent: Option<Spent>, answer: oneshot::Sender<Option<Block>> },
    Configure(Box<Settings>),
}

/// Who waits for a permit.
pub struct Waiter {
    pub answer: oneshot::Sender<Result<Held, Cause>>,
    pub deadline: Option<Instant>,
}

pub struct Wire {
    pub leases: Leases,
    /// By sender: the shards, and last the control arbiter. One sender's arrive in order, those of several in any.
    pub mailbox: RefCell<Vec<VecDeque<(Instant, Message)>>>,
    pub mailbox_max: usize,
    /// There is an actor.
    pub is_up: Cell<bool>,
    pub now: Cell<Instant>,
    /// Messages for which there was no room.
    pub lost: Cell<u32>,
    /// Permits that somebody has.
    pub held: Cell<u32>,
    /// A [`Message::Returned`] was lost at the bound since the actor looked last.
    pub return_lost: Cell<bool>,
    /// Probes that somebody may send or has sent, by breaker and epoch.
    pub probes: RefCell<BTreeMap<(Scope, u64), u32>>,
}

impl Wire {
    pub fn new(plan: &Plan, limit: u32, now: Instant) -> Self {
        Self {
            leases: Leases::new(limit, plan.shards),
            mailbox: RefCell::new((0..=plan.shards).map(|_| VecDeque::new()).collect()),
            mailbox_max: plan.mailbox_max,
            is_up: Cell::new(true),
            now: Cell::new(now),
            lost: Cell::new(0),
            held: Cell::new(0),
            return_lost: Cell::new(false),
            probes: RefCell::default(),
        }
    }

    pub fn tell(&self, from: usize, message: Message) -> Result<(), Unheard> {
        let mut mailbox = self.mailbox.borrow_mut();
        if !self.is_up.get() || mailbox.iter().map(VecDeque::len).sum::<usize>() >= self.mailbox_max {
            drop(mailbox);
            drop(message);
            self.lost.set(self.lost.get() + u32::from(self.is_up.get()));
            return Err(Unheard);
        }
        mailbox[from].push_back((self.now.get(), message));
        Ok(())
    }

    /// Permits are idle, and somebody waits.
    pub fn tell_of_idle(&self, from: usize) {
        if self.tell(from, Message::Returned).is_err() {
            self.leases.hear();
            self.return_lost.set(true);
        }
    }

    pub fn is_told(&self) -> bool {
        self.mailbox.borrow().iter().flatten().any(|(_, message)| matches!(message, Message::Returned))
    }
}

/// A permit; its drop gives it back.
pub struct Held {
    wire: Rc<Wire>,
    shard: usize,
}

impl Held {
    pub fn new(wire: &Rc<Wire>, shard: usize) -> Self {
        wire.held.set(wire.held.get() + 1);
        Self { wire: Rc::clone(wire), shard }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.wire.held.set(self.wire.held.get() - 1);
        if self.wire.leases.give_back(self.shard) == Returned::Awaited {
            self.wire.tell_of_idle(self.shard);
        }
    }
}

/// The right to be a probe; its drop says that it was not used.
pub struct ProbeRight {
    wire: Rc<Wire>,
    scope: Scope,
    probe: Probe,
    shard: usize,
}

impl ProbeRight {
    pub fn new(wire: &Rc<Wire>, scope: Scope, probe: Probe, shard: usize) -> Self {
        *wire.probes.borrow_mut().entry((scope, probe.epoch)).or_default() += 1;
        Self { wire: Rc::clone(wire), scope, probe, shard }
    }

    pub fn tell(&self, ended: Probed) {
        let input = Input::ProbeEnded { scope: self.scope, probe: self.probe, ended };
        // Lost: the breaker waits for it a while.
        let _lost = self.wire.tell(self.shard, Message::Input(input));
    }
}

impl Drop for ProbeRight {
    fn drop(&mut self) {
        *self.wire.probes.borrow_mut().entry((self.scope, self.probe.epoch)).or_default() -= 1;
        self.tell(Probed::Ignored);
    }
}
