//! Whole sessions over loopback: joining, pushes, renewal, restarts, and every refusal in words.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outrider_shared::identity::{JoinCredential, Material};
use outrider_shared::session::{FromControlPlane, FromSidecar, Hello, Report};
use outrider_shared::snapshot::{Snapshot, Version};
use tempfile::TempDir;

use super::control_plane::{ControlPlane, DOMAIN, Keys, LONG, SIDECAR, Validity, key, snapshot};
use crate::session::store::{Store, StoredIdentity};
use crate::session::{Effects, Session, SessionConfig, SessionError, start};

/// The rest of a sidecar, as far as a session sees it.
#[derive(Default)]
struct Recorder {
    identities: RefCell<Vec<Arc<Material>>>,
    snapshots: RefCell<Vec<Arc<Snapshot>>>,
    refuse: RefCell<Option<Vec<String>>>,
}

impl Effects for Recorder {
    fn identity(&self, material: Arc<Material>) {
        self.identities.borrow_mut().push(material);
    }
    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Result<(), Vec<String>> {
        if let Some(reasons) = self.refuse.borrow().clone() {
            return Err(reasons);
        }
        self.snapshots.borrow_mut().push(snapshot);
        Ok(())
    }
    fn report(&self) -> Report {
        Report { boot: "boot-1".to_owned(), ..Report::default() }
    }
}

impl Recorder {
    fn sequences(&self) -> Vec<u64> {
        self.snapshots.borrow().iter().map(|snapshot| snapshot.version.sequence).collect()
    }
}

fn config(home: &TempDir, control_plane: SocketAddr, join: Option<JoinCredential>) -> SessionConfig {
    SessionConfig {
        control_planes: vec![control_plane.to_string()],
        data_dir: home.path().to_owned(),
        join,
        service: "shop/orders".parse().unwrap(),
        advertise: None,
        inbound_port: 14_006,
        boot: "boot-1".to_owned(),
    }
}

fn begin(config: SessionConfig) -> (Session, Rc<Recorder>) {
    let recorder = Rc::new(Recorder::default());
    (start(config, recorder.clone()).expect("a session"), recorder)
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not in time: {what}");
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn hello(control_plane: &mut ControlPlane) -> Hello {
    match control_plane.hear().await {
        FromSidecar::Hello(hello) => hello,
        other => panic!("a session begins with Hello, not with {other:?}"),
    }
}

fn version(sequence: u64) -> Version {
    Version { epoch: 1, sequence }
}

/// Joined, connected, and with snapshot 5 in force.
async fn in_force(keys: &Arc<Keys>, home: &TempDir) -> (ControlPlane, Session, Rc<Recorder>) {
    let mut control_plane = ControlPlane::start(keys);
    let (session, recorder) = begin(config(home, control_plane.address, Some(keys.credential())));
    hello(&mut control_plane).await;
    control_plane.say(keys.push(&snapshot(5)));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(5) });
    (control_plane, session, recorder)
}

#[actix_rt::test]
async fn a_new_sidecar_joins_says_hello_takes_a_push_and_reports() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let mut control_plane = ControlPlane::start(&keys);
    let (session, recorder) = begin(config(&home, control_plane.address, Some(keys.credential())));
    session.announce(true);
    let said = hello(&mut control_plane).await;
    assert_eq!((said.sidecar.as_str(), said.boot.as_str(), said.version), (SIDECAR, "boot-1", None));
    assert!(said.serving);
    assert_eq!(recorder.identities.borrow().len(), 1);
    control_plane.say(keys.push(&snapshot(1)));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(1) });
    assert_eq!(recorder.sequences(), [1]);
    while !matches!(control_plane.hear_any().await, FromSidecar::Report(report) if report.boot == "boot-1") {}
    let status = session.status();
    assert!(status.connected && status.nack.is_none() && status.last_error.is_none(), "{status:?}");
    assert_eq!(status.in_force, Some(version(1)));
    session.announce(false);
    assert_eq!(control_plane.hear().await, FromSidecar::Announce { serving: false });
}

