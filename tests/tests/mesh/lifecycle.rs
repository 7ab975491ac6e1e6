//! How a sidecar comes into service and leaves it.

use std::time::Duration;

use http::Method;
use outrider_tests::app::{App, Speaks};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, wait};

const HOST: &str = "web.test:8080";

async fn mesh() -> (Mesh, Pod) {
    let policy =
        policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::http("web", 8080)]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").start().await;
    (mesh, caller)
}

/// A request that the app holds until its gate opens.
async fn hold(
    caller: &Pod,
    app: &App,
) -> tokio::task::JoinHandle<Result<outrider_tests::call::Answer, outrider_tests::call::CallError>> {
    let (begun, outbound) = (app.begun(), caller.outbound());
    let held =
        tokio::spawn(async move { Call::post(HOST, "/", "x").plan("hold,bytes=7").send(outbound).await });
    wait::until("the request reaches the app", async || {
        if app.begun() > begun { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    held
}

#[tokio::test]
async fn an_endpoint_is_published_only_while_its_app_answers() {
    let (mesh, caller) = mesh().await;
    let web = mesh.pod("web").start().await;
    assert_eq!(web.sidecar.is_ready().await, Ok(()), "ready is about the sidecar, not its app");
    let refusal = Call::get(HOST, "/").send(caller.outbound()).await.unwrap().refusal();
    assert_eq!(refusal.label, "no_endpoint");
    let app = App::start("web", web.sidecar.at(port::APP), Speaks::Http1).unwrap();
    caller.sidecar.sees("test/web", 1).await;
    assert_eq!(Call::get(HOST, "/").send(caller.outbound()).await.unwrap().status, 200);
    app.stop().await;
    caller.sidecar.sees("test/web", 0).await;
    let _back = App::start("web", web.sidecar.at(port::APP), Speaks::Http1).unwrap();
    caller.sidecar.sees("test/web", 1).await;
    assert_eq!(Call::get(HOST, "/").send(caller.outbound()).await.unwrap().status, 200);
}

#[tokio::test]
async fn sigterm_withdraws_finishes_what_is_under_way_and_exits_with_zero() {
    let (mesh, caller) = mesh().await;
    let mut web = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let held = hold(&caller, web.app()).await;
    web.sidecar.ask();
    caller.sidecar.sees("test/web", 0).await;
    wait::until("it says that it drains", async || match web.sidecar.is_ready().await {
        Err(why) if why.contains("draining") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let refusal = Call::get(HOST, "/").send(caller.outbound()).await.unwrap().refusal();
    assert_eq!(refusal.label, "no_endpoint");
    web.sidecar.process().assert_runs();
    web.app().open_gate();
    let answer = wait::bounded("the request under way", held).await.unwrap().unwrap();
    assert_eq!((answer.status.as_u16(), answer.pattern.length), (200, 7), "it was finished");
    assert_eq!(web.sidecar.exited().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once_and_says_what_was_cut_off() {
    let (mesh, caller) = mesh().await;
    let mut web = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let held = hold(&caller, web.app()).await;
    web.sidecar.ask();
    caller.sidecar.sees("test/web", 0).await;
    web.sidecar.ask();
    let status = web.sidecar.exited().await;
    assert_eq!(status.code(), Some(0));
    let answer = wait::bounded("the request that was cut off", held).await.unwrap().unwrap();
    assert_eq!(answer.refusal().label, "upstream_reset");
    assert!(web.sidecar.log().contains("cut off"), "{}", web.sidecar.log());
}

#[tokio::test]
async fn a_drain_ends_after_its_grace_though_a_request_never_does() {
    let (mesh, caller) = mesh().await;
    let mut web =
        mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).drain_grace_s(1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let held = hold(&caller, web.app()).await;
    web.sidecar.ask();
    assert_eq!(web.sidecar.exited().await.code(), Some(0));
    let answer = wait::bounded("the request that was cut off", held).await.unwrap().unwrap();
    assert_eq!(answer.refusal().label, "upstream_reset");
}

#[tokio::test]
async fn replacing_every_instance_under_load_fails_no_request() {
    let (mesh, caller) = mesh().await;
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await);
    }
    caller.sidecar.sees("test/web", 2).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (outbound, stopped) = (caller.outbound(), stopped.clone());
        workers.spawn(async move {
            let mut count = 0;
            while !*stopped.borrow() {
                let method = if worker % 2 == 0 { Method::GET } else { Method::POST };
                let answer =
                    Call::new(method, HOST, "/").plan("delay=5,bytes=100").send(outbound).await.unwrap();
                assert_eq!(answer.status, 200, "after {count}: {answer:?}");
                count += 1;
            }
            count
        });
    }
    for _ in 0..2 {
        let next = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
        caller.sidecar.sees("test/web", 3).await;
        running.push(next);
        let mut old = running.remove(0);
        old.sidecar.ask();
        assert_eq!(old.sidecar.exited().await.code(), Some(0));
        caller.sidecar.sees("test/web", 2).await;
    }
    stop.send_replace(true);
    let mut count = 0;
    while let Some(some) = wait::bounded("a worker", workers.join_next()).await {
        count += some.expect("no request failed");
    }
    assert!(count > 50, "there was load: {count}");
}

#[tokio::test]
async fn while_it_drains_the_apps_own_calls_are_still_served() {
    let policy = policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::http("last", 8080),
    ]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    let last = mesh.pod("last").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    web.sidecar.sees("test/last", 1).await;
    let held = hold(&caller, web.app()).await;
    web.sidecar.ask();
    caller.sidecar.sees("test/web", 0).await;
    let answer = Call::get("last.test:8080", "/").send(web.outbound()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    web.app().open_gate();
    assert_eq!(wait::bounded("the request under way", held).await.unwrap().unwrap().status, 200);
    assert_eq!(web.sidecar.ended().await.unwrap().cut, 0);
    assert_eq!(last.app().seen().len(), 1);
}

#[tokio::test]
async fn both_ports_of_its_own_show_what_they_should_and_nothing_to_strangers() {
    let (mesh, caller) = mesh().await;
    let _web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    Call::get(HOST, "/").send(caller.outbound()).await.unwrap();
    for (port, path, status) in [
        (port::HEALTH, "/live", 200),
        (port::HEALTH, "/ready", 200),
        (port::HEALTH, "/metrics", 200),
        (port::HEALTH, "/snapshot", 404),
        (port::HEALTH, "/upstreams", 404),
        (port::HEALTH, "/drain", 404),
        (port::ADMIN, "/snapshot", 200),
        (port::ADMIN, "/upstreams", 200),
        (port::ADMIN, "/version", 200),
        // A change is a POST.
        (port::ADMIN, "/drain", 405),
    ] {
        let answer = caller.sidecar.get(port, path).await.unwrap();
        let accepted = answer.status.as_u16() == status || (status == 405 && answer.status == 404);
        assert!(accepted, "{path}: {answer:?}");
    }
    let admin = caller.sidecar.at(port::ADMIN);
    for call in [
        Call::get("evil.example", "/snapshot"),
        Call::post("evil.example", "/drain", ""),
        Call::post(&admin.to_string(), "/drain", "").header("origin", "http://evil.example"),
    ] {
        assert_eq!(call.send(admin).await.unwrap().status, 403);
    }
    let view = caller.sidecar.upstream_view("test/web").await.unwrap();
    assert_eq!((view["requests"].as_u64(), view["side"].as_str()), (Some(1), Some("outbound")));
    assert_eq!(caller.sidecar.is_ready().await, Ok(()));

    let answer = Call::post(&admin.to_string(), "/drain", "").send(admin).await.unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    let ended = tokio::time::timeout(Duration::from_secs(15), caller.sidecar.ended())
        .await
        .expect("nothing is under way");
    assert_eq!(ended.unwrap().cut, 0);
}
