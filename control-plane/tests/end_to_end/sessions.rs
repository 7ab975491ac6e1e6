//! From joining to farewell, across restarts and changes of policy.

use std::cell::RefCell;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Instant;

use awc::http::Method;
use outrider_control_plane::registry::machine::WITHDRAWAL_MAX;
use outrider_control_plane::store::{Change, Kind, Store};
use outrider_shared::ServiceId;
use outrider_shared::api::{PolicyAnswer, QuotaAnswer, StatAnswer};
use outrider_shared::identity::JoinCredential;
use outrider_shared::session::{FromControlPlane, FromSidecar, InboundTotals, LeafView, UpstreamView};
use outrider_shared::snapshot::{Endpoint, Snapshot};

use crate::sidecar::{Sidecar, endpoints};
use crate::world::{World, service, until};

#[actix_rt::test]
async fn a_sidecar_that_joined_is_published_once_it_was_dialled_and_acknowledges_what_it_gets() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.session(&world).await;
    let snapshot = session.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
    assert_eq!(snapshot.sidecar, orders.id);
    assert_eq!(snapshot.revision, 1);
    until("the acknowledged version is shown", async || {
        let sidecars = world.sidecars().await;
        sidecars.len() == 1 && sidecars[0].acked == Some(snapshot.version)
    })
    .await;
    let view = &world.sidecars().await[0];
    assert!(view.connected && view.published);
    assert_eq!(view.address, Some(orders.address.to_string()));
    let stat: StatAnswer = world.get("/v1/stat").await;
    let of_orders = stat.services.iter().find(|stat| stat.name == "orders").unwrap();
    assert_eq!((of_orders.sidecars, of_orders.endpoints), (1, 1));
}

#[actix_rt::test]
async fn a_refused_snapshot_is_shown_with_its_reasons() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.session(&world).await;
    assert!(matches!(session.hear().await, Some(FromControlPlane::Push(_))));
    let reasons = vec!["no route/v9 here".to_owned()];
    session.say(FromSidecar::Nack { version: None, reasons: reasons.clone() }).await;
    until("the reasons are shown", async || world.sidecars().await[0].nack == Some(reasons.clone())).await;
}

#[actix_rt::test]
async fn of_a_refusal_with_more_and_longer_reasons_than_anyone_reads_the_beginning_is_kept() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.session(&world).await;
    assert!(matches!(session.hear().await, Some(FromControlPlane::Push(_))));
    let reasons = vec!["ä".repeat(2_000); 100];
    session.say(FromSidecar::Nack { version: None, reasons }).await;
    let kept = [vec![format!("{}…", "ä".repeat(512)); 32], vec!["and 68 more".to_owned()]].concat();
    until("the first reasons are shown", async || world.sidecars().await[0].nack == Some(kept.clone())).await;
}

#[actix_rt::test]
async fn an_address_where_somebody_else_answers_is_not_published_and_it_is_said_why() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut payments = Sidecar::of(&world, "shop/payments").await;
    payments.address = orders.address;
    let mut session = payments.session(&world).await;
    assert_eq!(endpoints(&session.snapshot().await, "shop/payments"), 0);
    until("the reason is shown", async || {
        let because = world.sidecars().await[0].unpublished_because.clone().unwrap();
        because.contains("spiffe://mesh.example/ns/shop/sa/orders")
    })
    .await;
}

#[actix_rt::test]
async fn a_session_under_another_services_certificate_is_refused_with_the_reason() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let payments = Sidecar::of(&world, "shop/payments").await;
    // The certificate is of orders; what is claimed differs.
    let as_payments = payments.hello();
    let mut as_other_service = orders.hello();
    as_other_service.service = payments.service.clone();
    let mut unknown = orders.hello();
    unknown.sidecar = "ab".parse().unwrap();
    let mut newer = orders.hello();
    newer.protocol += 1;
    for (hello, says) in [
        (as_payments, "the certificate is that of sidecar"),
        (as_other_service, "joined as shop/orders"),
        (unknown, "has not joined here"),
        (newer, "protocol"),
    ] {
        let mut session = orders.connect(&world).await;
        session.say(FromSidecar::Hello(hello)).await;
        let reason = session.goodbye().await;
        assert!(reason.contains(says), "{reason}");
    }
    assert_eq!(world.sidecars().await, []);
}

