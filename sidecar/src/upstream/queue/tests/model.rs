//! The same rules by brute force: one list of who waits, searched anew for every question.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outrider_shared::traffic::{self, FairBy, QueueDrop, QueueOrder};

use crate::upstream::queue::Cause;
use crate::upstream::queue::codel::{Codel, Only, Verdict};

#[derive(Debug, Clone)]
pub struct Waiter {
    pub id: u64,
    pub class: usize,
    pub peer: u8,
    pub deadline: Option<Instant>,
    pub since: Instant,
}

pub type Drops = Vec<(u64, Cause)>;

#[derive(Debug)]
pub struct Model {
    settings: traffic::Queue,
    pub waiting: Vec<Waiter>,
    /// By class: the peers that wait, in the order in which they are served.
    rounds: Vec<Vec<u8>>,
    codels: BTreeMap<(usize, u8), Codel>,
    passes: Vec<u128>,
    pass: u128,
    pub expected: Duration,
}

impl Model {
    pub fn new(settings: &traffic::Queue) -> Self {
        let classes = settings.priority.as_ref().map_or(1, |p| p.classes.len());
        Self {
            settings: settings.clone(),
            waiting: Vec::new(),
            rounds: vec![Vec::new(); classes],
            codels: BTreeMap::new(),
            passes: vec![0; classes],
            pass: 0,
            expected: Duration::ZERO,
        }
    }

    pub fn push(&mut self, mut new: Waiter) -> Drops {
        let now = new.since;
        let mut drops = self.expire(now);
        new.class = new.class.min(self.rounds.len() - 1);
        if new.deadline.is_some_and(|deadline| now + self.expected >= deadline) {
            drops.push((new.id, Cause::Deadline));
            return drops;
        }
        if self.waiting.len() >= self.settings.depth_max as usize {
            let Some((victim, cause)) = self.victim(&new) else {
                drops.push((new.id, Cause::Full));
                return drops;
            };
            self.remove(victim);
            drops.push((victim, cause));
        }
        self.place(new);
        drops
    }

    pub fn pop(&mut self, now: Instant) -> (Option<u64>, Drops) {
        let mut drops = self.expire(now);
        let present = (0..self.rounds.len()).filter(|&c| self.held(c) > 0);
        let class = match self.weights() {
            None => present.min(),
            Some(_) => present.min_by_key(|&c| (self.passes[c], c)),
        };
        let Some(class) = class else { return (None, drops) };
        let lane = self.rounds[class][0];
        loop {
            let mut own: Vec<Waiter> = self.of_lane(class, lane);
            own.sort_by(|a, b| self.earlier(a, b));
            let head = own[0].clone();
            if self.settings.drop == QueueDrop::CoDel {
                let only = if own.len() == 1 { Only::Yes } else { Only::No };
                let codel = self.codels.entry((class, lane)).or_default();
                if codel.judge(now - head.since, only, now) == Verdict::Drop {
                    self.remove(head.id);
                    drops.push((head.id, Cause::CoDel));
                    continue;
                }
            }
            self.remove(head.id);
            if let Some(at) = self.rounds[class].iter().position(|&peer| peer == lane) {
                self.rounds[class].remove(at);
                self.rounds[class].push(lane);
            }
            if let Some(weights) = self.weights() {
                self.pass = self.passes[class];
                self.passes[class] += (1 << 32) / u128::from(weights[class]);
            }
            return (Some(head.id), drops);
        }
    }

    pub fn cancel(&mut self, id: u64) -> bool {
        let waits = self.waiting.iter().any(|w| w.id == id);
        if waits {
            self.remove(id);
        }
        waits
    }

    pub fn expire(&mut self, now: Instant) -> Drops {
        let mut late: Vec<Waiter> = self.waiting.clone();
        late.retain(|w| now - w.since >= self.settings.wait_max.get());
        late.sort_by_key(|w| w.id);
        let mut drops: Drops = late.iter().map(|w| (w.id, Cause::MaxWait)).collect();
        for waiter in &late {
            self.remove(waiter.id);
        }
        let mut hopeless: Vec<Waiter> = self.waiting.clone();
        hopeless.retain(|w| w.deadline.is_some_and(|deadline| now + self.expected >= deadline));
        hopeless.sort_by_key(|w| (w.deadline, w.id));
        drops.extend(hopeless.iter().map(|w| (w.id, Cause::Deadline)));
        for waiter in &hopeless {
            self.remove(waiter.id);
        }
        drops
    }

    pub fn close(&mut self) -> Drops {
        let mut ids: Vec<u64> = self.waiting.iter().map(|w| w.id).collect();
        ids.sort_unstable();
        for &id in &ids {
            self.remove(id);
        }
        ids.into_iter().map(|id| (id, Cause::Closed)).collect()
    }

