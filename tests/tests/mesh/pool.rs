//! Connections between sidecars: which of them a request gets, and when they are given up.

use outrider_tests::app::{PLAN, Speaks};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::process::Signal;
use outrider_tests::{policy, wait};

const HOST: &str = "web.test:8080";

#[tokio::test]
async fn a_peer_that_hangs_is_given_up_and_others_get_what_comes() {
    let documents =
        policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::http("web", 8080)]);
    let mesh = Mesh::start(&documents).await;
    let caller = mesh.pod("caller").start().await;
    let mut hung = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    let well = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 2).await;
    let (hung_name, outbound) = (hung.sidecar.ip().to_string(), caller.outbound());
    // Connections to both are open, and a request is under way at the one that will hang.
    wait::until("both have answered", || async {
        Call::get(HOST, "/").send(outbound).await.map_err(|error| format!("{error:?}"))?;
        let (first, second) = (hung.app().begun(), well.app().begun());
        if first > 0 && second > 0 { Ok(()) } else { Err(format!("{first} and {second}")) }
    })
    .await;
    hung.sidecar.process().signal(Signal::Stop);
    // Whatever goes to it from now on hears nothing. Within its bounds it is found out, and what was sent fails.
    let asked: Vec<_> = (0..8).map(|_| tokio::spawn(Call::get(HOST, "/").send(outbound))).collect();
    for call in asked {
        let answer = wait::bounded("an answer, or the end of the connection", call).await.unwrap().unwrap();
        assert!(
            answer.status == 200 || answer.refusal().label == "upstream_reset",
            "{hung_name}: {answer:?}"
        );
    }
    // Nothing hangs any more: the connection is gone, and new ones are not had.
    for _ in 0..8 {
        let answer = wait::bounded("an answer", Call::get(HOST, "/").send(outbound)).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

/// A caller, and a service whose app speaks HTTP/2.
async fn over_http2() -> (Mesh, Pod, Pod) {
    let documents =
        policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::http2("web", 8080)]);
    let mesh = Mesh::start(&documents).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http2).start().await;
    caller.sidecar.sees("test/web", 1).await;
    (mesh, caller, web)
}

#[tokio::test]
async fn what_is_long_has_connections_of_its_own() {
    let (_mesh, caller, web) = over_http2().await;
    let connections = || async {
        let view = caller.sidecar.upstream_view("test/web").await.unwrap();
        view["endpoints"][0]["connections"].as_u64().unwrap()
    };
    // One for each shard, of which there are at most two.
    for _ in 0..8 {
        Call::post(HOST, "/", "short").send(caller.outbound()).await.unwrap();
    }
    let short = connections().await;
    assert!((1..=2).contains(&short), "{short}");
    for _ in 0..8 {
        let answer = Call::post(HOST, "/", vec![7; 2 << 20]).send(caller.outbound()).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    let all = connections().await;
    assert!(all > short && all <= 4, "{short}, then {all}");
    assert_eq!(web.app().seen().len(), 16);
}

#[tokio::test]
async fn a_connection_that_its_server_winds_down_costs_no_request() {
    let (_mesh, caller, web) = over_http2().await;
    // What is held keeps the connection open, which takes nothing else after its GOAWAY.
    let held = tokio::spawn(Call::get(HOST, "/").header(PLAN, "goaway,hold").send(caller.outbound()));
    wait::until("it is held", || async {
        if web.app().begun() > 0 { Ok(()) } else { Err("nothing reached the app".to_owned()) }
    })
    .await;
    for number in 0..50 {
        let body = format!("number {number}");
        let answer = Call::post(HOST, "/", body.clone()).send(caller.outbound()).await.unwrap();
        assert_eq!((answer.status.as_u16(), &*answer.text()), (200, &*body), "{answer:?}");
    }
    web.app().open_gate();
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert!(web.app().connections() >= 2, "the GOAWAY did not come in time");
}