#[actix_rt::test]
async fn a_sidecar_cannot_take_the_session_of_another_one_of_its_service() {
    let world = World::started().await;
    let (one, other) = (Sidecar::of(&world, "shop/orders").await, Sidecar::of(&world, "shop/orders").await);
    let mut session = one.session(&world).await;
    session.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
    let mut thief = other.connect(&world).await;
    thief.say(FromSidecar::Hello(one.hello())).await;
    let reason = thief.goodbye().await;
    assert!(reason.contains(other.id.as_str()) && reason.contains(one.id.as_str()), "{reason}");
    // Nothing was taken from it: its session goes on.
    session.say(FromSidecar::Announce { serving: false }).await;
    session.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 0).await;
}

#[actix_rt::test]
async fn a_session_ends_with_the_leaf_that_it_was_opened_with() {
    let mut world = World::started().await;
    let mut orders = Sidecar::of(&world, "shop/orders").await;
    world.stop().await;
    orders.take_leaf_of(&world, 4);
    world.start().await;
    let mut session = orders.session(&world).await;
    session.snapshot().await;
    // What the sidecar says does not keep the session: only its next leaf does.
    orders.renew(&world).await.map_err(|problem| format!("{problem:?}")).unwrap();
    let reason = session.goodbye().await;
    assert!(reason.contains("expired"), "{reason}");
    orders.session(&world).await.snapshot().await;
}

#[actix_rt::test]
async fn a_sidecar_that_lacks_what_its_snapshot_needs_is_refused_by_the_features_name() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let hello_without = |lacking: &str| {
        let mut hello = orders.hello();
        hello.features.retain(|feature| feature != lacking);
        FromSidecar::Hello(hello)
    };
    let mut session = orders.connect(&world).await;
    session.say(hello_without("authorization/v1")).await;
    let reason = session.goodbye().await;
    assert!(reason.contains("revision 1 needs authorization/v1"), "{reason}");
    assert_eq!(world.sidecars().await, []);
    // What no document asks for need not be had, until one does.
    let mut session = orders.connect(&world).await;
    session.say(hello_without("route/v1")).await;
    session.snapshot().await;
    world.write(
        "route.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: orders, namespace: shop}\n\
         spec:\n  parentRefs: [{kind: Service, group: \"\", name: orders, port: 80}]\n  \
         rules: [{backendRefs: [{name: orders, port: 80}]}]\n",
    );
    let reason = session.goodbye().await;
    assert!(reason.contains("revision 2 needs route/v1"), "{reason}");
    let mut session = orders.connect(&world).await;
    session.say(hello_without("route/v1")).await;
    assert!(session.goodbye().await.contains("route/v1"));
    orders.session(&world).await.snapshot().await;
}

#[actix_rt::test]
async fn a_report_with_more_than_a_report_may_have_ends_the_session_and_is_counted() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut many_rows = orders.report();
    many_rows.inbound = vec![InboundTotals::default(); 1_001];
    let mut many_upstreams = orders.report();
    many_upstreams.upstreams = vec![UpstreamView::default(); 201];
    for (report, says) in [(many_rows, "1001 rows"), (many_upstreams, "201 upstreams")] {
        let mut session = orders.session(&world).await;
        session.say(FromSidecar::Report(Box::new(report))).await;
        let reason = session.goodbye().await;
        assert!(reason.contains(says), "{reason}");
    }
    let mut page = world.bare(Method::GET, "/metrics").send().await.unwrap();
    let page = String::from_utf8(page.body().await.unwrap().to_vec()).unwrap();
    assert!(page.contains("outrider_reports_refused_total 2\n"), "{page}");
}

