//! One class: the lanes of its peers, whose turn it is, and who holds most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use outrider_shared::traffic::QueueOrder;

use super::PeerKey;
use super::codel::Codel;

/// A place within a lane; the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Those with a deadline first; never where the order is not by deadline.
    without_deadline: bool,
    deadline: Option<Instant>,
    /// By arrival, or against it.
    arrival: u64,
    /// Which entry: its ticket's number.
    pub entry: u64,
}

impl Rank {
    pub fn new(order: QueueOrder, deadline: Option<Instant>, entry: u64) -> Self {
        let fifo = Self { without_deadline: true, deadline: None, arrival: entry, entry };
        match order {
            QueueOrder::Fifo => fifo,
            QueueOrder::Lifo => Self { arrival: u64::MAX - entry, ..fifo },
            QueueOrder::Deadline => Self { without_deadline: deadline.is_none(), deadline, ..fifo },
        }
    }
}

/// Whose lane: a peer's, or everybody's where peers do not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey(pub Option<PeerKey>);

/// What one peer holds in one class; where peers do not matter, all of the class.
#[derive(Debug)]
pub struct Lane {
    ranks: BTreeSet<Rank>,
    /// When it is served next, in comparison with the others. Unique in its class.
    turn: u64,
    pub codel: Codel,
}

/// The requests of one class. Lanes exist while somebody waits in them, so there are never more than waiters.
#[derive(Debug, Default)]
pub struct Class {
    len: usize,
    lanes: BTreeMap<LaneKey, Lane>,
    turns: BTreeMap<u64, LaneKey>,
    /// Lanes by how much they hold, then by turn.
    sizes: BTreeSet<(usize, u64)>,
    turn_next: u64,
    /// How far the class has come, in strides. Only with weights.
    pub pass: u128,
}

impl Class {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn insert(&mut self, lane: &LaneKey, rank: Rank) {
        if !self.lanes.contains_key(lane) {
            let turn = self.turn();
            let new = Lane { ranks: BTreeSet::new(), turn, codel: Codel::default() };
            self.lanes.insert(lane.clone(), new);
            self.turns.insert(turn, lane.clone());
            self.sizes.insert((0, turn));
        }
        let held = self.lanes.get_mut(lane).expect("it was there, or was made");
        self.sizes.remove(&(held.ranks.len(), held.turn));
        held.ranks.insert(rank);
        self.sizes.insert((held.ranks.len(), held.turn));
        self.len += 1;
    }

    pub fn remove(&mut self, lane: &LaneKey, rank: Rank) {
        let held = self.lanes.get_mut(lane).expect("who waits has a lane");
        self.sizes.remove(&(held.ranks.len(), held.turn));
        let was_there = held.ranks.remove(&rank);
        debug_assert!(was_there, "who waits has a place");
        self.len -= 1;
        if held.ranks.is_empty() {
            self.turns.remove(&held.turn);
            self.lanes.remove(lane);
        } else {
            self.sizes.insert((held.ranks.len(), held.turn));
        }
    }

    /// The first of the lane whose turn it is, how many the lane holds, and its `CoDel`.
    pub fn head(&mut self) -> Option<(Rank, usize, &mut Codel)> {
        let (_, lane) = self.turns.first_key_value()?;
        let held = self.lanes.get_mut(lane).expect("who has a turn has a lane");
        let first = *held.ranks.first().expect("a lane is never empty");
        Some((first, held.ranks.len(), &mut held.codel))
    }

    /// The lane was served, and is the last of the round now, if it still holds anybody.
    pub fn served(&mut self, lane: &LaneKey) {
        let turn = self.turn();
        let Some(held) = self.lanes.get_mut(lane) else { return };
        self.turns.remove(&held.turn);
        self.sizes.remove(&(held.ranks.len(), held.turn));
        held.turn = turn;
        self.turns.insert(turn, lane.clone());
        self.sizes.insert((held.ranks.len(), turn));
    }

    /// The least worthy: the last of the lane that holds most; of equal ones, of the one that is served later.
    pub fn last(&self) -> Option<Rank> {
        let (_, turn) = self.sizes.last()?;
        let held = &self.lanes[&self.turns[turn]];
        held.ranks.last().copied()
    }

    /// The least worthy, if an arrival in this lane would leave the lane with no more than the other has then.
    pub fn yields_to(&self, lane: &LaneKey) -> Option<Rank> {
        let most = self.sizes.last()?.0;
        let own = self.lanes.get(lane).map_or(0, |held| held.ranks.len());
        (own + 1 < most).then(|| self.last()).flatten()
    }

    fn turn(&mut self) -> u64 {
        self.turn_next += 1;
        self.turn_next
    }

    pub fn check_invariants(&self) {
        assert_eq!(self.len, self.lanes.values().map(|lane| lane.ranks.len()).sum::<usize>(), "len");
        assert_eq!(self.turns.len(), self.lanes.len(), "each lane has one turn");
        assert_eq!(self.sizes.len(), self.lanes.len(), "each lane has one size");
        for (key, lane) in &self.lanes {
            assert!(!lane.ranks.is_empty(), "a lane is never empty");
            assert_eq!(self.turns.get(&lane.turn), Some(key), "its turn is known");
            assert!(self.sizes.contains(&(lane.ranks.len(), lane.turn)), "its size is known");
        }
    }
}