    pub fn reconfigure(&mut self, settings: &traffic::Queue, now: Instant) -> Drops {
        if *settings != self.settings {
            let names = |s: &traffic::Queue| match &s.priority {
                None => vec!["default".to_owned()],
                Some(priority) => priority.classes.iter().map(|c| c.name.clone()).collect(),
            };
            let (before, after) = (names(&self.settings), names(settings));
            let other = settings.priority.as_ref().map_or(0, |p| p.default);
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.sort_by_key(|w| w.id);
            *self = Self { expected: self.expected, ..Self::new(settings) };
            for mut waiter in waiting {
                waiter.class = after.iter().position(|n| *n == before[waiter.class]).unwrap_or(other);
                self.place(waiter);
            }
        }
        let mut drops = self.expire(now);
        while self.waiting.len() > self.settings.depth_max as usize {
            let class = self.poorest_class().expect("somebody waits");
            let last = self.last_of(class);
            self.remove(last);
            drops.push((last, Cause::Full));
        }
        drops
    }

    /// The earliest instant at which time alone drops somebody.
    pub fn due(&self) -> Option<Instant> {
        let of = |w: &Waiter| {
            let late = w.since + self.settings.wait_max.get();
            let hopeless =
                |deadline: Instant| deadline.checked_sub(self.expected).expect("a late enough start");
            w.deadline.map_or(late, |deadline| late.min(hopeless(deadline)))
        };
        self.waiting.iter().map(of).min()
    }

    pub fn held(&self, class: usize) -> usize {
        self.waiting.iter().filter(|w| w.class == class).count()
    }

    fn weights(&self) -> Option<Vec<u64>> {
        let classes = &self.settings.priority.as_ref()?.classes;
        classes.iter().map(|class| class.weight.map(u64::from)).collect()
    }

    fn lane(&self, peer: u8) -> u8 {
        if self.settings.fair_by == FairBy::Peer { peer } else { 0 }
    }

    fn of_lane(&self, class: usize, lane: u8) -> Vec<Waiter> {
        let own = |w: &&Waiter| w.class == class && self.lane(w.peer) == lane;
        self.waiting.iter().filter(own).cloned().collect()
    }

    fn earlier(&self, a: &Waiter, b: &Waiter) -> std::cmp::Ordering {
        match self.settings.order {
            QueueOrder::Fifo => a.id.cmp(&b.id),
            QueueOrder::Lifo => b.id.cmp(&a.id),
            QueueOrder::Deadline => {
                (a.deadline.is_none(), a.deadline, a.id).cmp(&(b.deadline.is_none(), b.deadline, b.id))
            }
        }
    }

    fn place(&mut self, new: Waiter) {
        let lane = self.lane(new.peer);
        if self.held(new.class) == 0 {
            self.passes[new.class] = self.passes[new.class].max(self.pass);
        }
        if !self.rounds[new.class].contains(&lane) {
            self.rounds[new.class].push(lane);
        }
        self.waiting.push(new);
    }

    fn remove(&mut self, id: u64) {
        let at = self.waiting.iter().position(|w| w.id == id).expect("it waits");
        let gone = self.waiting.remove(at);
        let lane = self.lane(gone.peer);
        if self.of_lane(gone.class, lane).is_empty() {
            self.rounds[gone.class].retain(|&peer| peer != lane);
            self.codels.remove(&(gone.class, lane));
        }
    }

    /// The last of the peer that holds most; of equal ones, of the one that is served later.
    fn last_of(&self, class: usize) -> u64 {
        let round = &self.rounds[class];
        let (_, lane) = round
            .iter()
            .enumerate()
            .max_by_key(|&(at, &lane)| (self.of_lane(class, lane).len(), at))
            .expect("somebody waits");
        let mut own = self.of_lane(class, *lane);
        own.sort_by(|a, b| self.earlier(a, b));
        own.last().expect("it waits").id
    }

    fn poorest_class(&self) -> Option<usize> {
        let present: Vec<usize> = (0..self.rounds.len()).filter(|&c| self.held(c) > 0).collect();
        let Some(weights) = self.weights() else { return present.last().copied() };
        let beyond =
            |a: usize, b: usize| self.held(a) as u64 * weights[b] >= self.held(b) as u64 * weights[a];
        present.iter().rev().find(|&&a| present.iter().all(|&b| beyond(a, b))).copied()
    }

    fn victim(&self, new: &Waiter) -> Option<(u64, Cause)> {
        let poorest = self.poorest_class()?;
        let overtakes = match self.weights() {
            None => poorest > new.class,
            Some(weights) => {
                let after = (self.held(new.class) as u64 + 1) * weights[poorest];
                poorest != new.class && after < self.held(poorest) as u64 * weights[new.class]
            }
        };
        if overtakes {
            return Some((self.last_of(poorest), Cause::Overtaken));
        }
        let round = &self.rounds[new.class];
        let most = round.iter().map(|&lane| self.of_lane(new.class, lane).len()).max()?;
        let own = self.of_lane(new.class, self.lane(new.peer)).len();
        (own + 1 < most).then(|| (self.last_of(new.class), Cause::FairShare))
    }
}