#[actix_rt::test]
async fn a_report_with_numbers_that_no_leaf_has_is_shown_and_harms_nobody() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.session(&world).await;
    let mut report = orders.report();
    report.leaf = Some(LeafView {
        identity: orders.material.identity.clone(),
        serial: String::new(),
        not_before_unix_s: i64::MAX,
        not_after_unix_s: i64::MIN,
    });
    report.uptime_ms = u64::MAX;
    session.say(FromSidecar::Report(Box::new(report))).await;
    until("its certificate is shown as expired", async || {
        let stat: StatAnswer = world.get("/v1/stat").await;
        stat.services.iter().any(|stat| stat.name == "orders" && stat.cert_remaining_s == Some(i64::MIN))
    })
    .await;
    let mut page = world.bare(Method::GET, "/metrics").send().await.unwrap();
    let page = String::from_utf8(page.body().await.unwrap().to_vec()).unwrap();
    assert!(!page.contains("outrider_actor_restarts_total{"), "{page}");
}

#[actix_rt::test]
async fn endpoints_of_a_service_with_a_new_identity_are_published_again_once_they_prove_it() {
    let mut world = World::started().await;
    let mut orders = Sidecar::of(&world, "shop/orders").await;
    let payments = Sidecar::of(&world, "shop/payments").await;
    let mut watching = payments.session(&world).await;
    let mut session = orders.session(&world).await;
    watching.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
    let renamed = service("orders").replace("serviceAccount: orders", "serviceAccount: buying");
    world.write("orders.yaml", &renamed);
    let is_new = |snapshot: &Snapshot| snapshot.local.identity.as_str().ends_with("/sa/buying");
    session.snapshot_with(is_new).await;
    watching.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 0).await;
    // A session under the old leaf is the sidecar's still: how else would it hear of its new name?
    drop(session);
    let mut session = orders.session(&world).await;
    session.snapshot_with(is_new).await;
    orders.renew(&world).await.map_err(|problem| format!("{problem:?}")).unwrap();
    assert!(orders.material.identity.as_str().ends_with("/sa/buying"));
    watching.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
    // A change that nobody saw happen is seen at the next start.
    world.stop().await;
    world.write("orders.yaml", &service("orders"));
    world.start().await;
    let mut watching = payments.session(&world).await;
    watching.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 0).await;
    let _session = orders.session(&world).await;
    orders.renew(&world).await.map_err(|problem| format!("{problem:?}")).unwrap();
    watching.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
}

#[actix_rt::test]
async fn a_withdrawal_waits_for_a_session_that_refuses_the_directory_without_it() {
    let world = World::started().await;
    let (orders, payments) =
        (Sidecar::of(&world, "shop/orders").await, Sidecar::of(&world, "shop/payments").await);
    let (mut one, mut other) = (orders.session(&world).await, payments.session(&world).await);
    let both = |snapshot: &_| endpoints(snapshot, "shop/orders") + endpoints(snapshot, "shop/payments") == 2;
    one.snapshot_with(both).await;
    other.snapshot_with(both).await;
    let asked = Instant::now();
    one.say(FromSidecar::Withdraw).await;
    let Some(FromControlPlane::Push(_)) = other.hear().await else { panic!("no push") };
    other.say(FromSidecar::Nack { version: None, reasons: vec!["no".to_owned()] }).await;
    loop {
        match one.hear().await {
            Some(FromControlPlane::Withdrawn) => break,
            Some(FromControlPlane::Push(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(asked.elapsed() >= WITHDRAWAL_MAX, "answered after {:?}", asked.elapsed());
}

#[actix_rt::test]
async fn a_session_without_hello_or_with_another_boots_report_ends_with_the_reason() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.connect(&world).await;
    session.say(FromSidecar::Withdraw).await;
    assert!(session.goodbye().await.contains("Hello"));
    let mut session = orders.session(&world).await;
    let mut report = orders.report();
    report.boot = "another".to_owned();
    session.say(FromSidecar::Report(Box::new(report))).await;
    assert!(session.goodbye().await.contains("another boot"));
    until("the session is over", async || !world.sidecars().await[0].connected).await;
}

#[actix_rt::test]
async fn a_second_session_of_a_sidecar_ends_the_first() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut first = orders.session(&world).await;
    first.snapshot().await;
    let mut second = orders.session(&world).await;
    assert!(first.goodbye().await.contains("another session"));
    second.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
    let sidecars = world.sidecars().await;
    assert!(sidecars.len() == 1 && sidecars[0].connected);
}

#[actix_rt::test]
async fn a_token_that_two_use_at_once_is_good_for_one() {
    let world = World::started().await;
    let token = world.mint("tokens", "shop/orders").await;
    let (one, two) = futures_util::future::join(
        Sidecar::join(&world, &token, "shop/orders"),
        Sidecar::join(&world, &token, "shop/orders"),
    )
    .await;
    let refused: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].status, 409);
    let other = Sidecar::join(&world, &token, "shop/payments").await.err().unwrap();
    assert_eq!(other.status, 409);
}

