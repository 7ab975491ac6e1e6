//! An upstream's actor that panics, for real: what callers notice of it, which is nothing, and what is left of its state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outrider_tests::app::Speaks;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod, Sidecar};
use outrider_tests::{policy, wait};
use serde_json::Value;
use tokio::task::JoinHandle;

/// Of `alpha`'s endpoints one that fails is left out for as long as the case takes.
const BREAKER: &str = "client: {circuitBreaker: {consecutiveFailures: 3, open: {initial: 10m, max: 10m}}}";
/// Between two requests of one that makes load.
const PAUSE: Duration = Duration::from_millis(2);
/// Started anew at once so often within ten seconds; then after a pause of one second each.
const AT_ONCE: u64 = 5;

/// `caller` calls `alpha`, of which one endpoint's breaker is open, and `beta`.
struct World {
    caller: Pod,
    good: Pod,
    bad: Pod,
    _beta: Pod,
    _mesh: Mesh,
}

impl World {
    async fn start() -> Self {
        let parts = [
            policy::OPEN,
            &policy::http("caller", 8080),
            &policy::http("alpha", 8080),
            &policy::http("beta", 8080),
            &policy::traffic("alpha", BREAKER),
        ];
        let mesh = Mesh::start(&policy::documents(&parts)).await;
        let caller = mesh.pod("caller").allow_faults().start().await;
        let [bad, good] = [
            mesh.pod("alpha").app(port::APP, Speaks::Http1).start().await,
            mesh.pod("alpha").app(port::APP, Speaks::Http1).start().await,
        ];
        let beta = mesh.pod("beta").app(port::APP, Speaks::Http1).start().await;
        caller.sidecar.sees("test/alpha", 2).await;
        caller.sidecar.sees("test/beta", 1).await;
        bad.app().plan("status=503");
        let world = Self { caller, good, bad, _beta: beta, _mesh: mesh };
        wait::until("the breaker of the bad one is open", async || {
            let call = Call::get("alpha.test:8080", "/").send(world.caller.outbound());
            call.await.map_err(|error| format!("{error:?}"))?;
            let view = world.alpha().await?;
            if open_endpoints(&view) == 1 { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
        world
    }

    fn sidecar(&self) -> &Sidecar {
        &self.caller.sidecar
    }

    async fn alpha(&self) -> Result<Value, String> {
        self.sidecar().upstream_view("test/alpha").await
    }

    /// Makes `alpha`'s actor panic; whether it was there to hear of it.
    async fn panics(&self) -> bool {
        let answer = self.sidecar().post("/faults/panic?upstream=test/alpha").await.expect("an answer");
        assert!([202, 503].contains(&answer.status.as_u16()), "{answer:?}");
        answer.status == 202
    }

    async fn incarnation(&self, least: u64) {
        wait::until(&format!("incarnation {least}"), async || {
            let view = self.alpha().await?;
            if view["incarnation"].as_u64() >= Some(least) { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
    }
}

fn open_endpoints(view: &Value) -> usize {
    let endpoints = view["endpoints"].as_array().map_or(&[][..], Vec::as_slice);
    endpoints.iter().filter(|endpoint| endpoint["state"] == "Open").count()
}

/// Requests to one service, one after the other, until it is stopped.
struct Load {
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    served: AtomicU64,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Load {
    fn start(world: &World, host: &'static str) -> Self {
        let (counts, outbound) = (Arc::<Counts>::default(), world.caller.outbound());
        let of = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            while !of.stop.load(Ordering::Relaxed) {
                match Call::get(host, "/").send(outbound).await {
                    Ok(answer) if answer.status == 200 => drop(of.served.fetch_add(1, Ordering::Relaxed)),
                    other => of.failed.lock().expect("nobody panics with it").push(format!("{other:?}")),
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { counts, task }
    }

    fn served(&self) -> u64 {
        self.counts.served.load(Ordering::Relaxed)
    }

    /// Until so many more are served.
    async fn serves(&self, more: u64) {
        let from = self.served();
        wait::until("requests are served", async || {
            let now = self.served() - from;
            if now >= more { Ok(()) } else { Err(format!("{now}")) }
        })
        .await;
    }

    async fn end_without_failure(self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        wait::bounded("the last request", self.task).await.expect("not aborted");
        let failed = self.counts.failed.lock().expect("nobody panics with it");
        assert!(
            failed.is_empty(),
            "{} served, and not: {failed:?}",
            self.counts.served.load(Ordering::Relaxed)
        );
    }
}

#[tokio::test]
async fn nobody_notices_an_actor_that_panics_and_its_breaker_stays_open() {
    let world = World::start().await;
    let (alpha, beta) = (Load::start(&world, "alpha.test:8080"), Load::start(&world, "beta.test:8080"));
    alpha.serves(20).await;
    beta.serves(1).await;
    let began = world.bad.app().begun();
    let before = world.alpha().await.expect("in use");
    assert_eq!(before["incarnation"], 0);

    assert!(world.panics().await);
    wait::within(Duration::from_secs(2), "a new actor", async || {
        let view = world.alpha().await?;
        if view["incarnation"] == 1 { Ok(()) } else { Err(view.to_string()) }
    })
    .await;
    alpha.serves(50).await;
    beta.serves(1).await;

    let after = world.alpha().await.expect("in use");
    assert_eq!(open_endpoints(&after), 1, "{after}");
    assert!(after["generation"].as_u64() > before["generation"].as_u64(), "{before} {after}");
    assert_eq!(world.bad.app().begun(), began, "what was open got no request");
    assert!(world.good.app().begun() >= 50);
    wait::until("the new actor hears what shards see", async || {
        let view = world.alpha().await?;
        let mailbox = &view["mailbox"];
        if view["actor"].is_object() && mailbox["depth"] == 0 && mailbox["capacity"] == 18_432 {
            return Ok(());
        }
        Err(view.to_string())
    })
    .await;
    let restarts = world.sidecar().metric("outrider_actor_restarts_total", &[]).await;
    assert_eq!(restarts, Ok(1.0));
    let of_alpha = ["upstream=\"test/alpha\""];
    let heard = world.sidecar().metric("outrider_actor_message_latency_seconds_count", &of_alpha).await;
    assert!(heard.is_ok_and(|heard| heard > 0.0));
    let events = world.sidecar().get(port::ADMIN, "/events").await.expect("events").text();
    assert!(events.contains("its actor panicked over Panic, and a new one goes on"), "{events}");
    assert_eq!(world.sidecar().upstream_view("test/beta").await.expect("in use")["incarnation"], 0);
    alpha.end_without_failure().await;
    beta.end_without_failure().await;
}

#[tokio::test]
async fn an_actor_that_panics_again_and_again_is_started_less_often_and_requests_go_on() {
    let world = World::start().await;
    let (alpha, beta) = (Load::start(&world, "alpha.test:8080"), Load::start(&world, "beta.test:8080"));
    alpha.serves(1).await;
    beta.serves(1).await;
    let paused = 2;
    let began = Instant::now();
    let mut quickest = Duration::MAX;
    for panics in 1..=AT_ONCE + paused {
        wait::until("it is there to panic", async || {
            if world.panics().await { Ok(()) } else { Err("it is being started anew".to_owned()) }
        })
        .await;
        let panicked = Instant::now();
        if panics > AT_ONCE {
            alpha.serves(1).await;
        }
        world.incarnation(panics).await;
        quickest = quickest.min(panicked.elapsed());
    }
    // Of several, since other tests run beside this one.
    assert!(
        quickest <= Duration::from_millis(100),
        "a new actor was seen after {quickest:?} at the earliest"
    );
    // Where this machine is so slow that ten seconds passed between five of them, it took longer still.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(paused), "{} panics took {took:?}", AT_ONCE + paused);
    println!("{} panics and restarts took {took:?}", AT_ONCE + paused);
    assert_eq!(open_endpoints(&world.alpha().await.expect("in use")), 1);
    alpha.serves(20).await;
    beta.serves(1).await;
    world.sidecar().is_ready().await.expect("it lives, and is ready");
    alpha.end_without_failure().await;
    beta.end_without_failure().await;
}

#[tokio::test]
async fn only_where_faults_are_allowed_can_anybody_ask_for_a_panic_and_of_what_is_in_use() {
    let world = World::start().await;
    let ask = async |sidecar: &Sidecar, upstream: &str| {
        let answer = sidecar.post(&format!("/faults/panic?upstream={upstream}")).await.expect("an answer");
        answer.status.as_u16()
    };
    assert_eq!(ask(world.sidecar(), "test/nobody").await, 404);
    assert_eq!(ask(&world.good.sidecar, &format!("inbound:{}", port::APP)).await, 404, "not allowed");
    let view = world.good.sidecar.upstream_view(&format!("inbound:{}", port::APP)).await.expect("in use");
    assert_eq!(view["incarnation"], 0);
}
