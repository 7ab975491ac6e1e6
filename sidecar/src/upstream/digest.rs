//! What a shard has seen of one upstream and tells its actor, each 50 ms while anything happens, and at once when urgent.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::Message;

use super::breaker::{Outcomes, Urgency};
use super::budget::machine::Rest;
use super::concurrency::Sample;
use super::share::Share;

/// Between two digests of a shard. 50 ms: a twentieth of the shortest window that policy may ask for, and 20 messages a
/// second of an upstream that is in use.
pub const PERIOD: Duration = Duration::from_millis(50);

/// Which breaker something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Service,
    Endpoint(SocketAddr),
}

/// What a shard has seen since the last one. From a shard. Lost: it is kept, and goes with the next.
#[derive(Debug, Clone)]
pub struct Digest {
    pub shard: usize,
    pub outcomes: Vec<(Scope, Outcomes)>,
    /// First attempts that began after `since`.
    pub began: u32,
    pub since: Instant,
    /// Of the block of retry tokens that the shard holds, how many it has spent in all.
    pub spent: Option<Spent>,
    /// Of answers that came, or were awaited in vain.
    pub sample: Sample,
}

impl Message for Digest {
    type Result = ();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    pub number: u64,
    pub tokens: u32,
    pub rest: Rest,
}

/// What is to be told.
#[derive(Debug)]
pub struct Pending {
    pub began: u32,
    pub since: Instant,
    pub sample: Sample,
    pub spent: Option<Spent>,
}

impl Pending {
    pub fn new(now: Instant) -> Self {
        Self { began: 0, since: now, sample: Sample::default(), spent: None }
    }
}

/// What an answer says about how loaded the upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// The head of the answer came after this time.
    Answered(Duration),
    /// A timeout, a reset, or a 503 of its own.
    Overloaded,
}

impl Share {
    /// An answer has begun.
    pub fn heard(self: &Rc<Self>) {
        self.pending.borrow_mut().sample.heard = true;
        self.note(Urgency::Later);
    }

    /// For the limit of requests under way.
    pub fn seen(self: &Rc<Self>, load: Load) {
        {
            let sample = &mut self.pending.borrow_mut().sample;
            match load {
                Load::Answered(took) => sample.answered(took.as_secs_f64() * 1e6, 1),
                Load::Overloaded => sample.overloads += 1,
            }
        }
        self.note(Urgency::Later);
    }

    /// Something is to be told before long.
    pub(super) fn note(self: &Rc<Self>, urgency: Urgency) {
        match urgency {
            Urgency::Now => self.send_digest(),
            Urgency::Later if self.digest_due.replace(true) => {}
            Urgency::Later => {
                let share = Rc::clone(self);
                actix_rt::spawn(async move {
                    actix_rt::time::sleep(PERIOD).await;
                    share.digest_due.set(false);
                    share.send_digest();
                });
            }
        }
    }

    pub(super) fn send_digest(self: &Rc<Self>) {
        let now = Instant::now();
        let endpoints = self.seen_endpoints();
        let of_endpoints = endpoints.iter().filter_map(|endpoint| {
            let outcomes = endpoint.tally.borrow().unsent()?;
            Some((Scope::Endpoint(endpoint.address), outcomes))
        });
        let of_service = self.tally.borrow().unsent().map(|outcomes| (Scope::Service, outcomes));
        let pending = self.pending.borrow();
        let digest = Digest {
            shard: self.shard,
            outcomes: of_endpoints.chain(of_service).collect(),
            began: pending.began,
            since: pending.since,
            spent: pending.spent,
            sample: pending.sample.with_in_flight(self.peak.get()),
        };
        drop(pending);
        if self.upstream.try_tell(digest).is_err() {
            // It is being started anew, or is far behind: later is as good. For one that has ended there is no later.
            if !self.upstream.is_retired() {
                self.note(Urgency::Later);
            }
            return;
        }
        endpoints.iter().for_each(|endpoint| endpoint.tally.borrow_mut().sent());
        self.tally.borrow_mut().sent();
        self.peak.set(self.in_flight());
        self.pending.replace(Pending::new(now));
    }
}