#[actix_rt::test]
async fn who_is_refused_too_often_at_joining_is_asked_to_wait_whatever_it_shows_then() {
    let world = World::started().await;
    let token = world.mint("tokens", "shop/orders").await;
    let wrong = JoinCredential { secret: "guessed".to_owned(), ..token };
    let guess = async |times: usize| {
        let guesses = (0..times).map(|_| Sidecar::join(&world, &wrong, "shop/orders"));
        let answers = futures_util::future::join_all(guesses).await;
        answers.into_iter().map(|answer| answer.err().unwrap().status).collect::<Vec<_>>()
    };
    let status = guess(40).await;
    assert!(status.iter().filter(|status| **status == 401).count() >= 31, "{status:?}");
    // A refusal takes a second, and one is forgiven every two: whoever goes on guessing has others at its address wait.
    let kept = RefCell::new(None);
    until("a good token has to wait too", async || {
        let token = world.mint("tokens", "shop/orders").await;
        let joins = Sidecar::join(&world, &token, "shop/orders");
        let (_, joined) = futures_util::future::join(guess(2), joins).await;
        kept.replace(Some(token));
        joined.is_err_and(|problem| problem.status == 429)
    })
    .await;
    // It was not spent, and is good when the wait is over.
    let token = kept.take().expect("one was asked to wait");
    until("one is forgiven", async || Sidecar::join(&world, &token, "shop/orders").await.is_ok()).await;
}

#[actix_rt::test]
async fn a_leaf_is_renewed_without_a_client_certificate() {
    let world = World::started().await;
    let mut orders = Sidecar::of(&world, "shop/orders").await;
    let serial = orders.material.serial.clone();
    orders.renew(&world).await.map_err(|problem| format!("{problem:?}")).unwrap();
    assert_ne!(orders.material.serial, serial);
    orders.session(&world).await.snapshot().await;
    orders.credential = "guessed".to_owned();
    assert_eq!(orders.renew(&world).await.unwrap_err().status, 401);
}

