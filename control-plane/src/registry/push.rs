//! Plans what each session gets, and pushes what has changed.

use std::collections::BTreeMap;
use std::time::Instant;

use outrider_shared::policy::Policy;
use outrider_shared::snapshot::{Endpoint, Snapshot, Version};
use outrider_shared::{ServiceId, SidecarId, SpiffeId};
use ractor::{ActorProcessingErr, ActorRef};

use super::actor::{Message, State};
use super::machine::Input;
use crate::store::{Change, Kind};
use crate::{planner, session};

/// Sequences are reserved on disk in blocks, so that a restart never uses one twice.
const SEQUENCE_BLOCK: u64 = 1_000;

impl State {
    /// Pushes to each session whose snapshot has changed.
    pub(super) fn plan(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        self.doubt_changed(myself)?;
        let published = self.machine.published();
        let policy = self.parts.policy.load_full();
        self.persist(&published)?;
        let mut sequences = BTreeMap::new();
        let connected: Vec<SidecarId> = self
            .known
            .iter()
            .filter(|(_, known)| known.session.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for sidecar in connected {
            let service = self.known[&sidecar].service.clone();
            let plan = planner::plan(
                &policy.policy,
                policy.revision,
                &published,
                &sidecar,
                &service,
                Version::default(),
            );
            let Ok(mut snapshot) = plan else {
                self.say_goodbye(
                    &sidecar,
                    format!("revision {} no longer declares {service}", policy.revision),
                );
                continue;
            };
            if let Some(lacking) = lacking(&snapshot, &self.known[&sidecar].features) {
                self.say_goodbye(&sidecar, lacking);
                continue;
            }
            let content = content_hash(&snapshot)?;
            let pushed = self.known[&sidecar].pushed.filter(|(hash, _)| *hash == content);
            if let Some((_, sequence)) = pushed {
                sequences.insert(sidecar, sequence);
            } else {
                snapshot.version = self.next_version()?;
                let known = self.known.get_mut(&sidecar).expect("listed above");
                known.pushed = Some((content, snapshot.version.sequence));
                let body = serde_json::to_string(&snapshot)?;
                let push = session::Message::Push { version: snapshot.version, body };
                // It has ended, and says so by `Disconnected`.
                let _ = known.session.as_ref().map(|session| session.send_message(push));
                sequences.insert(sidecar, snapshot.version.sequence);
            }
        }
        self.feed(myself, Input::Pushed { sequences }, Instant::now());
        self.forget_gone();
        Ok(())
    }

    /// Where a service has another identity than before, its endpoints must prove it before they are published again.
    fn doubt_changed(&mut self, myself: &ActorRef<Message>) -> Result<(), ActorProcessingErr> {
        let policy = self.parts.policy.load_full();
        let declared = identities(&policy.policy);
        if declared == self.identities {
            return Ok(());
        }
        self.parts.store.put(Kind::Meta, "identities", &declared)?;
        let before = std::mem::replace(&mut self.identities, declared);
        let changed = self
            .identities
            .iter()
            .filter(|(service, identity)| before.get(*service).is_some_and(|before| before != *identity));
        for service in changed.map(|(service, _)| service.clone()).collect::<Vec<_>>() {
            tracing::info!(%service, identity = %self.identities[&service], "a service has another identity");
            self.feed(myself, Input::IdentityChanged { service }, Instant::now());
        }
        Ok(())
    }

    fn say_goodbye(&mut self, sidecar: &SidecarId, reason: String) {
        let session = self.known.get(sidecar).and_then(|known| known.session.as_ref());
        let _ = session.map(|session| session.send_message(session::Message::Goodbye { reason }));
    }

    fn next_version(&mut self) -> Result<Version, ActorProcessingErr> {
        self.sequence += 1;
        if self.sequence > self.reserved {
            self.reserved = self.sequence + SEQUENCE_BLOCK;
            self.parts.store.put(Kind::Meta, "sequence", &self.reserved)?;
        }
        Ok(Version { epoch: self.epoch, sequence: self.sequence })
    }

    /// What is published is on disk before anyone is told.
    fn persist(&mut self, published: &[(ServiceId, Vec<Endpoint>)]) -> Result<(), ActorProcessingErr> {
        let endpoints = published.iter().flat_map(|(service, endpoints)| {
            endpoints
                .iter()
                .map(|endpoint| (endpoint.sidecar.to_string(), (service.clone(), endpoint.clone())))
        });
        let now: BTreeMap<String, (ServiceId, Endpoint)> = endpoints.collect();
        let gone = self.persisted.keys().filter(|key| !now.contains_key(*key));
        let mut changes: Vec<Change> = gone.map(|key| Change::Remove(Kind::Endpoint, key.clone())).collect();
        let fresh = now.iter().filter(|(key, endpoint)| self.persisted.get(*key) != Some(*endpoint));
        changes.extend(fresh.map(|(key, endpoint)| Change::put(Kind::Endpoint, key.clone(), endpoint)));
        if !changes.is_empty() {
            self.parts.store.apply(&changes)?;
            self.persisted = now;
        }
        Ok(())
    }
}

/// The identity of each declared service.
pub(super) fn identities(policy: &Policy) -> BTreeMap<ServiceId, SpiffeId> {
    policy.services().map(|service| (service.id().clone(), service.identity().clone())).collect()
}

/// Which features a sidecar would need for its snapshot and does not have, in words.
pub(super) fn lacking(snapshot: &Snapshot, features: &[&str]) -> Option<String> {
    let needs = planner::needs(snapshot);
    let lacking: Vec<&str> = needs.into_iter().filter(|feature| !features.contains(feature)).collect();
    (!lacking.is_empty()).then(|| {
        let (revision, sidecar) = (snapshot.revision, &snapshot.sidecar);
        format!(
            "revision {revision} needs {}, which sidecar {sidecar} cannot enforce: upgrade it",
            lacking.join(", ")
        )
    })
}

/// Of the content, whatever its version.
fn content_hash(snapshot: &Snapshot) -> Result<u64, ActorProcessingErr> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(serde_json::to_vec(snapshot)?);
    Ok(u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes")))
}
