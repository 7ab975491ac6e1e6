//! Revisions of the policy: the directory is watched, a change is taken whole or refused whole.
//!
//! A refused change leaves the revision in force as it is, also across a restart: accepted documents lie in the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher as _};
use outrider_shared::policy::{self, Loaded, Problems};
use outrider_shared::snapshot::SNAPSHOT_BYTES_MAX;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};

use crate::authority::now_unix_s;
use crate::parts::{Parts, Revision};
use crate::planner;
use crate::registry::Message as RegistryMessage;
use crate::store::{Change, Kind, Store};

/// Editors write a file in several steps; changes within this time are read together.
const SETTLE: Duration = Duration::from_millis(150);
/// Bind mounts and network file systems do not always tell of changes, so the directory is read this often all the same.
const POLL: Duration = Duration::from_secs(5);
/// Revisions kept; the oldest go first.
const REVISIONS_MAX: u64 = 100;

/// An accepted revision on disk: the documents themselves, which are checked again when they are read.
#[derive(Debug, Serialize, Deserialize)]
struct RevisionRecord {
    revision: u64,
    hash: String,
    loaded_unix_s: i64,
    files: Vec<(String, String)>,
}

/// Owns: which revision is in force. Receives: [`Message`]. Publishes: [`Parts::policy`], [`Parts::problems`]. Capacity:
/// a look at a time; looks asked for meanwhile are one. On restart: from the store.
pub struct PolicyStore;

pub enum Message {
    /// The directory may have changed. From the watcher and our own timers. Lost: the next poll sees it.
    Changed,
    Look,
}

pub struct State {
    parts: Arc<Parts>,
    dir: PathBuf,
    /// The problems that the log was told of last.
    told: String,
    asked: bool,
    /// Watches while it lives.
    _watcher: Option<notify::RecommendedWatcher>,
}

/// The revision to start with: the directory's, or else the last that was accepted.
pub fn first(store: &Store, dir: &std::path::Path) -> anyhow::Result<(Revision, Vec<String>)> {
    let last = last_accepted(store)?;
    match policy::load_dir(dir) {
        Ok(loaded) => match last {
            Some(last) if last.hash == loaded.hash => Ok((last, Vec::new())),
            Some(last) if last.policy.mesh().trust_domain() != loaded.policy.mesh().trust_domain() => {
                let problem = trust_domain_problem(&last, &loaded);
                Ok((last, vec![problem]))
            }
            last => match (planner::check_size(&loaded.policy, SNAPSHOT_BYTES_MAX), last) {
                (Ok(()), last) => {
                    let next = last.map_or(1, |last| last.revision + 1);
                    Ok((accept(store, next, loaded)?, Vec::new()))
                }
                (Err(too_large), Some(last)) => Ok((last, vec![too_large.to_string()])),
                (Err(too_large), None) => Err(too_large.into()),
            },
        },
        Err(problems) => {
            let rendered = render(&problems);
            let Some(last) = last else {
                anyhow::bail!(
                    "the policy in {} is refused, and there is none from before:\n{}",
                    dir.display(),
                    rendered.join("\n")
                );
            };
            tracing::error!(
                revision = last.revision,
                "the policy directory is refused; the last good revision stays:\n{}",
                rendered.join("\n")
            );
            Ok((last, rendered))
        }
    }
}

fn last_accepted(store: &Store) -> anyhow::Result<Option<Revision>> {
    let Some((_, record)) = store.last::<RevisionRecord>(Kind::Revision)? else { return Ok(None) };
    match policy::load(record.files) {
        Ok(loaded) => Ok(Some(Revision {
            revision: record.revision,
            policy: loaded.policy,
            hash: record.hash,
            loaded_unix_s: record.loaded_unix_s,
        })),
        Err(problems) => {
            // Accepted by another version of this program: start from the directory.
            tracing::warn!(
                revision = record.revision,
                "the stored revision is not accepted by this version:\n{}",
                render(&problems).join("\n")
            );
            Ok(None)
        }
    }
}

