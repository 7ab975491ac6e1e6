//! The queue itself: arrivals in; whose turn it is, and who is dropped, out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::traffic::{self, FairBy, QueueDrop};

use super::codel::{Only, Verdict};
use super::lane::{Class, LaneKey, Rank};
use super::{Cause, ClassView, Counters, Dropped, Entry, PEERS_SHOWN_MAX, PeerKey, PeerView};
use super::{Popped, Pushed, Ticket, View};

/// What the only class is called where policy names none.
const CLASS_ALONE: &str = "default";
/// How far a class of weight 1 moves with each dispatch: the largest weight still moves by 1.
const STRIDE: u128 = 1 << 32;

#[derive(Debug)]
struct Slot<W> {
    entry: Entry<W>,
    since: Instant,
}

#[derive(Debug)]
pub struct Queue<W> {
    settings: traffic::Queue,
    names: Vec<Arc<str>>,
    /// One for each class, at least 1 each; `None`: strict priority.
    weights: Option<Vec<u64>>,
    classes: Vec<Class>,
    /// By ticket, which is by arrival.
    slots: BTreeMap<u64, Slot<W>>,
    deadlines: BTreeSet<(Instant, u64)>,
    ticket_next: u64,
    /// How far the class was that was served last.
    pass: u128,
    /// How long an answer takes now.
    expected: Duration,
    /// The latest time seen: time never goes back in here.
    latest: Option<Instant>,
    counters: Counters,
}

impl<W> Queue<W> {
    pub fn new(settings: &traffic::Queue) -> Self {
        let (names, weights) = classes(settings);
        Self {
            classes: names.iter().map(|_| Class::default()).collect(),
            settings: settings.clone(),
            names,
            weights,
            slots: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ticket_next: 0,
            pass: 0,
            expected: Duration::ZERO,
            latest: None,
            counters: Counters::default(),
        }
    }

    /// Everybody keeps their place as far as the new settings have it: by the name of its class, or in the default one.
    /// Tickets and counters go on; turns, passes and `CoDel` begin anew.
    pub fn reconfigure(&mut self, settings: &traffic::Queue, now: Instant) -> Vec<Dropped<W>> {
        let now = self.at(now);
        if *settings != self.settings {
            let (names, weights) = classes(settings);
            let other = settings.priority.as_ref().map_or(0, |p| p.default.min(names.len() - 1));
            let class_now: Vec<usize> = self
                .names
                .iter()
                .map(|old| names.iter().position(|new| new == old).unwrap_or(other))
                .collect();
            self.classes = names.iter().map(|_| Class::default()).collect();
            self.pass = 0;
            (self.settings, self.names, self.weights) = (settings.clone(), names, weights);
            let mut slots = std::mem::take(&mut self.slots);
            for (&id, slot) in &mut slots {
                slot.entry.class = class_now[slot.entry.class];
                let (lane, rank) = (self.lane(&slot.entry.peer), self.rank(slot.entry.deadline, id));
                self.classes[slot.entry.class].insert(&lane, rank);
            }
            self.slots = slots;
        }
        let mut dropped = self.expire(now);
        while self.slots.len() > self.depth_max() {
            let class = self.least_worthy_class().expect("somebody waits");
            let last = self.classes[class].last().expect("the class has somebody");
            dropped.push(self.shed(last.entry, Cause::Full, now));
        }
        self.check_invariants();
        dropped
    }

    /// An answer takes so long now, by the quantile that shall count: who has less time left is not worth a place. It must
    /// be a measurement that ages, or nobody with a deadline is ever tried again after a slow spell.
    pub fn expect(&mut self, expected: Duration) {
        self.expected = expected;
    }

    /// Somebody arrives.
    pub fn push(&mut self, mut entry: Entry<W>, now: Instant) -> Pushed<W> {
        let now = self.at(now);
        let mut dropped = self.expire(now);
        entry.class = entry.class.min(self.classes.len() - 1);
        if entry.deadline.is_some_and(|deadline| self.is_hopeless(deadline, now)) {
            return self.refuse(entry, Cause::Deadline, dropped);
        }
        if self.slots.len() >= self.depth_max() {
            let Some((victim, cause)) = self.yields_to(&entry) else {
                return self.refuse(entry, Cause::Full, dropped);
            };
            dropped.push(self.shed(victim.entry, cause, now));
        }
        let id = self.ticket_next;
        self.ticket_next += 1;
        let (lane, rank) = (self.lane(&entry.peer), self.rank(entry.deadline, id));
        let class = &mut self.classes[entry.class];
        if class.len() == 0 {
            // Time in which it wanted nothing is not saved up.
            class.pass = class.pass.max(self.pass);
        }
        class.insert(&lane, rank);
        if let Some(deadline) = entry.deadline {
            self.deadlines.insert((deadline, id));
        }
        self.slots.insert(id, Slot { entry, since: now });
        self.counters.admitted += 1;
        self.check_invariants();
        Pushed { ticket: Some(Ticket(id)), dropped }
    }

