//! An upstream is what a request is sent on to: outbound a service, inbound a port of the local app.
//!
//! One actor ([`actor::UpstreamActor`], on the arbiter of a shard) is the only writer of its breakers, its endpoints' health, its
//! limit, its queue and its retry budget. It publishes an immutable [`Snapshot`]; each shard keeps a [`share::Share`] with its
//! connections and spends permits and tokens that were leased to it. An ordinary request sends no message:
//!
//! ```text
//!   shard:  read the snapshot ─▶ take an idle permit ─▶ pick an endpoint ─▶ … ─▶ note how it ended ─▶ give the permit back
//!                                   │ none is left           │ half open          │ each 50 ms            │ others wait
//!                                   ▼                        ▼                    ▼                       ▼
//!   actor:                       Ask: the queue          AskProbe               Digest                 Returned
//! ```
//!
//! *Flowing*: shards spend permits by themselves ([`lease`]). *Queueing*: whoever comes asks the actor, and nobody overtakes
//! ([`admission`], [`queue`]). How many permits there are is learnt ([`concurrency`]).
//!
//! Which endpoints are left out: those that cannot be connected to, for a time that doubles; and those whose breaker is open
//! or whose health check fails, as long as not too many are ([`breaker::ejection`]). Where all are left out, all are used,
//! since a wrong guess costs less than none.
//!
//! A retry ([`budget`], [`backoff`], [`tokens`]) is one more attempt of the same request: it enters again at admission.
//!
//! Messages in: [`machine::Input`], [`digest::Digest`], [`wait::Ask`] and its neighbours. Out: [`Snapshot`] and
//! [`actor::View`] by `ArcSwap`, [`events`].

pub mod actor;
pub mod admission;
pub mod atomics;
pub mod attempt;
pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod concurrency;
pub mod connect;
pub mod digest;
pub mod endpoint;
pub mod events;
pub mod fault;
pub mod lease;
pub mod machine;
pub mod mailbox;
pub mod pick;
pub mod queue;
pub mod settings;
pub mod share;
pub mod sliding;
pub mod supervisor;
pub mod supply;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod wait;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{Addr, Message};
use arc_swap::{ArcSwap, ArcSwapOption};
use outrider_shared::{ServiceId, SidecarId, SpiffeId};

use actor::{UpstreamActor, View};
use admission::Asking;
use lease::{Leases, Returned};
use mailbox::{Hears, Mailbox};
use settings::Settings;
use wait::{Answer, Ask, Askers};

use crate::stats::Side;

/// Which upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Outbound.
    Service(ServiceId),
    /// Inbound: the app's port.
    AppPort(u16),
}

impl Key {
    /// Of the sidecar.
    pub fn side(&self) -> Side {
        match self {
            Self::Service(_) => Side::Outbound,
            Self::AppPort(_) => Side::Inbound,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::AppPort(port) => write!(f, "inbound:{port}"),
        }
    }
}

/// What the actor publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Grows with each publication; a restarted actor goes on from it.
    pub generation: u64,
    /// How often the actor was started anew.
    pub incarnation: u64,
    /// What each endpoint must prove; `None` for the app.
    pub identity: Option<SpiffeId>,
    pub settings: Arc<Settings>,
    pub endpoints: Vec<EndpointState>,
    /// Of the service as a whole, where policy's scope is that.
    pub breaker: Option<breaker::Snapshot>,
    /// More endpoints have a reason to be left out than may be: all are used. As a sentence.
    pub panic: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EndpointState {
    pub sidecar: SidecarId,
    pub address: SocketAddr,
    /// Whether it can be connected to.
    pub health: Health,
    /// Where policy's scope is the endpoint.
    pub breaker: Option<breaker::Snapshot>,
    /// Its health check fails, since then.
    pub unwell: Option<(Instant, String)>,
    /// No request goes to it but probes, while others are left.
    pub left_out: bool,
    /// Nor where none is left: policy lets all be left out.
    pub barred: bool,
}

/// Whether an endpoint can be connected to.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    Healthy,
    /// Left out until then.
    Ejected {
        until: Instant,
        cause: String,
    },
    /// The ejection is over; the next connect decides.
    Trial {
        cause: String,
    },
}

/// What all shards share of one upstream.
pub struct Upstream {
    pub key: Key,
    pub leases: Leases,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What its actor shows; `None`: it has just begun.
    pub view: ArcSwapOption<View>,
    /// Swapped when the actor was started anew.
    pub actor: ArcSwap<Addr<UpstreamActor>>,
    /// Of what is on its way to the actor.
    pub mailbox: Arc<Mailbox>,
    /// Who has asked for a permit and was not heard yet.
    pub askers: Arc<Askers>,
    /// The directory no longer lists it: its actor has ended, or will.
    retired: AtomicBool,
}

/// Classes that policy may have.
pub const CLASSES_MAX: usize = 16;
/// Of one class, on their way to the actor: a class that floods it takes no room from others. 1,024: four times what
/// waits by default, since a burst may come in one turn of a shard's loop, before the actor on the same thread has its own.
pub const PENDING_MAX: u32 = 1_024;

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Upstream {
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Tells the actor. Where its mailbox is full, or it has ended or is being started anew, the event is lost: the next
    /// failure tells it again, and until then the shard's own view of the endpoint holds.
    pub fn tell<M>(&self, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        UpstreamActor: Hears<M>,
    {
        // Nobody waits for an answer.
        let _lost = self.try_tell(message);
    }

    /// Asks for a permit; `Err`: too many of its class ask already, or the actor is gone.
    pub fn ask(&self, asking: Asking<Answer>) -> Result<(), Unheard> {
        let counted = self.askers.count(asking.class).ok_or(Unheard)?;
        self.try_tell(Ask { asking, counted })
    }

    /// It has neither ended, nor is being started anew.
    pub fn has_actor(&self) -> bool {
        self.actor.load().connected()
    }

    /// A permit of `shard` comes back.
    pub fn give_back(&self, shard: usize) {
        match self.leases.give_back(shard) {
            Returned::Idle => {}
            Returned::Awaited => self.tell_of_idle(),
        }
    }

    /// Somebody waits, and permits are idle where the actor may have looked already.
    pub(crate) fn tell_of_idle(&self) {
        if self.try_tell(wait::Returned).is_err() {
            self.leases.hear();
        }
    }

    fn try_tell<M>(&self, message: M) -> Result<(), Unheard>
    where
        M: Message<Result = ()> + Send + 'static,
        UpstreamActor: Hears<M>,
    {
        self.actor.load().try_send(self.mailbox.enclose(message)).map_err(|error| {
            self.mailbox.refuse();
            tracing::debug!(upstream = %self.key, %error, "a message was not taken");
            Unheard
        })
    }

    /// Asks the actor, and waits for room in its mailbox at most `within`. `None`: it does not answer by then, has ended, or is
    /// being started anew.
    async fn question<M>(&self, question: M, within: Duration) -> Option<M::Result>
    where
        M: Message<Result: Send> + Send + 'static,
        UpstreamActor: Hears<M>,
    {
        let actor = self.actor.load_full();
        let asked = actor.send(self.mailbox.enclose(question));
        actix_rt::time::timeout(within, asked).await.ok()?.ok()
    }
}

/// The actor's mailbox is full, or it has ended, or is being started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unheard;

/// Every upstream in use, by key; a new map for each change, which is rare.
pub type UpstreamMap = std::collections::HashMap<Key, Arc<Upstream>>;
