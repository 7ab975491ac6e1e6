//! Several endpoints of one service: who gets how much, and what happens when one cannot be reached.

use std::collections::HashMap;
use std::time::Duration;

use http::Method;
use outrider_tests::app::{App, Speaks};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::offline::{Offline, Place};
use outrider_tests::mesh::sidecar::Sidecar;
use outrider_tests::net::Saturated;
use outrider_tests::{policy, wait};

const HOST: &str = "web.test:8080";

/// A caller, and some endpoints of `web` of which each has an app but those that are left out.
struct Several {
    caller: Sidecar,
    places: Vec<Place>,
    apps: Vec<App>,
    sidecars: Vec<Option<Sidecar>>,
    offline: Offline,
}

impl Several {
    async fn start(endpoints: usize, absent: &[usize]) -> Self {
        let mut offline = Offline::new(&policy::documents(&[
            policy::OPEN,
            &policy::http("caller", 8080),
            &policy::http("web", 8080),
        ]));
        let caller = offline.unlisted("caller");
        let places: Vec<_> = (0..endpoints).map(|_| offline.place("web")).collect();
        let (mut apps, mut sidecars) = (Vec::new(), Vec::new());
        for (index, place) in places.iter().enumerate() {
            apps.push(App::start(&index.to_string(), place.at(port::APP), Speaks::Http1).unwrap());
            sidecars.push(if absent.contains(&index) { None } else { Some(offline.start(place).await) });
        }
        let caller = offline.start(&caller).await;
        Self { caller, places, apps, sidecars, offline }
    }

    async fn ask(&self, method: Method) -> String {
        let call = Call::new(method, HOST, "/");
        let answer = wait::bounded("an answer", call.send(self.caller.outbound())).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.app()
    }

    async fn state(&self, index: usize) -> Result<String, String> {
        let view = self.caller.upstream_view("test/web").await?;
        let address = self.places[index].inbound().to_string();
        let endpoint = view["endpoints"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["address"] == address.as_str()));
        endpoint.and_then(|one| one["state"].as_str()).map(str::to_owned).ok_or_else(|| view.to_string())
    }
}

#[tokio::test]
async fn endpoints_that_are_alike_all_get_their_part() {
    let several = Several::start(3, &[]).await;
    let mut workers = tokio::task::JoinSet::new();
    let outbound = several.caller.outbound();
    for _ in 0..8 {
        workers.spawn(async move {
            let mut answered = Vec::new();
            for _ in 0..30 {
                // Longer by far than what a first answer takes more than a later one.
                let answer = Call::get(HOST, "/").plan("delay=20").send(outbound).await.unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
                answered.push(answer.app());
            }
            answered
        });
    }
    let mut counts = HashMap::<String, u32>::new();
    while let Some(answered) = wait::bounded("a worker's requests", workers.join_next()).await {
        for app in answered.unwrap() {
            *counts.entry(app).or_default() += 1;
        }
    }
    assert!(counts.len() == 3 && counts.values().all(|&count| count >= 20), "of 240: {counts:?}");
}