fn accept(store: &Store, revision: u64, loaded: Loaded) -> anyhow::Result<Revision> {
    let loaded_unix_s = now_unix_s();
    let record = RevisionRecord { revision, hash: loaded.hash.clone(), loaded_unix_s, files: loaded.files };
    let mut changes = vec![Change::put(Kind::Revision, format!("{revision:020}"), &record)];
    if let Some(oldest) = revision.checked_sub(REVISIONS_MAX) {
        changes.push(Change::Remove(Kind::Revision, format!("{oldest:020}")));
    }
    store.apply(&changes)?;
    tracing::info!(revision, hash = loaded.hash, files = record.files.len(), "policy accepted");
    Ok(Revision { revision, policy: loaded.policy, hash: loaded.hash, loaded_unix_s })
}

fn render(problems: &Problems) -> Vec<String> {
    problems.list().iter().map(ToString::to_string).collect()
}

fn trust_domain_problem(last: &Revision, loaded: &Loaded) -> String {
    format!(
        "MeshConfig.spec.trustDomain: {} cannot become {}: every identity would change; start a new mesh with a new --data-dir",
        last.policy.mesh().trust_domain(),
        loaded.policy.mesh().trust_domain()
    )
}

impl Actor for PolicyStore {
    type Msg = Message;
    type State = State;
    type Arguments = (Arc<Parts>, PathBuf);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (parts, dir): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let watcher = watch(&dir, myself.clone());
        if let Err(error) = &watcher {
            tracing::warn!(%error, "the policy directory is not watched, only read each 5 s");
        }
        myself.send_interval(POLL, || Message::Changed);
        let told = parts.problems.load().join("\n");
        Ok(State { parts, dir, told, asked: false, _watcher: watcher.ok() })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Changed => {
                if !std::mem::replace(&mut state.asked, true) {
                    myself.send_after(SETTLE, || Message::Look);
                }
            }
            Message::Look => {
                state.asked = false;
                state.look().await?;
            }
        }
        Ok(())
    }
}

fn watch(dir: &std::path::Path, store: ActorRef<Message>) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let read_only = matches!(&event, Ok(event) if event.kind.is_access());
        if !read_only {
            // It has ended with the control plane.
            let _ = store.send_message(Message::Changed);
        }
    })?;
    watcher.watch(dir, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

impl State {
    /// Returns its problems: none.
    fn put_in_force(&self, number: u64, loaded: Loaded) -> Result<Vec<String>, ActorProcessingErr> {
        let revision = accept(&self.parts.store, number, loaded)?;
        self.parts.metrics.revision.set(revision.revision);
        self.parts.policy.store(Arc::new(revision));
        // A registry that is being started anew reads the policy by itself.
        let _ = self.parts.registry().map(|registry| registry.send_message(RegistryMessage::PolicyChanged));
        Ok(Vec::new())
    }

    async fn look(&mut self) -> Result<(), ActorProcessingErr> {
        let in_force = self.parts.policy.load_full();
        let dir = self.dir.clone();
        // Much policy takes a second to check, in which nothing else should wait.
        let problems = match tokio::task::spawn_blocking(move || policy::load_dir(&dir)).await? {
            Ok(loaded) if loaded.hash == in_force.hash => Vec::new(),
            Ok(loaded) if loaded.policy.mesh().trust_domain() != in_force.policy.mesh().trust_domain() => {
                vec![trust_domain_problem(&in_force, &loaded)]
            }
            Ok(loaded) => match planner::check_size(&loaded.policy, SNAPSHOT_BYTES_MAX) {
                Ok(()) => self.put_in_force(in_force.revision + 1, loaded)?,
                Err(too_large) => vec![too_large.to_string()],
            },
            Err(problems) => render(&problems),
        };
        let told = problems.join("\n");
        if told != self.told && !problems.is_empty() {
            tracing::error!(
                revision = in_force.revision,
                "the policy directory is refused; revision {} stays:\n{told}",
                in_force.revision
            );
        }
        self.told = told;
        self.parts.metrics.policy_problems.set(i64::try_from(problems.len()).unwrap_or(i64::MAX));
        self.parts.problems.store(Arc::new(problems));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
