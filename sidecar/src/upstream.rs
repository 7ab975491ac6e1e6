//! An upstream is what a request is sent on to: outbound a service, inbound a port of the local app.
//!
//! One actor ([`actor::UpstreamActor`], on the control arbiter) is the only writer of its limit and of its endpoints'
//! health. It publishes an immutable [`Snapshot`]; each shard keeps a [`share::Share`] with its connections and spends
//! permits that were leased to it. An ordinary request sends no message:
//!
//! ```text
//!   shard:  read the snapshot ─▶ take an idle permit of the lease ─▶ choose an endpoint ─▶ … ─▶ give the permit back
//!                │ no permit                     │ cannot connect
//!                ▼                               ▼
//!   actor:  Lease (takes back from others)   ConnectFailed ─▶ ejects, publishes generation + 1
//! ```
//!
//! Ejection is passive: an endpoint that cannot be connected to is left out for a time that doubles with each failure,
//! and then tried by whoever comes first. Where all are ejected, all are used, since a wrong guess costs less than none.
//!
//! Messages in: [`machine::Input`], [`actor::Lease`]. Out: [`Snapshot`] by `ArcSwap`.

pub mod actor;
pub mod balance;
pub mod concurrency;
pub mod lease;
pub mod machine;
pub mod queue;
pub mod share;
pub mod supervisor;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use actix::Addr;
use arc_swap::ArcSwap;
use outrider_shared::{ServiceId, SidecarId, SpiffeId};

use actor::UpstreamActor;
use lease::Leases;

/// Which upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Outbound.
    Service(ServiceId),
    /// Inbound: the app's port.
    AppPort(u16),
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
    pub endpoints: Vec<EndpointState>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct EndpointState {
    pub sidecar: SidecarId,
    pub address: SocketAddr,
    pub health: Health,
}

/// Whether an endpoint is used.
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
    /// Swapped when the actor was started anew.
    pub actor: ArcSwap<Addr<UpstreamActor>>,
    /// Events that found its mailbox full, or the actor gone.
    pub mailbox_full: AtomicU64,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Upstream {
    /// Tells the actor. Where its mailbox is full or it is being started anew the event is lost: the next failure tells it
    /// again, and until then the shard's own view of the endpoint holds.
    pub fn tell(&self, input: machine::Input) {
        if let Err(error) = self.actor.load().try_send(input) {
            self.mailbox_full.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(upstream = %self.key, %error, "an event was not taken");
        }
    }
}

/// Every upstream in use, by key; a new map for each change, which is rare.
pub type UpstreamMap = std::collections::HashMap<Key, Arc<Upstream>>;
