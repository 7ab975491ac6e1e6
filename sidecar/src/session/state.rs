//! What the two tasks and the handle share, on one thread: the identity, what is in force, what is asked for.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use outrider_shared::SpiffeId;
use outrider_shared::identity::{Material, SnapshotRefusal, TrustBundle, verify_snapshot};
use outrider_shared::names::FEATURES;
use outrider_shared::session::{FromSidecar, Hello, PROTOCOL};
use outrider_shared::snapshot::{SignedSnapshot, Snapshot};
use rustls_pki_types::UnixTime;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::enrol;
use super::gate::{Gate, Mark, Verdict};
use super::store::{Store, StoreError, StoredIdentity};
use super::{Effects, SessionConfig, SessionError, SessionStatus};
use crate::error_chain;

/// What the rest of the sidecar wants said. A level: the next session says it anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub serving: bool,
    pub withdraw: bool,
    /// The process is about to end.
    pub leave: bool,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    connected: bool,
    withdrawn: bool,
    since: Instant,
}

pub(super) struct State {
    pub config: SessionConfig,
    pub effects: Rc<dyn Effects>,
    store: Store,
    identity: RefCell<Option<Rc<StoredIdentity>>>,
    material: watch::Sender<Option<Arc<Material>>>,
    other_mesh: Cell<bool>,
    gate: RefCell<Gate>,
    /// The identity that the snapshot in force gives to our service; the leaf's may be an older one.
    named: watch::Sender<Option<SpiffeId>>,
    nack: RefCell<Option<Vec<String>>>,
    last_error: RefCell<Option<String>>,
    wish: watch::Sender<Wish>,
    standing: watch::Sender<Standing>,
    failure: RefCell<Option<SessionError>>,
    failed: Notify,
}

impl State {
    pub fn new(config: SessionConfig, effects: Rc<dyn Effects>, store: Store) -> Self {
        let standing = Standing { connected: false, withdrawn: false, since: Instant::now() };
        Self {
            config,
            effects,
            store,
            identity: RefCell::default(),
            material: watch::Sender::new(None),
            other_mesh: Cell::new(false),
            gate: RefCell::default(),
            named: watch::Sender::new(None),
            nack: RefCell::default(),
            last_error: RefCell::default(),
            wish: watch::Sender::new(Wish::default()),
            standing: watch::Sender::new(standing),
            failure: RefCell::default(),
            failed: Notify::new(),
        }
    }

    /// Takes up what an earlier run has left. A snapshot that cannot be used is only logged: the next push replaces it.
    pub fn restore(&self, identity: StoredIdentity) -> Result<(), SessionError> {
        let material = enrol::material_of(&identity)
            .map_err(|error| StoreError::Identity { why: error_chain(&error) })
            .map(Arc::new)?;
        *self.gate.borrow_mut() = Gate::new(self.store.seen()?);
        let credential = self.config.join.as_ref();
        self.other_mesh.set(credential.is_some_and(|join| !material.bundle.has_pin(&join.root_pin)));
        let sidecar = identity.sidecar.clone();
        *self.identity.borrow_mut() = Some(Rc::new(identity));
        self.material.send_replace(Some(material.clone()));
        match material.verify(UnixTime::now()) {
            Ok(()) => self.effects.identity(material.clone()),
            Err(refusal) => warn!(%sidecar, %refusal, "the leaf on disk is of no use until it is renewed"),
        }
        let taken = match self.store.snapshot() {
            Ok(None) => return Ok(()),
            Ok(Some(signed)) => {
                Judged::of(&signed, &material.bundle).and_then(|judged| self.put_in_force(judged))
            }
            Err(error) => Err(vec![error_chain(&error)]),
        };
        match taken {
            Ok(mark) => info!(version = %mark.version, "serving by the snapshot on disk"),
            Err(reasons) => warn!(?reasons, "the snapshot on disk is refused"),
        }
        Ok(())
    }

    /// Keeps a new identity, then uses it: after a crash the one on disk is never older than the one in use.
    pub fn adopt(&self, identity: StoredIdentity, material: Material) -> Result<(), StoreError> {
        self.store.keep_identity(&identity)?;
        self.other_mesh.set(false);
        let material = Arc::new(material);
        *self.identity.borrow_mut() = Some(Rc::new(identity));
        self.effects.identity(material.clone());
        self.material.send_replace(Some(material));
        Ok(())
    }

    pub fn identity(&self) -> Option<Rc<StoredIdentity>> {
        self.identity.borrow().clone()
    }

    /// Whether the join credential leads to a root that the identity on disk does not know: a mesh that was made anew.
    /// Until it is joined, the old identity and snapshot go on serving.
    pub fn other_mesh(&self) -> bool {
        self.other_mesh.get()
    }

    pub fn material(&self) -> Option<Arc<Material>> {
        self.material.borrow().clone()
    }

    pub fn named(&self) -> watch::Receiver<Option<SpiffeId>> {
        self.named.subscribe()
    }

    /// Waits for a leaf that has not expired.
    pub async fn valid_material(&self) -> Arc<Material> {
        let usable = |material: &Option<Arc<Material>>| {
            material
                .as_ref()
                .is_some_and(|material| !super::renewal::Life::of(material).expired(UnixTime::now()))
        };
        let mut materials = self.material.subscribe();
        let found = materials.wait_for(usable).await.expect("the sender lives as long as the state");
        found.clone().expect("just found")
    }