#[tokio::test]
async fn a_slow_endpoint_gets_far_fewer_requests() {
    let several = Several::start(3, &[]).await;
    several.apps[0].plan("delay=150");
    let mut workers = tokio::task::JoinSet::new();
    let outbound = several.caller.outbound();
    for _ in 0..8 {
        workers.spawn(async move {
            let mut slow = 0;
            for _ in 0..50 {
                let answer = Call::get(HOST, "/").send(outbound).await.unwrap();
                assert_eq!(answer.status, 200, "{answer:?}");
                slow += u32::from(answer.app() == "0");
            }
            slow
        });
    }
    let mut slow = 0;
    while let Some(some) = wait::bounded("a worker's requests", workers.join_next()).await {
        slow += some.unwrap();
    }
    // A third would be 133. Each shard must see its slowness once, and up to eight requests may be under way by then.
    assert!(slow <= 40, "{slow} of 400 went to the slow endpoint");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_connected_to_is_ejected_and_no_request_fails_by_it() {
    for method in [Method::GET, Method::POST] {
        let several = Several::start(3, &[1]).await;
        for _ in 0..60 {
            assert_ne!(several.ask(method.clone()).await, "1");
        }
        wait::until("the endpoint is seen to be ejected", async || {
            let state = several.state(1).await?;
            if state == "Healthy" { Err(state) } else { Ok(()) }
        })
        .await;
        assert_eq!(several.state(0).await.unwrap(), "Healthy");
        several.caller.counts("outrider_upstream_redispatches_total", &["test/web"], 1.0).await;
        let redispatches = several.caller.metric("outrider_upstream_redispatches_total", &[]).await.unwrap();
        assert!(
            redispatches < 30.0,
            "an ejected endpoint is left alone: {redispatches} of 60 were tried there"
        );
        assert_eq!(several.apps[1].begun(), 0);
    }
}

#[tokio::test]
async fn an_ejected_endpoint_that_has_come_back_gets_requests_again() {
    let mut several = Several::start(2, &[1]).await;
    for _ in 0..20 {
        assert_eq!(several.ask(Method::GET).await, "0");
    }
    several.sidecars[1] = Some(several.offline.start(&several.places[1]).await);
    wait::until("the endpoint that came back answers", async || {
        if several.ask(Method::GET).await == "1" { Ok(()) } else { Err("the other one did".to_owned()) }
    })
    .await;
    wait::until("it is healthy", async || {
        let state = several.state(1).await?;
        if state == "Healthy" { Ok(()) } else { Err(state) }
    })
    .await;
}

#[tokio::test]
async fn where_all_are_ejected_they_are_still_tried_and_the_caller_is_told_why_none_answers() {
    let several = Several::start(2, &[0, 1]).await;
    for _ in 0..10 {
        let answer = Call::get(HOST, "/").send(several.caller.outbound()).await.unwrap();
        let refusal = answer.refusal();
        assert_eq!((refusal.status.as_u16(), refusal.flag.as_str()), (503, "UF"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_swallows_connections_costs_a_bounded_wait_once() {
    let several = Several::start(2, &[1]).await;
    let _saturated = Saturated::start(several.places[1].inbound()).await;
    let started = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(several.ask(Method::POST).await, "0");
    }
    // Each of two shards may wait for a connect of one second, and once more when an ejection ends.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_endpoint_whose_app_is_gone_hands_its_requests_to_another() {
    let mut several = Several::start(2, &[]).await;
    let gone = several.apps.remove(1);
    gone.stop().await;
    for method in [Method::GET, Method::POST] {
        for _ in 0..40 {
            assert_eq!(
                several.ask(method.clone()).await,
                "0",
                "the app never saw it, so any method goes elsewhere"
            );
        }
    }
}

#[tokio::test]
async fn a_request_that_may_have_run_is_not_sent_again() {
    let several = Several::start(2, &[]).await;
    for method in [Method::GET, Method::POST] {
        let before: usize = several.apps.iter().map(App::begun).sum();
        let answer =
            Call::new(method, HOST, "/").plan("close").send(several.caller.outbound()).await.unwrap();
        assert_eq!(answer.refusal().label, "app_reset");
        let after: usize = several.apps.iter().map(App::begun).sum();
        assert_eq!(after, before + 1, "it reached one app, once");
    }
}

#[tokio::test]
async fn a_body_that_is_under_way_goes_with_its_request_to_another_endpoint() {
    let several = Several::start(2, &[1]).await;
    for _ in 0..10 {
        let body = outrider_tests::pattern::Pattern::new(3_000_000);
        let call = Call::post(HOST, "/", "").body(body).plan("bytes=10");
        let answer = wait::bounded("an answer", call.send(several.caller.outbound())).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = several.apps[0].seen().pop().unwrap();
        assert_eq!((seen.pattern.length, seen.pattern.differs), (3_000_000, false));
    }
}