#[actix_rt::test]
async fn a_withdrawal_is_answered_once_the_others_have_taken_the_directory_without_it() {
    let world = World::started().await;
    let (orders, payments) =
        (Sidecar::of(&world, "shop/orders").await, Sidecar::of(&world, "shop/payments").await);
    let (mut one, mut other) = (orders.session(&world).await, payments.session(&world).await);
    let both = |snapshot: &_| endpoints(snapshot, "shop/orders") + endpoints(snapshot, "shop/payments") == 2;
    one.snapshot_with(both).await;
    other.snapshot_with(both).await;
    one.say(FromSidecar::Withdraw).await;
    other.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 0).await;
    loop {
        match one.hear().await {
            Some(FromControlPlane::Withdrawn) => break,
            Some(FromControlPlane::Push(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    // Whoever is alone is answered too.
    other.say(FromSidecar::Withdraw).await;
    drop(one);
    loop {
        match other.hear().await {
            Some(FromControlPlane::Withdrawn) => break,
            Some(FromControlPlane::Push(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[actix_rt::test]
async fn a_snapshot_of_five_mebibytes_goes_through() {
    const ENDPOINTS: u32 = 65_000;
    let mut world = World::new();
    let payments: ServiceId = "shop/payments".parse().unwrap();
    let endpoint = |n: u32| {
        let sidecar = format!("{n:032x}");
        let address = SocketAddr::from((Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(n)), 14_006));
        let endpoint = Endpoint { sidecar: sidecar.parse().unwrap(), address };
        Change::put(Kind::Endpoint, sidecar, &(&payments, endpoint))
    };
    let endpoints_before: Vec<Change> = (0..ENDPOINTS).map(endpoint).collect();
    Store::open(world.data.path()).unwrap().apply(&endpoints_before).unwrap();
    world.start().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let snapshot = orders.session(&world).await.snapshot().await;
    assert_eq!(endpoints(&snapshot, "shop/payments"), ENDPOINTS as usize);
    assert!(serde_json::to_vec(&snapshot).unwrap().len() >= 5 << 20);
}

#[actix_rt::test]
async fn a_service_that_leaves_the_policy_loses_its_sessions_and_gets_them_back_when_it_returns() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.session(&world).await;
    session.snapshot().await;
    std::fs::remove_file(world.policy.path().join("orders.yaml")).unwrap();
    assert!(session.goodbye().await.contains("no longer declares shop/orders"));
    let reason = orders.session(&world).await.goodbye().await;
    assert!(reason.contains("declares no service shop/orders"), "{reason}");
    world.write("orders.yaml", &service("orders"));
    until("the third revision", async || world.get::<PolicyAnswer>("/v1/policy").await.revision == 3).await;
    let snapshot = orders.session(&world).await.snapshot_with(|s| endpoints(s, "shop/orders") == 1).await;
    assert_eq!(snapshot.revision, 3);
}

#[actix_rt::test]
async fn a_restart_keeps_the_root_the_versions_the_directory_and_what_was_counted() {
    let mut world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let payments = Sidecar::of(&world, "shop/payments").await;
    let mut session = orders.session(&world).await;
    let before = session.snapshot_with(|snapshot| endpoints(snapshot, "shop/orders") == 1).await;
    let totals = |requests| InboundTotals {
        port: 80,
        peer: "external".to_owned(),
        requests,
        ..InboundTotals::default()
    };
    let mut report = orders.report();
    report.inbound = vec![totals(5)];
    session.say(FromSidecar::Report(Box::new(report.clone()))).await;
    let counted = async |world: &World, expected| {
        let rows = world.get::<QuotaAnswer>("/v1/quota?service=shop/orders").await.rows;
        rows.len() == 1 && rows[0].requests == expected
    };
    until("the report is counted", async || counted(&world, 5).await).await;

    world.stop().await;
    world.start().await;
    assert!(counted(&world, 5).await);
    // Another sidecar sees the endpoint before its own has come back, under a later version.
    let after = payments.session(&world).await.snapshot().await;
    assert_eq!(endpoints(&after, "shop/orders"), 1);
    assert_eq!((after.version.epoch, after.revision), (before.version.epoch, before.revision));
    assert!(after.version > before.version);
    // The same root: the leaf from before is good, and what is reported again is not counted again.
    let mut session = orders.session(&world).await;
    session.snapshot().await;
    session.say(FromSidecar::Report(Box::new(report.clone()))).await;
    report.inbound = vec![totals(7)];
    session.say(FromSidecar::Report(Box::new(report))).await;
    until("what is new is counted", async || counted(&world, 7).await).await;
}

#[actix_rt::test]
async fn stopping_leaves_no_port() {
    let mut world = World::started().await;
    let (api, control) = (world.running().api_addr, world.running().control_addr);
    let orders = Sidecar::of(&world, "shop/orders").await;
    let mut session = orders.session(&world).await;
    session.snapshot().await;
    world.stop().await;
    for address in [api, control] {
        assert!(std::net::TcpStream::connect(address).is_err(), "{address}");
    }
    while session.hear().await.is_some() {}
}
