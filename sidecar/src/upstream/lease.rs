//! Permits of one upstream, leased to shards.
//!
//! Each shard's idle permits lie in an atomic on a cache line of its own, which only that shard touches on an ordinary
//! request. A shard that has none takes some of another's, so that none refuses while another idles, and no message is sent
//! for it. The actor alone moves the limit, and says by one bit that requests queue: from then on nobody but the actor
//! takes a permit, so that no newcomer overtakes.
//!
//! ```text
//!   idle of all shards + spent = limit + debt
//! ```
//!
//! *Nobody waits while a permit idles.* The actor sets the bit first and looks at the idle permits then; whoever makes one
//! idle does that first and looks at the bit then. One of both sees the other, so either the actor finds the permit, or it
//! is told ([`Returned::Awaited`]). One message is enough for all that come back until it looks again ([`Leases::hear`]).
//! All of this is sequentially consistent, looks that find nothing included: with less, both might miss the other.
//!
//! A limit that is cut below what is spent leaves a *debt*: permits that come back pay it before they are idle again. So a
//! limit that falls from 256 to 4 holds at once.

use super::atomics::{AtomicBool, AtomicU32, AtomicU64, CachePadded, Ordering};

/// How many permits a shard takes from another at most: enough to spare it the next look for a while.
const STOLEN_MAX: u32 = 32;
/// Set while requests wait for the actor's word. The low 32 bits beside it are the debt.
const QUEUEING: u64 = 1 << 63;

#[derive(Debug)]
pub struct Leases {
    limit: AtomicU32,
    /// Read by all, written where a limit is cut or a queue begins: rarely.
    control: CachePadded<AtomicU64>,
    idle: Box<[CachePadded<AtomicU32>]>,
    /// The actor is told that there are idle permits, and has not looked since.
    told: AtomicBool,
}

/// What became of asking for a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    Taken,
    /// Taken, and idle ones have moved that others wait for: the actor must hear of them.
    TakenAndMoved,
    /// All are spent.
    Spent,
    /// Others wait, and nobody overtakes them.
    Queueing,
}

/// Whether idle permits have moved from one shard to another beside the one that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moved {
    None,
    Some,
}

/// A permit in the actor's hands. Its drop gives it back.
#[derive(Debug)]
pub struct Taken<'l> {
    leases: &'l Leases,
}

impl Taken<'_> {
    /// It is somebody's from now on.
    pub fn grant(self) {
        std::mem::forget(self);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The actor itself holds it, and looks again, or is no more.
        self.leases.put(0);
    }
}

/// Whether the actor must hear that a permit has come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    Idle,
    /// Somebody waits for it, and nobody has said so yet.
    Awaited,
}

impl Leases {
    /// Gives `limit` permits out evenly to `shards`.
    pub fn new(limit: u32, shards: usize) -> Self {
        let idle = (0..shards.max(1)).map(|_| CachePadded::new(AtomicU32::new(0))).collect();
        let control = CachePadded::new(AtomicU64::new(0));
        let leases = Self { limit: AtomicU32::new(0), control, idle, told: AtomicBool::new(false) };
        leases.set_limit(limit);
        leases
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes a permit for a request that came to `shard`.
    pub fn take(&self, shard: usize) -> Take {
        if self.control.load(Ordering::Acquire) & QUEUEING != 0 {
            return Take::Queueing;
        }
        if take_some(&self.idle[shard], 1) == 1 {
            return Take::Taken;
        }
        match self.steal(shard) {
            None => Take::Spent,
            Some(Moved::None) => Take::Taken,
            // The actor may have looked while they were in nobody's hands.
            Some(Moved::Some) => match self.returned() {
                Returned::Idle => Take::Taken,
                Returned::Awaited => Take::TakenAndMoved,
            },
        }
    }

    /// For the actor, while requests queue: one that is idle anywhere.
    pub fn take_for_queued(&self) -> Option<Taken<'_>> {
        let found = take_some(&self.idle[0], 1) == 1 || self.steal(0).is_some();
        // Made only where one was found: its drop gives one back.
        found.then(|| Taken { leases: self })
    }

    /// Takes half of what another shard has, keeps all but one of it.
    fn steal(&self, shard: usize) -> Option<Moved> {
        let mut others = (1..self.idle.len()).map(|step| &self.idle[(shard + step) % self.idle.len()]);
        let taken = others.find_map(|other| Some(take_half(other)).filter(|taken| *taken > 0))?;
        if taken == 1 {
            return Some(Moved::None);
        }
        self.idle[shard].fetch_add(taken - 1, Ordering::SeqCst);
        // The limit may have been cut while they were in nobody's hands.
        self.pay_from(shard);
        Some(Moved::Some)
    }

