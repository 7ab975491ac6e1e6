//! A sidecar that is short of memory refuses what is less important, says so, and stays ready.

use std::time::Duration;

use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::process::{self, Signal};
use outrider_tests::{policy, wait};

/// Less than any process has.
const TINY: u64 = 1 << 10;

/// Requests to `web` are of three classes, by the header of `caller`.
const CLASSES: &str = "apiVersion: outrider.mesh/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: web, namespace: test}
spec:
  targetRefs: [{group: \"\", kind: Service, name: web}]
  server: {queue: {maxDepth: 16, maxWait: 100ms, priority: {header: x-class, classes: [critical, default, batch],
    default: default, trustedFrom: [\"spiffe://test.mesh/ns/test/sa/caller\"]}}}
";

struct World {
    caller: Pod,
    web: Pod,
    mesh: Mesh,
}

impl World {
    /// `web` is a process, which nothing is short in yet.
    async fn start_with_process(open_files: u32) -> Self {
        let (caller, web) = (policy::http("caller", 8080), policy::http("web", 8080));
        let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &caller, &web, CLASSES])).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).open_files(open_files).start().await;
        caller.sidecar.sees("test/web", 1).await;
        Self { caller, web, mesh }
    }

    /// Until the least important class is refused for this reason; the most important one is served all the time.
    async fn sheds(&self, short_of: &str) {
        wait::until("the last class is refused", async || {
            assert_eq!(self.ask("critical").await.status, 200);
            let answer = self.ask("batch").await;
            if answer.status == 200 {
                return Err("it was served".to_owned());
            }
            let refusal = answer.refusal();
            assert_eq!(refusal.label, "overloaded");
            if refusal.detail.contains(short_of) { Ok(()) } else { Err(refusal.detail) }
        })
        .await;
    }

    async fn start(more: &[&str]) -> Self {
        let (caller, web) = (policy::http("caller", 8080), policy::http("web", 8080));
        let documents = [&[policy::OPEN, &caller, &web], more].concat();
        let mesh = Mesh::start(&policy::documents(&documents)).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).memory_limit(TINY).start().await;
        caller.sidecar.sees("test/web", 1).await;
        web.sidecar.counts("outrider_overload_level", &[], 10.0).await;
        Self { caller, web, mesh }
    }

    /// The caller is overloaded, and no other.
    async fn start_with_caller() -> Self {
        let [peer, caller, web] = ["peer", "caller", "web"].map(|name| policy::http(name, 8080));
        let classes = CLASSES.replace("sa/caller", "sa/peer").replace("name: web", "name: caller");
        let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &peer, &caller, &web, &classes])).await;
        let caller = mesh.pod("caller").app(port::APP, Speaks::Http1).memory_limit(TINY).start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        caller.sidecar.sees("test/web", 1).await;
        caller.sidecar.counts("outrider_overload_level", &[], 10.0).await;
        Self { caller, web, mesh }
    }

    async fn ask(&self, class: &str) -> Answer {
        Call::get("web.test:8080", "/").header("x-class", class).send(self.caller.outbound()).await.unwrap()
    }
}