    /// Judges a push, puts it in force, keeps it on disk; returns the answer to it.
    ///
    /// Once begun it is not cancelled, but by the end of the session's handle.
    pub async fn take(&self, signed: SignedSnapshot) -> FromSidecar {
        let Some(material) = self.material() else {
            return FromSidecar::Nack { version: None, reasons: vec!["no identity yet".to_owned()] };
        };
        // Megabytes of JSON: not on the arbiter's thread.
        let judging = actix_rt::task::spawn_blocking(move || {
            let judged = Judged::of(&signed, &material.bundle);
            (signed, judged)
        });
        let (signed, judged) = judging.await.expect("judging a snapshot does not panic");
        let judged = match judged {
            Ok(judged) => judged,
            Err(reasons) => return self.refused(None, reasons),
        };
        let version = judged.mark.version;
        if self.gate.borrow().judge(&judged.mark) == Verdict::Have {
            return FromSidecar::Ack { version };
        }
        match self.put_in_force(judged) {
            Err(reasons) => self.refused(Some(version), reasons),
            Ok(mark) => {
                info!(%version, "a new snapshot is in force");
                self.nack.replace(None);
                let store = self.store.clone();
                let kept = actix_rt::task::spawn_blocking(move || store.keep_snapshot(&signed, &mark)).await;
                if let Err(error) = kept.expect("writing a file does not panic") {
                    // In force all the same: the app is better served by it than by the one before.
                    self.note_error(&error);
                }
                FromSidecar::Ack { version }
            }
        }
    }

    fn put_in_force(&self, judged: Judged) -> Result<Mark, Vec<String>> {
        let Judged { mark, snapshot } = judged;
        let ours = self.identity().map(|identity| identity.sidecar.clone());
        if ours.as_ref() != Some(&snapshot.sidecar) {
            return Err(vec![format!("it is for the sidecar {}, not for this one", snapshot.sidecar)]);
        }
        match self.gate.borrow().judge(&mark) {
            Verdict::Take => {}
            Verdict::Have => return Ok(mark),
            Verdict::Refuse(refusal) => return Err(vec![refusal.to_string()]),
        }
        let named = snapshot.local.identity.clone();
        self.effects.snapshot(Arc::new(snapshot))?;
        self.named.send_replace(Some(named));
        self.gate.borrow_mut().took(mark.clone());
        Ok(mark)
    }

    fn refused(
        &self,
        version: Option<outrider_shared::snapshot::Version>,
        reasons: Vec<String>,
    ) -> FromSidecar {
        warn!(?version, ?reasons, "a snapshot is refused");
        self.nack.replace(Some(reasons.clone()));
        FromSidecar::Nack { version, reasons }
    }

    /// First message of a session; nothing without an identity.
    pub fn hello(&self, wish: Wish) -> Option<Hello> {
        let identity = self.identity()?;
        Some(Hello {
            protocol: PROTOCOL,
            sidecar: identity.sidecar.clone(),
            boot: self.config.boot.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
            service: self.config.service.clone(),
            address: self.config.advertise,
            inbound_port: self.config.inbound_port,
            serving: wish.serving && !wish.withdraw,
            features: FEATURES.iter().map(ToString::to_string).collect(),
            version: self.gate.borrow().in_force(),
        })
    }

    pub fn wish(&self, change: impl FnOnce(&mut Wish)) {
        self.wish.send_if_modified(|wish| {
            let before = *wish;
            change(wish);
            *wish != before
        });
    }

    pub fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    pub fn connected(&self) {
        self.last_error.replace(None);
        self.standing.send_modify(|standing| {
            *standing = Standing { connected: true, since: Instant::now(), ..*standing };
        });
    }

    pub fn disconnected(&self) {
        self.standing.send_if_modified(|standing| {
            let was = standing.connected;
            if was {
                *standing = Standing { connected: false, since: Instant::now(), ..*standing };
            }
            was
        });
    }

    pub fn withdrawn(&self) {
        self.standing.send_modify(|standing| standing.withdrawn = true);
    }

    pub async fn withdrawn_or_down(&self) {
        let mut standings = self.standing.subscribe();
        standings
            .wait_for(|standing| standing.withdrawn || !standing.connected)
            .await
            .expect("the sender lives as long as the state");
    }

    pub async fn down(&self) {
        let mut standings = self.standing.subscribe();
        standings
            .wait_for(|standing| !standing.connected)
            .await
            .expect("the sender lives as long as the state");
    }

    pub fn note_error(&self, error: &dyn Error) {
        let text = error_chain(error);
        // The same error each few seconds is one line in the log.
        if self.last_error.borrow().as_ref() != Some(&text) {
            warn!(error = %text, "the session with the control plane");
        }
        self.last_error.replace(Some(text));
    }

    pub fn fail(&self, error: SessionError) {
        self.note_error(&error);
        self.failure.replace(Some(error));
        self.failed.notify_one();
    }

    pub async fn failure(&self) -> SessionError {
        loop {
            if let Some(error) = self.failure.take() {
                return error;
            }
            self.failed.notified().await;
        }
    }

    pub fn status(&self) -> SessionStatus {
        let standing = *self.standing.borrow();
        SessionStatus {
            connected: standing.connected,
            since_ms: u64::try_from(standing.since.elapsed().as_millis()).unwrap_or(u64::MAX),
            last_error: self.last_error.borrow().clone(),
            in_force: self.gate.borrow().in_force(),
            nack: self.nack.borrow().clone(),
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A snapshot whose signature holds.
struct Judged {
    mark: Mark,
    snapshot: Snapshot,
}

impl Judged {
    fn of(signed: &SignedSnapshot, bundle: &TrustBundle) -> Result<Self, Vec<String>> {
        let snapshot = verify_snapshot(signed, bundle, UnixTime::now())
            .map_err(|refusal: SnapshotRefusal| vec![error_chain(&refusal)])?;
        let hash = Sha256::digest(signed.body.as_bytes());
        let hash = hash.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a String takes whatever is written");
            hex
        });
        Ok(Self { mark: Mark { version: snapshot.version, hash }, snapshot })
    }
}