    /// Gives one back to `shard`.
    pub fn give_back(&self, shard: usize) -> Returned {
        self.put(shard);
        self.returned()
    }

    fn put(&self, shard: usize) {
        if self.debt() > 0 && self.pay(1) == 1 {
            return;
        }
        self.idle[shard].fetch_add(1, Ordering::SeqCst);
        // Whoever cuts the limit, or begins to queue, writes `control` first and looks at the idle permits then: one of both
        // sees the other.
        self.pay_from(shard);
    }

    fn returned(&self) -> Returned {
        let queueing = self.control.load(Ordering::SeqCst) & QUEUEING != 0;
        if queueing && !self.told.swap(true, Ordering::SeqCst) { Returned::Awaited } else { Returned::Idle }
    }

    /// The actor looks at the idle permits after this, or could not be told: the next one that comes back is told anew.
    pub fn hear(&self) {
        self.told.store(false, Ordering::SeqCst);
    }

    /// The actor alone: the limit is `limit` from now on.
    pub fn set_limit(&self, limit: u32) {
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit > before {
            let more = limit - before;
            self.spread(more - self.pay(more));
        } else {
            self.control.fetch_add(u64::from(before - limit), Ordering::SeqCst);
            for shard in 0..self.idle.len() {
                self.pay_from(shard);
            }
        }
    }

    /// The actor alone: from now on it admits, until [`Leases::flow`].
    pub fn queue(&self) {
        self.control.fetch_or(QUEUEING, Ordering::SeqCst);
    }

    /// The actor alone: nobody waits.
    pub fn flow(&self) {
        self.control.fetch_and(!QUEUEING, Ordering::SeqCst);
    }

    pub fn is_queueing(&self) -> bool {
        self.control.load(Ordering::Relaxed) & QUEUEING != 0
    }

    fn debt(&self) -> u32 {
        debt_of(self.control.load(Ordering::SeqCst))
    }

    /// Pays up to `most` of the debt; returns how much.
    fn pay(&self, most: u32) -> u32 {
        let paid = self.control.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |control| {
            let part = debt_of(control).min(most);
            (part > 0).then(|| control - u64::from(part))
        });
        paid.map_or(0, |before| debt_of(before).min(most))
    }

    /// Pays what is owed with the idle permits of `shard`.
    fn pay_from(&self, shard: usize) {
        loop {
            let owed = self.debt();
            if owed == 0 {
                return;
            }
            let taken = take_some(&self.idle[shard], owed);
            if taken == 0 {
                return;
            }
            let paid = self.pay(taken);
            if paid < taken {
                self.idle[shard].fetch_add(taken - paid, Ordering::SeqCst);
            }
        }
    }

    fn spread(&self, permits: u32) {
        let shards = u32::try_from(self.idle.len()).expect("as many shards as cores");
        for (index, idle) in (0..).zip(&self.idle) {
            idle.fetch_add(permits / shards + u32::from(index < permits % shards), Ordering::SeqCst);
        }
    }

    /// Idle permits by shard. Read one after the other, so the sum may be off while requests come and go.
    pub fn idle(&self) -> Vec<u32> {
        self.idle.iter().map(|idle| idle.load(Ordering::Relaxed)).collect()
    }

    /// Permits that are spent; while a limit that was cut is not reached yet, more than it.
    pub fn in_use(&self) -> u32 {
        self.view().in_use
    }

    /// All of it from one reading.
    pub fn view(&self) -> View {
        let (limit, idle) = (self.limit(), self.idle());
        let in_use = (limit + self.debt()).saturating_sub(idle.iter().sum());
        View { limit, in_use, idle }
    }
}

/// Where permits are.
#[derive(Debug)]
pub struct View {
    pub limit: u32,
    pub in_use: u32,
    /// By shard.
    pub idle: Vec<u32>,
}

fn debt_of(control: u64) -> u32 {
    u32::try_from(control & u64::from(u32::MAX)).expect("32 bits")
}

/// Takes up to `most`; returns how many.
fn take_some(idle: &AtomicU32, most: u32) -> u32 {
    let part = |idle: u32| idle.min(most);
    let taken = idle
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |idle| (part(idle) > 0).then(|| idle - part(idle)));
    taken.map_or(0, part)
}

/// Takes half, rounded up; returns how many.
fn take_half(idle: &AtomicU32) -> u32 {
    let part = |idle: u32| idle.div_ceil(2).min(STOLEN_MAX);
    let taken = idle
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |idle| (part(idle) > 0).then(|| idle - part(idle)));
    taken.map_or(0, part)
}
