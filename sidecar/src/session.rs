//! The sidecar's session with the control plane: its identity, its snapshots, its reports.
//!
//! Everything here runs on the control arbiter, as two tasks that share nothing but what [`state`] holds. One keeps the
//! leaf fresh: it joins once, and renews at half of each leaf's life ([`enrol`], [`renewal`]). The other keeps one
//! WebSocket open and follows what comes over it ([`link`]). What both bring is written to disk
//! ([`store`]), so a sidecar starts and serves with the control plane down: nothing on a request's way ever waits for this.
//!
//! What it does not do: decide what a snapshot means. The rest of the sidecar does, behind [`Effects`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use outrider_shared::ServiceId;
use outrider_shared::identity::{JoinCredential, Material};
use outrider_shared::session::Report;
use outrider_shared::snapshot::{Snapshot, Version};
use serde::Serialize;

mod backoff;
mod enrol;
mod gate;
mod link;
mod renewal;
mod state;
mod store;
mod tasks;

pub use enrol::EnrolError;
pub use store::StoreError;

use state::State;
use store::Store;

/// What a session needs to know. Checked by the sidecar's own config before it comes here.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// `host:port` of each control plane, tried in turn.
    pub control_planes: Vec<String>,
    /// Belongs to this sidecar alone; made with mode 0700 where it is missing.
    pub data_dir: PathBuf,
    /// Spent only where `data_dir` holds no identity.
    pub join: Option<JoinCredential>,
    pub service: ServiceId,
    /// Where others reach the inbound mesh port, if it is not the session's source address.
    pub advertise: Option<SocketAddr>,
    pub inbound_port: u16,
    /// Random, one for each run of the process.
    pub boot: String,
}

/// What the rest of the sidecar does with what arrives. Called on the control arbiter; must not block.
pub trait Effects: 'static {
    /// A leaf that is valid now: from disk, from joining, or renewed.
    fn identity(&self, material: Arc<Material>);
    /// A verified snapshot. The reasons of a refusal go to the control plane; the one before stays in force.
    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<String>>;
    /// The counters as they stand; asked each second while a session is up.
    fn report(&self) -> Report;
}

/// Why there can be no session at all. Ends the sidecar; whatever may pass by itself is retried instead.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the data directory cannot be used")]
    Store(#[from] StoreError),
    #[error(
        "no identity in {data_dir} and no join credential: mint one with `outrider token create` and pass it to this sidecar"
    )]
    NoCredential { data_dir: PathBuf },
    #[error(
        "{data_dir} belongs to a sidecar of {found}, and this one is for {wanted}: give each sidecar a data directory of its own"
    )]
    OtherService { data_dir: PathBuf, found: ServiceId, wanted: ServiceId },
    #[error("no address of a control plane: name at least one as host:port")]
    NoControlPlane,
    #[error("the control plane refuses to let this sidecar into the mesh")]
    Enrol(#[source] EnrolError),
}

/// How the session stands, for `/ready`, `/snapshot` and the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionStatus {
    pub connected: bool,
    /// Connected, or not, for so many milliseconds. A snapshot is as stale as the session has been down.
    pub since_ms: u64,
    /// Why the last attempt to connect, join or renew failed; cleared by the next that succeeds.
    pub last_error: Option<String>,
    pub in_force: Option<Version>,
    /// Why the last push was refused, where one was.
    pub nack: Option<Vec<String>>,
}

/// A running session. Dropped, it ends.
#[derive(Debug)]
pub struct Session {
    state: Rc<State>,
    tasks: Vec<actix_rt::task::JoinHandle<()>>,
}

/// Reads what lies on disk, tells `effects` at once what of it is usable, and begins to connect.
pub fn start(config: SessionConfig, effects: Rc<dyn Effects>) -> Result<Session, SessionError> {
    if config.control_planes.is_empty() {
        return Err(SessionError::NoControlPlane);
    }
    let store = Store::open(&config.data_dir)?;
    let identity = store.identity()?;
    match &identity {
        None if config.join.is_none() => {
            return Err(SessionError::NoCredential { data_dir: config.data_dir });
        }
        Some(identity) if identity.service != config.service => {
            return Err(SessionError::OtherService {
                data_dir: config.data_dir,
                found: identity.service.clone(),
                wanted: config.service,
            });
        }
        _ => {}
    }
    let state = Rc::new(State::new(config, effects, store));
    if let Some(identity) = identity {
        state.restore(identity)?;
    }
    let tasks = vec![
        actix_rt::spawn(tasks::keep_leaf_fresh(state.clone())),
        actix_rt::spawn(tasks::keep_connected(state.clone())),
    ];
    Ok(Session { state, tasks })
}

impl Session {
    /// Tells the control plane whether the app's ports all answer.
    pub fn announce(&self, serving: bool) {
        self.state.wish(|wish| wish.serving = serving);
    }

    /// Asks to be taken out of every directory, for good; returns once it is done, or once the session is down, when
    /// nobody is there to ask. The caller bounds the wait.
    pub async fn withdraw(&self) {
        self.state.wish(|wish| wish.withdraw = true);
        self.state.withdrawn_or_down().await;
    }

    /// Tells the control plane the last of the counters, and ends the session for good; returns once both is done, or at
    /// once where the session is down. The caller bounds the wait.
    pub async fn leave(&self) {
        self.state.wish(|wish| wish.leave = true);
        self.state.down().await;
    }

    /// Returns when the sidecar cannot go on: it is refused for good, and has no valid leaf.
    pub async fn failed(&self) -> SessionError {
        self.state.failure().await
    }

    pub fn status(&self) -> SessionStatus {
        self.state.status()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
