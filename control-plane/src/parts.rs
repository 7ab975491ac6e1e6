//! What the control plane's parts share: the store, the policy in force, our own identity, and each other's addresses.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use outrider_shared::identity::Material;
use outrider_shared::policy::Policy;
use ractor::{ActorCell, ActorRef};

use crate::authority::actor::Message as AuthorityMessage;
use crate::metrics::Metrics;
use crate::registry::Message as RegistryMessage;
use crate::store::Store;

/// One accepted revision.
#[derive(Debug, Clone)]
pub struct Revision {
    pub revision: u64,
    pub policy: Policy,
    pub hash: String,
    pub loaded_unix_s: i64,
}

pub struct Parts {
    pub store: Arc<Store>,
    /// The revision in force; only the policy store changes it.
    pub policy: ArcSwap<Revision>,
    /// Why what lies in the policy directory now is refused.
    pub problems: ArcSwap<Vec<String>>,
    /// Our own leaf; only the authority's actor changes it.
    pub own: ArcSwap<Material>,
    pub authority: ArcSwapOption<ActorRef<AuthorityMessage>>,
    pub registry: ArcSwapOption<ActorRef<RegistryMessage>>,
    /// Under whom actors are started.
    pub supervisor: ArcSwapOption<ActorCell>,
    pub metrics: Metrics,
}

impl Parts {
    /// The authority's address, unless it is being started anew.
    pub fn authority(&self) -> Option<ActorRef<AuthorityMessage>> {
        self.authority.load().as_deref().cloned()
    }

    pub fn registry(&self) -> Option<ActorRef<RegistryMessage>> {
        self.registry.load().as_deref().cloned()
    }
}
