//! Where requests wait that find no permit: bounded in length and in time, by class, fairly by peer, pure.
//!
//! The upstream's actor owns one [`Queue`] and passes it every arrival while somebody waits, so that nobody overtakes.
//! `W` is whatever is told the outcome: the machine hands it back once, as the one whose turn it is ([`Queue::pop`]) or with
//! the cause for which it gets no permit ([`Dropped`]).
//!
//! ```text
//!   push ─▶ hopeless? ─▶ full? ─▶ class ─▶ turns of its peers ─▶ a peer's own order ─▶ CoDel, if asked for ─▶ pop
//!              │ Deadline   │ Full, or somebody less worthy: Overtaken, FairShare        │ CoDel
//!              ▼            ▼                       waits too long: MaxWait, Deadline    ▼
//! ```
//!
//! **Which class.** Without weights the most important that has anybody. With weights by stride scheduling (Waldspurger,
//! 1995): each dispatch moves its class forward by the inverse of its weight, and the one least far goes next. It needs no
//! rounds, as deficits would, and serves every class in time.
//!
//! **Which peer.** Each in turn, one request a turn. Who comes anew, or comes back, is last in the round, so leaving and
//! returning gains nothing.
//!
//! **Which request of a peer.** By deadline (those without one after, by arrival), or the oldest, or the newest.
//!
//! **Who makes room.** In a full queue somebody of the least important class, if the arrival's is more important; with
//! weights somebody of the class that holds most beyond its weight, or a small weight would buy turns and no places. Within
//! a class the last of the peer that holds most, for an arrival of a peer that would still hold no more than it does then:
//! one caller cannot fill the queue. Otherwise the arrival itself is refused: among equals those who wait have waited.
//!
//! **What is not worth doing** is dropped as soon as it is known: whoever cannot finish before its deadline, by the latency
//! that the app shows now ([`Queue::expect`]), and whoever has waited for `wait_max`. A bound and deadlines are what ends a
//! metastable overload; work that is thrown away after it was done is what keeps it up.
//!
//! **`CoDel`** (RFC 8289) is kept by peer, as in FQ-CoDel (RFC 8290): a standing queue of one costs another nothing. It
//! presumes first come, first served; with `Lifo` it seldom finds anything to drop.
//!
//! Every operation costs the logarithm of the depth, and of the number of peers that wait; [`Queue::view`] walks the queue.
//! It does not know permits, nor when one is free, and it decides nothing about requests under way.

mod codel;
mod lane;
mod machine;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use machine::Queue;

/// How many peers a view names: those that hold most. 8: one greedy peer is to be seen, not an inventory.
pub const PEERS_SHOWN_MAX: usize = 8;

/// Whom a place is counted for: a principal's name. Cheap to copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub Arc<str>);

/// An arrival.
#[derive(Debug)]
pub struct Entry<W> {
    /// Index into the classes of the policy; 0 is the most important. One beyond them counts as the last.
    pub class: usize,
    pub peer: PeerKey,
    /// By when the caller wants the answer.
    pub deadline: Option<Instant>,
    /// Who is told.
    pub waiter: W,
}

/// Names one that waits, for [`Queue::cancel`]. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

/// What became of an arrival, and of others because of it or of the time.
#[derive(Debug)]
#[must_use]
pub struct Pushed<W> {
    /// `None`: the arrival was refused, and is the last of those dropped.
    pub ticket: Option<Ticket>,
    pub dropped: Vec<Dropped<W>>,
}

/// Whose turn it is.
#[derive(Debug)]
pub struct Popped<W> {
    pub waiter: W,
    pub class: usize,
    pub peer: PeerKey,
    pub deadline: Option<Instant>,
    pub waited: Duration,
}

/// Who gets no permit, and why.
#[derive(Debug)]
pub struct Dropped<W> {
    pub waiter: W,
    pub cause: Cause,
    pub class: usize,
    pub peer: PeerKey,
    pub waited: Duration,
}

/// Why somebody was refused or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// No place, and nobody less worthy: an arrival, or those beyond a bound that was lowered.
    Full,
    /// Made room for a more important class, or for one that held less than its weight.
    Overtaken,
    /// Made room for a peer that held less than its own.
    FairShare,
    /// Waited for `wait_max`.
    MaxWait,
    /// Cannot be answered before its deadline.
    Deadline,
    /// Stood in a queue that does not drain.
    CoDel,
    /// The queue was closed: its app is gone, or the sidecar ends.
    Closed,
}

impl Cause {
    pub const ALL: [Self; 7] = [
        Self::Full,
        Self::Overtaken,
        Self::FairShare,
        Self::MaxWait,
        Self::Deadline,
        Self::CoDel,
        Self::Closed,
    ];
}

/// A number for each cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByCause([u64; Cause::ALL.len()]);

impl ByCause {
    pub fn get(&self, cause: Cause) -> u64 {
        self.0[cause as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Cause, u64)> {
        Cause::ALL.into_iter().zip(self.0)
    }

    fn count(&mut self, cause: Cause) {
        self.0[cause as usize] += 1;
    }
}

/// Since the queue began. `admitted - dispatched - shed - cancelled` wait now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Given a place.
    pub admitted: u64,
    pub dispatched: u64,
    /// Had a place, and were dropped.
    pub shed: ByCause,
    /// Gave their place up.
    pub cancelled: u64,
    /// Never had a place.
    pub refused: ByCause,
}

impl Counters {
    /// How many wait by these counts.
    pub fn depth(&self) -> u64 {
        self.admitted - self.dispatched - self.shed.total() - self.cancelled
    }
}

/// The queue at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub depth: usize,
    pub depth_max: usize,
    /// How long the oldest has waited.
    pub oldest: Option<Duration>,
    /// In the policy's order.
    pub classes: Vec<ClassView>,
    /// The [`PEERS_SHOWN_MAX`] that hold most, most first.
    pub peers: Vec<PeerView>,
    /// How many peers wait, shown or not.
    pub peers_waiting: usize,
    pub counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassView {
    pub name: Arc<str>,
    pub depth: usize,
    pub oldest: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerView {
    pub peer: PeerKey,
    /// In all classes.
    pub depth: usize,
    pub oldest: Duration,
}