    /// Somebody no longer waits. `None`: it was dispatched or dropped before.
    pub fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        let slot = self.slots.contains_key(&ticket.0).then(|| self.take(ticket.0))?;
        self.counters.cancelled += 1;
        self.check_invariants();
        Some(slot.entry.waiter)
    }

    /// A permit is free: who gets it, and who was found not to be worth it.
    #[must_use]
    pub fn pop(&mut self, now: Instant) -> (Option<Popped<W>>, Vec<Dropped<W>>) {
        let now = self.at(now);
        let mut dropped = self.expire(now);
        let Some(class) = self.class_next() else { return (None, dropped) };
        let id = loop {
            let (head, held, codel) = self.classes[class].head().expect("the class has somebody");
            let waited = now.saturating_duration_since(self.slots[&head.entry].since);
            let only = if held == 1 { Only::Yes } else { Only::No };
            match self.settings.drop {
                QueueDrop::CoDel if codel.judge(waited, only, now) == Verdict::Drop => {
                    dropped.push(self.shed(head.entry, Cause::CoDel, now));
                }
                QueueDrop::CoDel | QueueDrop::None => break head.entry,
            }
        };
        let Slot { entry, since } = self.take(id);
        let lane = self.lane(&entry.peer);
        self.classes[class].served(&lane);
        if let Some(weights) = &self.weights {
            self.pass = self.classes[class].pass;
            self.classes[class].pass += STRIDE / u128::from(weights[class]);
        }
        self.counters.dispatched += 1;
        self.check_invariants();
        let Entry { class, peer, deadline, waiter } = entry;
        let waited = now.saturating_duration_since(since);
        (Some(Popped { waiter, class, peer, deadline, waited }), dropped)
    }

    /// When [`Queue::handle_timeout`] is due. May be in the past.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let wait = self.slots.first_key_value().map(|(_, oldest)| oldest.since + self.wait_max());
        let hopeless = self.deadlines.first().map(|(deadline, id)| {
            deadline.checked_sub(self.expected).unwrap_or_else(|| self.slots[id].since)
        });
        wait.into_iter().chain(hopeless).min()
    }

    /// Drops those whose time is over. Early and repeated calls are harmless.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Dropped<W>> {
        let now = self.at(now);
        let dropped = self.expire(now);
        self.check_invariants();
        dropped
    }

    /// Drops everybody. Those who arrive later are taken again.
    #[must_use]
    pub fn close(&mut self, now: Instant) -> Vec<Dropped<W>> {
        let now = self.at(now);
        let waiting: Vec<u64> = self.slots.keys().copied().collect();
        let dropped = waiting.into_iter().map(|id| self.shed(id, Cause::Closed, now)).collect();
        self.check_invariants();
        dropped
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// For how long the one has waited that has waited longest.
    pub fn waited(&self, now: Instant) -> Duration {
        let oldest = self.slots.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, oldest)| now.saturating_duration_since(oldest.since))
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What is shown of it.
    pub fn view(&self, now: Instant) -> View {
        let mut classes: Vec<ClassView> = self
            .names
            .iter()
            .zip(&self.classes)
            .map(|(name, class)| ClassView { name: Arc::clone(name), depth: class.len(), oldest: None })
            .collect();
        let mut peers: BTreeMap<&PeerKey, PeerView> = BTreeMap::new();
        // From the oldest on, so the first of each is its oldest.
        for Slot { entry, since } in self.slots.values() {
            let waited = now.saturating_duration_since(*since);
            classes[entry.class].oldest.get_or_insert(waited);
            let new = || PeerView { peer: entry.peer.clone(), depth: 0, oldest: waited };
            peers.entry(&entry.peer).or_insert_with(new).depth += 1;
        }
        let peers_waiting = peers.len();
        let mut peers: Vec<PeerView> = peers.into_values().collect();
        peers.sort_by_key(|peer| std::cmp::Reverse((peer.depth, peer.oldest)));
        peers.truncate(PEERS_SHOWN_MAX);
        View {
            depth: self.slots.len(),
            depth_max: self.depth_max(),
            oldest: classes.iter().filter_map(|class| class.oldest).max(),
            classes,
            peers,
            peers_waiting,
            counters: self.counters,
        }
    }

    fn at(&mut self, now: Instant) -> Instant {
        *self.latest.insert(self.latest.map_or(now, |latest| latest.max(now)))
    }

    fn depth_max(&self) -> usize {
        usize::try_from(self.settings.depth_max).unwrap_or(usize::MAX)
    }

    fn wait_max(&self) -> Duration {
        self.settings.wait_max.get()
    }

    fn is_hopeless(&self, deadline: Instant, now: Instant) -> bool {
        now.checked_add(self.expected).is_none_or(|answered| answered >= deadline)
    }

    fn lane(&self, peer: &PeerKey) -> LaneKey {
        LaneKey(match self.settings.fair_by {
            FairBy::Peer => Some(peer.clone()),
            FairBy::None => None,
        })
    }

    fn rank(&self, deadline: Option<Instant>, id: u64) -> Rank {
        Rank::new(self.settings.order, deadline, id)
    }

    /// Whose turn it is among the classes.
    fn class_next(&self) -> Option<usize> {
        let mut waiting = (0..self.classes.len()).filter(|&class| self.classes[class].len() > 0);
        match &self.weights {
            None => waiting.next(),
            Some(_) => waiting.min_by_key(|&class| self.classes[class].pass),
        }
    }

    /// The class that makes room first.
    fn least_worthy_class(&self) -> Option<usize> {
        let waiting = (0..self.classes.len()).filter(|&class| self.classes[class].len() > 0);
        match &self.weights {
            None => waiting.max(),
            Some(weights) => waiting.max_by(|&a, &b| {
                let (held_a, held_b) = (self.classes[a].len() as u128, self.classes[b].len() as u128);
                (held_a * u128::from(weights[b])).cmp(&(held_b * u128::from(weights[a])))
            }),
        }
    }

    /// Who makes room for the arrival in a full queue.
    fn yields_to(&self, arrival: &Entry<W>) -> Option<(Rank, Cause)> {
        let own = arrival.class;
        let last = |class: usize| self.classes[class].last().map(|rank| (rank, Cause::Overtaken));
        let overtaken = self.least_worthy_class().filter(|&other| match &self.weights {
            None => other > own,
            Some(weights) => {
                // Still not beyond the other when it is in and the other is out.
                let (held, held_other) =
                    (self.classes[own].len() as u128 + 1, self.classes[other].len() as u128);
                other != own && held * u128::from(weights[other]) < held_other * u128::from(weights[own])
            }
        });
        overtaken.and_then(last).or_else(|| {
            let share = self.classes[own].yields_to(&self.lane(&arrival.peer));
            share.map(|rank| (rank, Cause::FairShare))
        })
    }

    fn expire(&mut self, now: Instant) -> Vec<Dropped<W>> {
        let mut dropped = Vec::new();
        while let Some((&id, oldest)) = self.slots.first_key_value()
            && now.saturating_duration_since(oldest.since) >= self.wait_max()
        {
            dropped.push(self.shed(id, Cause::MaxWait, now));
        }
        while let Some(&(deadline, id)) = self.deadlines.first()
            && self.is_hopeless(deadline, now)
        {
            dropped.push(self.shed(id, Cause::Deadline, now));
        }
        dropped
    }

    fn refuse(&mut self, entry: Entry<W>, cause: Cause, mut dropped: Vec<Dropped<W>>) -> Pushed<W> {
        self.counters.refused.count(cause);
        let Entry { class, peer, waiter, .. } = entry;
        dropped.push(Dropped { waiter, cause, class, peer, waited: Duration::ZERO });
        self.check_invariants();
        Pushed { ticket: None, dropped }
    }

    fn shed(&mut self, id: u64, cause: Cause, now: Instant) -> Dropped<W> {
        let Slot { entry: Entry { class, peer, waiter, .. }, since } = self.take(id);
        self.counters.shed.count(cause);
        Dropped { waiter, cause, class, peer, waited: now.saturating_duration_since(since) }
    }

    /// Out of every index.
    fn take(&mut self, id: u64) -> Slot<W> {
        let slot = self.slots.remove(&id).expect("the indices name only who waits");
        if let Some(deadline) = slot.entry.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        let (lane, rank) = (self.lane(&slot.entry.peer), self.rank(slot.entry.deadline, id));
        self.classes[slot.entry.class].remove(&lane, rank);
        slot
    }

    fn check_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert_eq!(self.slots.len() as u64, self.counters.depth(), "depth is what came less what went");
        assert!(self.slots.len() <= self.depth_max(), "the bound holds");
        assert_eq!(self.slots.len(), self.classes.iter().map(Class::len).sum::<usize>(), "classes");
        let with_deadline = self.slots.values().filter(|slot| slot.entry.deadline.is_some()).count();
        assert_eq!(self.deadlines.len(), with_deadline, "deadlines");
        self.classes.iter().for_each(Class::check_invariants);
    }
}

/// The classes' names, and their weights where all have one.
fn classes(settings: &traffic::Queue) -> (Vec<Arc<str>>, Option<Vec<u64>>) {
    let Some(priority) = settings.priority.as_ref().filter(|priority| !priority.classes.is_empty()) else {
        return (vec![CLASS_ALONE.into()], None);
    };
    let names = priority.classes.iter().map(|class| class.name.as_str().into()).collect();
    let weights = priority.classes.iter().map(|class| class.weight.map(|weight| u64::from(weight).max(1)));
    (names, weights.collect())
}