#[actix_rt::test]
async fn a_used_token_ends_the_sidecar_with_what_to_do() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let control_plane = ControlPlane::start(&keys);
    control_plane.room(|room| room.problem = Some(409));
    let (session, recorder) = begin(config(&home, control_plane.address, Some(keys.credential())));
    let failed = tokio::time::timeout(Duration::from_secs(20), session.failed()).await.expect("in time");
    let words = crate::error_chain(&failed);
    assert!(matches!(failed, SessionError::Enrol(_)), "{words}");
    assert!(words.contains("this token is spent") && words.contains("outrider token create"), "{words}");
    assert_eq!(control_plane.room(|room| room.joins), 1);
    assert!(recorder.identities.borrow().is_empty());
}

#[actix_rt::test]
async fn a_control_plane_in_trouble_is_asked_again() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let mut control_plane = ControlPlane::start(&keys);
    control_plane.room(|room| room.problem = Some(503));
    let (session, _) = begin(config(&home, control_plane.address, Some(keys.credential())));
    eventually("a second attempt", || control_plane.room(|room| room.joins) >= 2).await;
    assert!(session.status().last_error.is_some_and(|error| error.contains("503")));
    control_plane.room(|room| room.problem = None);
    hello(&mut control_plane).await;
}

#[actix_rt::test]
async fn another_mesh_s_control_plane_is_not_joined_and_named() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let control_plane = ControlPlane::start(&Keys::new());
    let (session, _) = begin(config(&home, control_plane.address, Some(keys.credential())));
    let named = || session.status().last_error.is_some_and(|error| error.contains("pinned key"));
    eventually("the reason", named).await;
    assert_eq!(control_plane.room(|room| room.joins), 0);
}

#[actix_rt::test]
async fn a_sidecar_starts_from_its_disk_with_the_control_plane_down() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (control_plane, session, _) = in_force(&keys, &home).await;
    let address = control_plane.address;
    eventually("the snapshot on disk", || home.path().join("version.json").exists()).await;
    drop(session);
    control_plane.stop().await;
    eventually("the data directory", || Store::open(home.path()).is_ok()).await;

    let (session, recorder) = begin(config(&home, address, None));
    assert_eq!(recorder.identities.borrow().len(), 1);
    assert_eq!(recorder.sequences(), [5]);
    assert_eq!(session.status().in_force, Some(version(5)));
    assert!(!session.status().connected);
}

#[actix_rt::test]
async fn a_restarted_sidecar_does_not_spend_its_credential_again_and_says_what_is_in_force() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, session, _) = in_force(&keys, &home).await;
    eventually("the snapshot on disk", || home.path().join("version.json").exists()).await;
    drop(session);
    eventually("the data directory", || Store::open(home.path()).is_ok()).await;
    let (_session, recorder) = begin(config(&home, control_plane.address, Some(keys.credential())));
    assert_eq!(hello(&mut control_plane).await.version, Some(version(5)));
    assert_eq!(control_plane.room(|room| room.joins), 1);
    control_plane.say(keys.push(&snapshot(5)));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(5) });
    assert_eq!(recorder.sequences(), [5], "what is in force is not put in force again");
}

#[actix_rt::test]
async fn without_identity_and_credential_there_is_no_session() {
    let home = TempDir::new().unwrap();
    let config = config(&home, "127.0.0.1:1".parse().unwrap(), None);
    let refused = start(config, Rc::new(Recorder::default())).expect_err("no way in");
    assert!(refused.to_string().contains("outrider token create"), "{refused}");
}

#[actix_rt::test]
async fn a_data_directory_of_another_service_is_refused() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (control_plane, session, _) = in_force(&keys, &home).await;
    drop(session);
    eventually("the data directory", || Store::open(home.path()).is_ok()).await;
    let service = "shop/payments".parse().unwrap();
    let config = SessionConfig { service, ..config(&home, control_plane.address, None) };
    let refused = start(config, Rc::new(Recorder::default())).expect_err("another's");
    assert!(matches!(refused, SessionError::OtherService { .. }), "{refused}");
}

