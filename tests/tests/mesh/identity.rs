//! Who is let in between sidecars, and who is not: each refusal is counted under its reason and logged.

use std::time::{Duration, SystemTime};

use outrider_shared::names::ALPN_MESH;
use outrider_tests::app::{App, Speaks};
use outrider_tests::authority::{Authority, Credentials, Wanted};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::offline::{Offline, Place};
use outrider_tests::mesh::sidecar::Sidecar;
use outrider_tests::peer::{self, Hello};
use outrider_tests::{policy, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HOUR: Duration = Duration::from_hours(1);
const CALLER: &str = "spiffe://test.mesh/ns/test/sa/caller";
const TARGET: &str = "test/web:8080";

/// One sidecar, as a process so that its log can be read, and the app behind it.
struct Door {
    web: Sidecar,
    app: App,
    offline: Offline,
}

impl Door {
    async fn start() -> Self {
        let mut offline = Offline::new(&policy::documents(&[
            policy::OPEN,
            &policy::http("caller", 8080),
            &policy::http("web", 8080),
        ]));
        let place = offline.place("web");
        let app = App::start("web", place.at(port::APP), Speaks::Http1).unwrap();
        let credentials = offline.authority.issue(&offline.wanted(&place));
        let web = Sidecar::in_process(offline.prepare(&place, &credentials), offline.folder(), &[]);
        web.ready().await;
        Self { web, app, offline }
    }

    /// Whoever comes so is refused, counted once under this reason, and logged.
    async fn refuses(&self, hello: &Hello, reason: &str) {
        let answer = hello.request(self.web.inbound(), "/", &[Hello::target(TARGET)]).await;
        assert!(answer.is_err(), "{reason}: {answer:?}");
        self.counted(reason).await;
    }

    async fn counted(&self, reason: &str) {
        let label = format!("reason=\"{reason}\"");
        self.web.counts("outrider_tls_handshake_failures_total", &[&label], 1.0).await;
        let counted = self.web.metric("outrider_tls_handshake_failures_total", &[&label]).await.unwrap();
        assert!((counted - 1.0).abs() < f64::EPSILON, "{reason} was counted {counted} times");
        wait::until(&format!("{reason} is logged"), async || {
            let log = self.web.log();
            if log.contains(reason) { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(self.app.begun(), 0, "nobody who is refused reaches the app");
    }

    fn issue(&self, change: impl FnOnce(&mut Wanted)) -> Credentials {
        let mut wanted = Wanted::new(CALLER);
        change(&mut wanted);
        self.offline.authority.issue(&wanted)
    }
}

#[tokio::test]
async fn a_peer_of_the_mesh_is_let_in() {
    let door = Door::start().await;
    let hello = Hello::of(door.issue(|_| {}));
    let answer = hello.request(door.web.inbound(), "/x", &[Hello::target(TARGET)]).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = door.app.seen_one();
    assert_eq!(seen.header("x-forwarded-client-cert"), Some(format!("URI={CALLER}")));
    let failed = door.web.metric("outrider_tls_handshake_failures_total", &[]).await.unwrap();
    assert!(failed.abs() < f64::EPSILON);
}

#[tokio::test]
async fn plaintext_is_refused() {
    let door = Door::start().await;
    let error = Call::get("web.test:8080", "/").send(door.web.inbound()).await;
    assert!(error.is_err(), "{error:?}");
    door.counted("plaintext").await;
}

#[tokio::test]
async fn whoever_does_not_prove_a_valid_identity_of_this_mesh_is_refused_for_that_reason() {
    let door = Door::start().await;
    let now = SystemTime::now();
    let foreign = Authority::new("other.mesh");
    let forger = Authority::new("test.mesh");
    let anonymous = Hello { credentials: None, ..Hello::of(door.issue(|_| {})) };
    door.refuses(&anonymous, "no_certificate").await;
    for (credentials, reason) in [
        (foreign.issue(&Wanted::new("spiffe://other.mesh/ns/test/sa/caller")), "foreign_trust_domain"),
        (forger.issue(&Wanted::new(CALLER)), "unknown_issuer"),
        (
            door.issue(|wanted| (wanted.not_before, wanted.not_after) = (now - 2 * HOUR, now - HOUR)),
            "expired",
        ),
        (
            door.issue(|wanted| (wanted.not_before, wanted.not_after) = (now + HOUR, now + 2 * HOUR)),
            "not_yet_valid",
        ),
        (door.issue(|wanted| wanted.uris.clear()), "no_uri_san"),
        (
            door.issue(|wanted| wanted.uris.push("spiffe://test.mesh/ns/test/sa/admin".to_owned())),
            "many_uri_sans",
        ),
        (
            door.issue(|wanted| wanted.uris = vec!["spiffe://test.mesh/ns/test/../sa/caller".to_owned()]),
            "bad_spiffe_id",
        ),
    ] {
        door.refuses(&Hello::of(credentials), reason).await;
    }
    // The door still opens to those that belong here.
    let hello = Hello::of(door.issue(|_| {}));
    assert_eq!(hello.request(door.web.inbound(), "/", &[Hello::target(TARGET)]).await.unwrap().status, 200);
}

#[tokio::test]
async fn older_tls_and_other_protocols_are_refused() {
    static TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
    let door = Door::start().await;
    let hello = Hello::of(door.issue(|_| {}));
    let old = Hello { versions: TLS12, ..hello.clone() };
    old.handshake(door.web.inbound()).await.expect_err("TLS 1.2 is not spoken");
    for alpn in [b"h2".to_vec(), b"http/1.1".to_vec(), b"outrider/2".to_vec()] {
        let other = Hello { alpn: vec![alpn.clone()], ..hello.clone() };
        other.handshake(door.web.inbound()).await.expect_err("ALPN must be outrider/1");
    }
    let silent = Hello { alpn: Vec::new(), ..hello.clone() };
    let answer = silent.request(door.web.inbound(), "/", &[Hello::target(TARGET)]).await;
    assert!(answer.is_err(), "without ALPN: {answer:?}");
    assert_eq!(
        hello.handshake(door.web.inbound()).await.unwrap().get_ref().1.alpn_protocol(),
        Some(ALPN_MESH)
    );
    assert_eq!(door.app.begun(), 0);
}

#[tokio::test]
async fn a_session_is_never_resumed() {
    let door = Door::start().await;
    let hello = Hello::of(door.issue(|_| {}));
    let mut tls = hello.handshake(door.web.inbound()).await.unwrap();
    // What a client may resume with would come after the handshake, before anything else.
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut settings = [0; 9];
    wait::bounded("the peer's settings", tls.read_exact(&mut settings)).await.unwrap();
    assert_eq!(tls.get_ref().1.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn half_a_handshake_holds_nothing_up() {
    let door = Door::start().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(door.web.inbound()).await.unwrap();
        stream.write_all(b"\x16\x03\x01").await.unwrap();
        silent.push(stream);
    }
    let hello = Hello::of(door.issue(|_| {}));
    let headers = [Hello::target(TARGET)];
    let answer = hello.request(door.web.inbound(), "/", &headers);
    assert_eq!(wait::bounded("an answer", answer).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_peer_may_ask_only_for_what_is_declared_here_and_never_names_an_address() {
    let door = Door::start().await;
    let outside = App::start("outside", (door.offline.address(), port::APP).into(), Speaks::Http1).unwrap();
    let undeclared = App::start("undeclared", (door.web.ip(), 9999).into(), Speaks::Http1).unwrap();
    let hello = Hello::of(door.issue(|_| {}));
    let address = outside.address().to_string();
    for (target, status, label) in [
        ("test/other:8080", 421, "misdirected"),
        ("test/web:9999", 421, "misdirected"),
        ("other/web:8080", 421, "misdirected"),
        ("test/caller:8080", 421, "misdirected"),
        (address.as_str(), 400, "malformed_target"),
        ("web", 400, "malformed_target"),
        ("", 400, "malformed_target"),
    ] {
        let answer = hello.request(door.web.inbound(), "/", &[Hello::target(target)]).await.unwrap();
        let refusal = answer.refusal();
        assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (status, label), "{target:?}");
        assert!(!answer.header("outrider-refused").is_empty(), "a sidecar is told who refused");
    }
    let named = [Hello::target(TARGET), ("host", &*address)];
    let answer = hello.request(door.web.inbound(), "/", &named).await.unwrap();
    assert_eq!(answer.refusal().label, "malformed_request", "a Host beside another :authority");
    let answer = hello.request(door.web.inbound(), "/", &[]).await.unwrap();
    assert_eq!(answer.refusal().label, "malformed_target", "without a target");
    assert_eq!(outside.connections() + undeclared.connections() + door.app.begun(), 0);
}

/// A caller whose one endpoint of `web` is whatever a case puts there.
async fn caller_with_an_endpoint() -> (Offline, Sidecar, Place) {
    let mut offline = Offline::new(&policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::http("other", 8080),
    ]));
    let (caller, web) = (offline.unlisted("caller"), offline.place("web"));
    let caller = offline.start(&caller).await;
    (offline, caller, web)
}

#[tokio::test]
async fn an_endpoint_must_prove_the_identity_of_the_service_that_is_called() {
    let (offline, caller, web) = caller_with_an_endpoint().await;
    let now = SystemTime::now();
    let own = "spiffe://test.mesh/ns/test/sa/web";
    let expired = Wanted { not_before: now - 2 * HOUR, not_after: now - HOUR, ..Wanted::new(own) };
    for (credentials, told) in [
        // Of the mesh, and still another service.
        (offline.authority.issue(&Wanted::new("spiffe://test.mesh/ns/test/sa/other")), "was expected"),
        (offline.authority.issue(&expired), "expired"),
        (Authority::new("test.mesh").issue(&Wanted::new(own)), "no root that is trusted"),
    ] {
        let impostor = peer::impostor(web.inbound(), credentials).await;
        let refusal = wait::until("the endpoint is tried again", async || {
            let answer = Call::get("web.test:8080", "/").send(caller.outbound()).await.unwrap();
            let refusal = answer.refusal();
            // Ejected after a failure before: its next turn comes by itself.
            if refusal.label == "peer_identity" && refusal.detail.contains(told) {
                Ok(refusal)
            } else {
                Err(format!("{refusal:?}"))
            }
        })
        .await;
        assert_eq!((refusal.status.as_u16(), refusal.flag.as_str()), (503, "UF"), "{told}");
        assert_eq!(refusal.error, "tls_certificate_error");
        impostor.abort();
        assert!(impostor.await.is_err(), "it was still there");
    }
}

#[tokio::test]
async fn what_is_kept_on_disk_is_enough_to_serve_without_a_control_plane() {
    let mut offline = Offline::new(&policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
    ]));
    let (caller, web) = (offline.unlisted("caller"), offline.place("web"));
    let app = App::start("web", web.at(port::APP), Speaks::Http1).unwrap();
    let web = offline.start(&web).await;
    let caller = offline.start(&caller).await;
    let answer = Call::get("web.test:8080", "/").send(caller.outbound()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.app().as_str()), (200, "web"));
    assert_eq!(app.seen().len(), 1);
    let state = caller.snapshot().await.unwrap();
    assert_eq!(state["session"]["connected"], false, "{state}");
    drop(web);
}

#[tokio::test]
async fn a_snapshot_on_disk_that_was_changed_is_not_believed() {
    let mut offline = Offline::new(&policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
    ]));
    let caller = offline.unlisted("caller");
    let credentials = offline.authority.issue(&offline.wanted(&caller));
    let start = offline.prepare(&caller, &credentials);
    let path = start.data_dir.join("snapshot.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("AllowSameTrustDomain", "AllowSameTrustdomain")).unwrap();
    let sidecar = Sidecar::in_thread(start);
    wait::until("the sidecar says why it is not ready", async || {
        let answer = sidecar.get(port::HEALTH, "/ready").await?;
        if answer.status == 503 && answer.text().contains("snapshot") { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let answer = Call::get("web.test:8080", "/").send(sidecar.outbound()).await.unwrap();
    assert_eq!(answer.refusal().label, "not_ready");
}
