//! Plans what each session gets, and pushes what has changed.

use std::collections::BTreeMap;
use std::time::Instant;

use outrider_shared::snapshot::{Endpoint, Snapshot, Version};
use outrider_shared::{ServiceId, SidecarId};
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
        let published = self.machine.published();
        self.persist(&published)?;
        let policy = self.parts.policy.load_full();
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

/// Of the content, whatever its version.
fn content_hash(snapshot: &Snapshot) -> Result<u64, ActorProcessingErr> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(serde_json::to_vec(snapshot)?);
    Ok(u64::from_be_bytes(digest[..8].try_into().expect("SHA-256 has 32 bytes")))
}
