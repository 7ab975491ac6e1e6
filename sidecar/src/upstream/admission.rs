//! Who gets a permit while there are not enough: the actor's side of admission, pure but for the permits' atomics.
//!
//! ```text
//!   flowing:   a shard takes an idle permit, and nobody is asked
//!      │ none is left anywhere
//!      ▼
//!   queueing:  the shard asks ──▶ [`Admission::enqueue`] ──▶ waits ──▶ a permit comes back ──▶ whose turn it is
//!      │ nobody waits any more                                  └──▶ dropped, with the cause
//!      ▼
//!   flowing
//! ```
//!
//! The bit in [`Leases`] that says "queueing" is set before the idle permits are looked at, and whoever gives one back looks
//! at the bit after it did: one of both sees the other, so no permit lies idle while somebody waits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use outrider_shared::traffic;

use super::lease::{Leases, Taken};
use super::queue::{Cause, Dropped, Entry, PeerKey, Popped, Queue, Ticket, View};

/// A request that waits, as its shard names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId {
    pub shard: usize,
    /// Counted by the shard; never used twice.
    pub number: u64,
}

/// A request without a permit.
#[derive(Debug)]
pub struct Asking<W> {
    pub id: WaiterId,
    /// Index into the classes of the policy.
    pub class: usize,
    pub peer: PeerKey,
    pub deadline: Option<Instant>,
    /// Who is told.
    pub waiter: W,
}

/// What one that waits is told.
#[derive(Debug)]
pub enum Told<'l, W> {
    /// A permit was taken for it, which belongs to this shard from now on.
    Granted {
        waiter: W,
        shard: usize,
        permit: Taken<'l>,
    },
    Dropped {
        waiter: W,
        cause: Cause,
    },
}

#[derive(Debug)]
pub struct Admission<W> {
    queue: Queue<(WaiterId, W)>,
    tickets: HashMap<WaiterId, Ticket>,
}

impl<W> Admission<W> {
    pub fn new(settings: &traffic::Queue) -> Self {
        Self { queue: Queue::new(settings), tickets: HashMap::new() }
    }

    /// Others settings hold from now on; whoever waits goes on waiting where there is still room.
    pub fn reconfigure<'l>(
        &mut self,
        settings: &traffic::Queue,
        leases: &'l Leases,
        now: Instant,
    ) -> Vec<Told<'l, W>> {
        let dropped = self.queue.reconfigure(settings, now);
        self.settle(dropped, leases, now)
    }

    /// A shard found no permit.
    pub fn enqueue<'l>(&mut self, asking: Asking<W>, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        leases.queue();
        let Asking { id, class, peer, deadline, waiter } = asking;
        let pushed = self.queue.push(Entry { class, peer, deadline, waiter: (id, waiter) }, now);
        if let Some(ticket) = pushed.ticket {
            self.tickets.insert(id, ticket);
        }
        self.settle(pushed.dropped, leases, now)
    }

    /// Its client went away.
    pub fn cancel<'l>(&mut self, id: WaiterId, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        if let Some(ticket) = self.tickets.remove(&id) {
            self.queue.cancel(ticket);
        }
        self.settle(Vec::new(), leases, now)
    }

    /// Permits came back, or there are more of them.
    pub fn permits_returned<'l>(&mut self, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        self.settle(Vec::new(), leases, now)
    }

    /// How long an answer takes now: who has less time left is not worth a permit.
    pub fn expect(&mut self, expected: Duration) {
        self.queue.expect(expected);
    }

    /// When [`Admission::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.queue.poll_timeout()
    }

    pub fn handle_timeout<'l>(&mut self, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        let dropped = self.queue.handle_timeout(now);
        self.settle(dropped, leases, now)
    }

    /// Nobody waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// For how long the one has waited that has waited longest.
    pub fn waited(&self, now: Instant) -> Duration {
        self.queue.waited(now)
    }

    pub fn view(&self, now: Instant) -> View {
        self.queue.view(now)
    }

    /// Gives permits out while there are any, and lets traffic flow again once nobody waits.
    fn settle<'l>(
        &mut self,
        dropped: Vec<Dropped<(WaiterId, W)>>,
        leases: &'l Leases,
        now: Instant,
    ) -> Vec<Told<'l, W>> {
        let mut told = Vec::new();
        self.drop_all(dropped, &mut told);
        while !self.queue.is_empty() {
            let Some(permit) = leases.take_for_queued() else { break };
            let (popped, dropped) = self.queue.pop(now);
            self.drop_all(dropped, &mut told);
            if let Some(Popped { waiter: (id, waiter), .. }) = popped {
                self.tickets.remove(&id);
                told.push(Told::Granted { waiter, shard: id.shard, permit });
            }
        }
        if self.queue.is_empty() && leases.is_queueing() {
            leases.flow();
        }
        debug_assert_eq!(self.tickets.len(), self.queue.len(), "who waits can be cancelled, and nobody else");
        told
    }

    fn drop_all(&mut self, dropped: Vec<Dropped<(WaiterId, W)>>, told: &mut Vec<Told<'_, W>>) {
        for Dropped { waiter: (id, waiter), cause, .. } in dropped {
            self.tickets.remove(&id);
            told.push(Told::Dropped { waiter, cause });
        }
    }
}