#[actix_rt::test]
async fn every_push_that_may_not_come_into_force_is_refused_with_the_reason() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, session, recorder) = in_force(&keys, &home).await;
    let other_sidecar = Snapshot { sidecar: "cd34".parse().unwrap(), ..snapshot(6) };
    let same_version = Snapshot { revision: 2, ..snapshot(5) };
    let body = serde_json::to_string(&snapshot(6)).unwrap();
    let unknown = FromControlPlane::Push(keys.sign(body.replacen('{', r#"{"colour":1,"#, 1)));
    let FromControlPlane::Push(mut forged) = keys.push(&snapshot(6)) else { unreachable!() };
    forged.body = forged.body.replace("Deny", "AllowSameTrustDomain");
    for (push, reason) in [
        (keys.push(&snapshot(4)), "older"),
        (keys.push(&same_version), "another content"),
        (keys.push(&other_sidecar), "cd34"),
        (unknown, "colour"),
        (FromControlPlane::Push(forged), "signature"),
        (Keys::new().push(&snapshot(6)), "control plane"),
    ] {
        control_plane.say(push);
        match control_plane.hear().await {
            FromSidecar::Nack { reasons, .. } => {
                assert!(reasons.iter().any(|given| given.contains(reason)), "{reason}: {reasons:?}");
                assert_eq!(session.status().nack, Some(reasons));
            }
            other => panic!("{reason}: {other:?}"),
        }
    }
    *recorder.refuse.borrow_mut() = Some(vec!["a route to nowhere".to_owned()]);
    control_plane.say(keys.push(&snapshot(6)));
    let nack =
        FromSidecar::Nack { version: Some(version(6)), reasons: vec!["a route to nowhere".to_owned()] };
    assert_eq!(control_plane.hear().await, nack);
    assert_eq!(recorder.sequences(), [5]);
    assert_eq!(session.status().in_force, Some(version(5)));

    *recorder.refuse.borrow_mut() = None;
    control_plane.say(keys.push(&snapshot(6)));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(6) });
    assert_eq!(session.status().nack, None);
}

#[actix_rt::test]
async fn an_older_or_changed_snapshot_on_disk_is_not_served() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (control_plane, session, _) = in_force(&keys, &home).await;
    eventually("the snapshot on disk", || home.path().join("version.json").exists()).await;
    drop(session);
    control_plane.stop().await;
    let older = keys.sign(serde_json::to_string(&snapshot(4)).unwrap());
    let mut changed = keys.sign(serde_json::to_string(&snapshot(5)).unwrap());
    changed.body = changed.body.replace("Deny", "AllowSameTrustDomain");
    for swapped in [older, changed] {
        eventually("the data directory", || Store::open(home.path()).is_ok()).await;
        std::fs::write(home.path().join("snapshot.json"), serde_json::to_vec(&swapped).unwrap()).unwrap();
        let (session, recorder) = begin(config(&home, "127.0.0.1:1".parse().unwrap(), None));
        assert_eq!(recorder.identities.borrow().len(), 1);
        assert!(recorder.snapshots.borrow().is_empty());
        assert_eq!(session.status().in_force, None);
    }
}

#[actix_rt::test]
async fn a_leaf_that_expired_while_the_control_plane_was_down_is_renewed() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, session, _) = in_force(&keys, &home).await;
    drop(session);
    eventually("the data directory", || Store::open(home.path()).is_ok()).await;
    {
        let store = Store::open(home.path()).unwrap();
        let identity = store.identity().unwrap().expect("it has joined");
        let leaf_key = key();
        let long_ago = Validity { since_s: 7_200, for_s: -3_600 };
        let leaf = keys.leaf(&leaf_key, long_ago);
        let leaf_key = BASE64_STANDARD.encode(leaf_key.serialized_der());
        store.keep_identity(&StoredIdentity { leaf, leaf_key, ..identity }).unwrap();
    }
    let (_session, recorder) = begin(config(&home, control_plane.address, None));
    assert!(recorder.identities.borrow().is_empty(), "an expired leaf is used");
    hello(&mut control_plane).await;
    assert_eq!(control_plane.room(|room| room.renewals), 1);
    assert_eq!(recorder.identities.borrow().len(), 1);
}

