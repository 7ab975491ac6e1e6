//! A shard, and its requests.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::wire::{Held, ProbeRight};
use crate::upstream::Snapshot;
use crate::upstream::admission::WaiterId;
use crate::upstream::breaker::{Position, Tally};
use crate::upstream::budget::Block;
use crate::upstream::budget::machine::Rest;
use crate::upstream::digest::{Digest, Pending, Scope, Spent};
use crate::upstream::queue::{Cause, PeerKey};

pub struct Shard {
    pub number: usize,
    pub tallies: Vec<(Scope, Tally)>,
    pub pending: Pending,
    pub digest_due: Option<Instant>,
    pub peak: u32,
    pub in_flight: u32,
    pub block: Option<Block>,
    pub block_size: u32,
    pub asked: u64,
}

impl Shard {
    pub fn new(number: usize, scopes: &[Scope], now: Instant) -> Self {
        let tallies = scopes.iter().map(|scope| (*scope, Tally::new(number, 0, None))).collect();
        Self {
            number,
            tallies,
            pending: Pending::new(now),
            digest_due: None,
            peak: 0,
            in_flight: 0,
            block: None,
            block_size: 0,
            asked: 0,
        }
    }

    pub fn adopt(&mut self, snapshot: &Snapshot) {
        let consecutive = snapshot.settings.client.breaker.consecutive_failures;
        for (scope, tally) in &mut self.tallies {
            tally.adopt(breaker(snapshot, *scope).map_or(0, |(epoch, _)| epoch), consecutive);
        }
    }

    pub fn tally(&mut self, of: Scope) -> &mut Tally {
        let found = self.tallies.iter_mut().find(|(scope, _)| *scope == of);
        &mut found.expect("every scope has one").1
    }

    pub fn next_id(&mut self) -> WaiterId {
        self.asked += 1;
        WaiterId { shard: self.number, number: self.asked }
    }

    pub fn begins(&mut self) {
        self.in_flight += 1;
        self.peak = self.peak.max(self.in_flight);
    }

    pub fn digest(&self) -> Digest {
        let outcomes = self.tallies.iter().filter_map(|(scope, tally)| Some((*scope, tally.unsent()?)));
        Digest {
            shard: self.number,
            outcomes: outcomes.collect(),
            began: self.pending.began,
            since: self.pending.since,
            spent: self.pending.spent,
            sample: self.pending.sample.with_in_flight(self.peak),
        }
    }

    pub fn digest_taken(&mut self, now: Instant) {
        self.tallies.iter_mut().for_each(|(_, tally)| tally.sent());
        self.peak = self.in_flight;
        self.pending = Pending::new(now);
    }

    pub fn take_token(&mut self, now: Instant) -> bool {
        let Some(block) = &mut self.block else { return false };
        if block.take(now).is_none() {
            return false;
        }
        let tokens = self.block_size - block.tokens;
        self.pending.spent = Some(Spent { number: block.number, tokens, rest: Rest::Kept });
        true
    }

    /// Drops what is left, and says so.
    pub fn drop_block(&mut self) -> Option<Spent> {
        let block = self.block.take()?;
        let tokens = self.block_size - block.tokens;
        Some(Spent { number: block.number, tokens, rest: Rest::Dropped })
    }
}

/// Of what is published: the epoch of a breaker, and where it stands.
pub fn breaker(snapshot: &Snapshot, scope: Scope) -> Option<(u64, Position)> {
    let found = match scope {
        Scope::Service => snapshot.breaker.as_ref(),
        Scope::Endpoint(address) => {
            snapshot.endpoints.iter().find(|e| e.address == address)?.breaker.as_ref()
        }
    };
    found.map(|breaker| (breaker.epoch, breaker.position))
}

pub struct Request {
    pub shard: usize,
    pub class: usize,
    pub peer: PeerKey,
    pub deadline: Option<Instant>,
    pub attempts: u32,
    pub state: State,
    /// In this state.
    pub since: Instant,
}

pub enum State {
    /// Asks the actor for a permit.
    Waits {
        id: WaiterId,
        answer: Answer<Result<Held, Cause>>,
        within: Duration,
        asked: usize,
    },
    /// Has a permit, and asks for the right to be a probe.
    AsksProbe {
        held: Held,
        scope: Scope,
        answer: Answer<Option<ProbeRight>>,
    },
    Runs {
        held: Held,
        scope: Scope,
        epoch: u64,
        probe: Option<ProbeRight>,
    },
    /// Failed, and has no token for another attempt.
    AsksToken {
        answer: Answer<Option<Block>>,
    },
    Done,
}

/// What the actor answers.
pub struct Answer<T> {
    receiver: oneshot::Receiver<T>,
    come: Option<T>,
}

impl<T> Answer<T> {
    pub fn channel() -> (oneshot::Sender<T>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self { receiver, come: None })
    }

    /// It came, or never will.
    fn is_there(&mut self) -> bool {
        self.come.is_some()
            || match self.receiver.try_recv() {
                Ok(answer) => {
                    self.come = Some(answer);
                    true
                }
                Err(TryRecvError::Closed) => true,
                Err(TryRecvError::Empty) => false,
            }
    }

    /// `None`: it never will come.
    pub fn take(mut self) -> Option<T> {
        self.come.take().or_else(|| self.receiver.try_recv().ok())
    }
}

impl Request {
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Its answer is there.
    pub fn is_answered(&mut self) -> bool {
        match &mut self.state {
            State::Waits { answer, .. } => answer.is_there(),
            State::AsksProbe { answer, .. } => answer.is_there(),
            State::AsksToken { answer } => answer.is_there(),
            State::Runs { .. } | State::Done => false,
        }
    }
}