#[tokio::test]
async fn the_first_class_is_served_and_the_others_are_refused_with_the_reason() {
    let world = World::start(&[CLASSES]).await;
    for _ in 0..20 {
        assert_eq!(world.ask("critical").await.status, 200);
        for class in ["default", "batch", "unheard-of"] {
            let refusal = world.ask(class).await.refusal();
            assert_eq!((refusal.status.as_u16(), &*refusal.label, &*refusal.flag), (503, "overloaded", "OM"));
            assert!(refusal.detail.contains("short of memory"), "{refusal:?}");
        }
    }
    assert_eq!(world.web.app().seen().len(), 20);
    let reason = ["side=\"inbound\"", "reason=\"overloaded\""];
    world.web.sidecar.counts("outrider_refusals_total", &reason, 60.0).await;
    let used =
        world.web.sidecar.metric("outrider_overload_pressure", &["resource=\"memory\""]).await.unwrap();
    assert!(used > 1.0, "{used}");
    world.web.sidecar.is_ready().await.expect("load that is shed is no reason to be taken out");
    let snapshot = world.web.sidecar.snapshot().await.expect("a snapshot");
    assert_eq!(snapshot["overload"], serde_json::json!({ "level": 10, "short_of": "memory" }));
    wait::until("the control plane tells of it", async || {
        let stat: serde_json::Value = world.mesh.control.get("/v1/stat").await?;
        let services = stat["services"].as_array().ok_or("no services")?;
        let level =
            |name: &str| services.iter().find(|of| of["name"] == name).map(|of| &of["overload_level"]);
        let levels = (
            level("web").and_then(serde_json::Value::as_u64),
            level("caller").and_then(serde_json::Value::as_u64),
        );
        if levels == (Some(10), Some(0)) { Ok(()) } else { Err(stat.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_with_few_descriptors_left_refuses_the_last_class_until_it_has_some_again() {
    let world = World::start_with_process(400).await;
    assert_eq!(world.ask("batch").await.status, 200);
    let mut idle = Vec::new();
    for _ in 0..345 {
        idle.push(tokio::net::TcpStream::connect(world.web.outbound()).await.unwrap());
    }
    world.sheds("descriptors").await;
    drop(idle);
    wait::until("it is served again", async || {
        let answer = world.ask("batch").await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_that_gets_too_little_of_a_core_refuses_the_last_class() {
    let mut world = World::start_with_process(1_000).await;
    let id = world.web.sidecar.process().id();
    let starves = tokio::spawn(async move {
        // Sooner than the case's patience.
        for _ in 0..40 {
            process::signal(id, Signal::Stop);
            tokio::time::sleep(Duration::from_millis(600)).await;
            process::signal(id, Signal::Continue);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    });
    world.sheds("time on its threads").await;
    starves.abort();
    process::signal(id, Signal::Continue);
}

#[tokio::test]
async fn where_there_is_one_class_a_part_of_it_gets_through() {
    let world = World::start(&[]).await;
    let (mut served, mut refused) = (0, 0);
    for _ in 0..400 {
        let answer = world.ask("critical").await;
        if answer.status == 200 {
            served += 1;
        } else {
            assert_eq!(answer.refusal().label, "overloaded");
            refused += 1;
        }
    }
    // A tenth of 400 is 40, with a deviation of 6.
    assert!((10..=80).contains(&served), "{served} served, {refused} refused");
}

#[tokio::test]
async fn another_endpoint_takes_what_one_that_is_overloaded_refuses() {
    let world = World::start(&[CLASSES]).await;
    let spare = world.mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    world.caller.sidecar.sees("test/web", 2).await;
    for _ in 0..40 {
        assert_eq!(world.ask("batch").await.status, 200);
    }
    assert_eq!((world.web.app().seen().len(), spare.app().seen().len()), (0, 40));
}

#[tokio::test]
async fn an_apps_own_calls_are_refused_unless_they_may_be_for_a_request_that_was_taken_in() {
    let world = World::start_with_caller().await;
    for _ in 0..20 {
        let refusal = world.ask("critical").await.refusal();
        assert_eq!(
            (refusal.status.as_u16(), &*refusal.label),
            (503, "overloaded"),
            "none is of the first class"
        );
    }
    let reason = ["side=\"outbound\"", "reason=\"overloaded\""];
    world.caller.sidecar.counts("outrider_refusals_total", &reason, 20.0).await;
    // Who may name the class.
    let peer = world.mesh.pod("peer").start().await;
    peer.sidecar.sees("test/caller", 1).await;
    let taken_in = Call::get("caller.test:8080", "/").header("x-class", "critical").plan("hold");
    let outbound = peer.outbound();
    let held = tokio::spawn(async move { taken_in.send(outbound).await });
    wait::until("the app has it", async || {
        if world.caller.app().begun() > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(world.ask("any").await.status, 200, "though it says of nothing what it is for");
    }
    assert_eq!(world.web.app().seen().len(), 20);
    world.caller.app().open_gate();
    assert_eq!(wait::bounded("what was held", held).await.unwrap().unwrap().status, 200);
}