#[actix_rt::test]
async fn a_leaf_past_half_of_its_life_is_renewed_with_a_new_key_and_the_session_moves_to_it() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let mut control_plane = ControlPlane::start(&keys);
    // Nine tenths and more are over: the session leaves the leaf as soon as there is another one.
    control_plane.room(|room| room.validity = Validity { since_s: 9_500, for_s: 500 });
    let (session, recorder) = begin(config(&home, control_plane.address, Some(keys.credential())));
    eventually("joined", || control_plane.room(|room| room.joins) == 1).await;
    control_plane.room(|room| room.validity = LONG);
    eventually("renewed", || recorder.identities.borrow().last().is_some_and(|leaf| !near_its_end(leaf)))
        .await;
    let keys_seen: Vec<_> = recorder
        .identities
        .borrow()
        .iter()
        .map(|leaf| leaf.certified_key.key.public_key().expect("a key").as_ref().to_vec())
        .collect();
    assert!(keys_seen.windows(2).all(|pair| pair[0] != pair[1]));
    eventually("connected", || session.status().connected).await;
    hello(&mut control_plane).await;
    // Whether the first session began on the old leaf depends on timing; the last one is on the new.
    control_plane.offer(keys.push(&snapshot(1)));
    loop {
        match control_plane.hear().await {
            FromSidecar::Ack { .. } => break,
            FromSidecar::Hello(_) => control_plane.offer(keys.push(&snapshot(1))),
            other => panic!("{other:?}"),
        }
    }
}

#[actix_rt::test]
async fn a_leaf_is_renewed_at_once_where_policy_gives_the_service_another_identity() {
    const BUYING: &str = "spiffe://mesh.test/ns/shop/sa/buying";
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, _session, recorder) = in_force(&keys, &home).await;
    let renamed = |sequence| {
        let mut renamed = snapshot(sequence);
        renamed.local.identity = BUYING.parse().unwrap();
        renamed
    };
    // A leaf that does not have the name even so is not asked for again and again.
    control_plane.say(keys.push(&renamed(6)));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(6) });
    eventually("renewed", || recorder.identities.borrow().len() == 2).await;
    control_plane.say(keys.push(&snapshot(7)));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(7) });
    assert_eq!(control_plane.room(|room| room.renewals), 1);
    control_plane.room(|room| room.identity = "spiffe://mesh.test/ns/shop/sa/selling");
    let mut selling = snapshot(8);
    selling.local.identity = "spiffe://mesh.test/ns/shop/sa/selling".parse().unwrap();
    control_plane.say(keys.push(&selling));
    let has_it = || {
        recorder.identities.borrow().last().is_some_and(|leaf| leaf.identity.as_str().ends_with("/selling"))
    };
    eventually("the leaf has the new name", has_it).await;
    assert_eq!(control_plane.room(|room| room.renewals), 2);
}

fn near_its_end(leaf: &Material) -> bool {
    leaf.not_after.as_secs() - rustls_pki_types::UnixTime::now().as_secs() < 1_000
}

#[actix_rt::test]
async fn a_renewal_that_is_refused_for_good_leads_to_joining_anew() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (control_plane, session, _) = in_force(&keys, &home).await;
    drop(session);
    eventually("the data directory", || Store::open(home.path()).is_ok()).await;
    {
        let store = Store::open(home.path()).unwrap();
        let identity = store.identity().unwrap().expect("it has joined");
        let leaf_key = key();
        let leaf = keys.leaf(&leaf_key, Validity { since_s: 9_500, for_s: 500 });
        let leaf_key = BASE64_STANDARD.encode(leaf_key.serialized_der());
        let instance_credential = "forgotten".to_owned();
        store.keep_identity(&StoredIdentity { instance_credential, leaf, leaf_key, ..identity }).unwrap();
    }
    let (_session, _) = begin(config(&home, control_plane.address, Some(keys.credential())));
    eventually("joined anew", || control_plane.room(|room| room.joins) == 2).await;
    assert!(control_plane.room(|room| room.renewals) >= 1);
}

#[actix_rt::test]
async fn a_credential_of_a_mesh_that_was_made_anew_is_spent_at_once() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (control_plane, session, _) = in_force(&keys, &home).await;
    eventually("the snapshot on disk", || home.path().join("version.json").exists()).await;
    drop(session);
    control_plane.stop().await;
    eventually("the data directory", || Store::open(home.path()).is_ok()).await;
    let keys = Keys::new();
    let mut control_plane = ControlPlane::start(&keys);
    let (_session, recorder) = begin(config(&home, control_plane.address, Some(keys.credential())));
    assert_eq!(recorder.sequences(), [5], "what is on disk serves until then");
    hello(&mut control_plane).await;
    assert_eq!(control_plane.room(|room| room.joins), 1);
    let new_epoch = Snapshot { version: Version { epoch: 2, sequence: 1 }, ..snapshot(1) };
    control_plane.say(keys.push(&new_epoch));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: new_epoch.version });
}

#[actix_rt::test]
async fn a_snapshot_of_five_mebibytes_goes_through() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, _session, recorder) = in_force(&keys, &home).await;
    let mut large = snapshot(6);
    large.local.upstreams = (0..60_000)
        .map(|n| format!("a-namespace-of-some-length-{n}/{}", "x".repeat(63)).parse().unwrap())
        .collect();
    assert!(serde_json::to_string(&large).unwrap().len() > 5 << 20);
    control_plane.say(keys.push(&large));
    assert_eq!(control_plane.hear().await, FromSidecar::Ack { version: version(6) });
    assert_eq!(
        recorder.snapshots.borrow().last().map(|snapshot| snapshot.local.upstreams.len()),
        Some(60_000)
    );
}

#[actix_rt::test]
async fn a_withdrawal_waits_for_the_answer_and_is_not_taken_back_by_a_new_session() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, session, _) = in_force(&keys, &home).await;
    session.announce(true);
    assert_eq!(control_plane.hear().await, FromSidecar::Announce { serving: true });
    let asked = async {
        assert_eq!(control_plane.hear().await, FromSidecar::Withdraw);
        control_plane.say(FromControlPlane::Withdrawn);
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(session.withdraw(), asked) })
        .await
        .expect("in time");
    control_plane.say(FromControlPlane::Goodbye { reason: "a restart".to_owned() });
    assert!(!hello(&mut control_plane).await.serving);
}

#[actix_rt::test]
async fn a_withdrawal_without_a_session_does_not_wait() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (control_plane, session, _) = in_force(&keys, &home).await;
    control_plane.stop().await;
    eventually("the session is down", || !session.status().connected).await;
    tokio::time::timeout(Duration::from_secs(5), session.withdraw()).await.expect("at once");
}

#[actix_rt::test]
async fn a_goodbye_is_remembered_in_words_and_followed_by_a_new_session() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let (mut control_plane, session, _) = in_force(&keys, &home).await;
    control_plane.say(FromControlPlane::Goodbye { reason: "another session of yours".to_owned() });
    let remembered =
        || session.status().last_error.is_some_and(|error| error.contains("another session of yours"));
    eventually("the reason", remembered).await;
    assert_eq!(hello(&mut control_plane).await.version, Some(version(5)));
}

#[actix_rt::test]
async fn the_next_control_plane_is_tried_where_one_does_not_answer() {
    let (keys, home) = (Keys::new(), TempDir::new().unwrap());
    let mut control_plane = ControlPlane::start(&keys);
    let mut config = config(&home, control_plane.address, Some(keys.credential()));
    // Port 1 of loopback: nothing listens there.
    config.control_planes.insert(0, "127.0.0.1:1".to_owned());
    let (_session, recorder) = begin(config);
    hello(&mut control_plane).await;
    assert_eq!(recorder.identities.borrow()[0].bundle.trust_domain().as_str(), DOMAIN);
}
