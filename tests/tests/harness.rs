//! The harness itself: a case that trusts its apps and callers must be able to.

use std::net::SocketAddr;

use outrider_tests::app::{App, Speaks};
use outrider_tests::call::{Call, CallError};
use outrider_tests::loopback::Block;
use outrider_tests::pattern::Pattern;
use outrider_tests::relay::Relay;
use outrider_tests::{process, third_party, tools};

#[tokio::test]
async fn an_app_records_what_it_saw_and_answers_as_planned_over_both_versions() {
    let block = Block::claim();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let app = App::start("echo", SocketAddr::new(block.address(), 80), speaks).unwrap();
        let call = Call::post("x.test", "/a?b=c", "hello")
            .speaks(speaks)
            .plan("status=418,trailer=x-t:1,header=x-h:2");
        let answer = call.header("te", "trailers").send(app.address()).await.unwrap();
        assert_eq!(answer.status, 418);
        assert_eq!(answer.body, "hello");
        assert_eq!((answer.app().as_str(), answer.header("x-h").as_str()), ("echo", "2"));
        assert_eq!(answer.trailers["x-t"], "1");
        let seen = app.seen_one();
        assert_eq!((seen.method.as_str(), seen.uri.path(), seen.uri.query()), ("POST", "/a", Some("b=c")));
        assert_eq!(seen.body, "hello");
    }
}

#[tokio::test]
async fn a_long_body_is_checked_byte_by_byte_and_a_broken_one_is_an_error() {
    let block = Block::claim();
    let app = App::start("long", SocketAddr::new(block.address(), 80), Speaks::Http1).unwrap();
    let call = Call::post("x.test", "/", "").body(Pattern::new(1_000_003)).plan("bytes=2000001");
    let answer = call.send(app.address()).await.unwrap();
    assert_eq!((answer.pattern.length, answer.pattern.differs), (2_000_001, false));
    let seen = app.seen_one();
    assert_eq!((seen.pattern.length, seen.pattern.differs), (1_000_003, false));

    let call = Call::get("x.test", "/").plan("bytes=2000000,broken-at=100000");
    assert!(matches!(call.send(app.address()).await, Err(CallError::Broken { .. })));
    let call = Call::get("x.test", "/").plan("close");
    assert!(matches!(call.send(app.address()).await, Err(CallError::Head(_))));
}

#[tokio::test]
async fn two_blocks_never_overlap() {
    let (one, other) = (Block::claim(), Block::claim());
    assert_ne!(one.address(), other.address());
}

#[tokio::test]
async fn a_relay_passes_everything_on_and_counts_connections() {
    let block = Block::claim();
    let app = App::start("echo", SocketAddr::new(block.address(), 80), Speaks::Http1).unwrap();
    let relay = Relay::start(block.address(), app.address()).await;
    for number in 1..=3 {
        let call = Call::post("x.test", "/", "").body(Pattern::new(100_000)).plan("bytes=200001");
        let answer = call.send(relay.address()).await.unwrap();
        assert_eq!((answer.pattern.length, answer.pattern.differs), (200_001, false));
        assert_eq!(relay.connections(), number);
    }
}

#[tokio::test]
async fn third_party_servers_and_clients_start_and_reach_each_other() {
    let (Some(nginx), Some(envoy), Some(curl)) =
        (tools::NGINX.find(), tools::ENVOY.find(), tools::CURL.find())
    else {
        return;
    };
    let block = Block::claim();
    let folder = tempfile::tempdir().unwrap();
    let at = |port| SocketAddr::new(block.address(), port);
    let (web, app, proxy) = (at(8080), at(8081), at(8082));
    let _nginx = third_party::nginx(&nginx, folder.path(), web).await;
    let _app = third_party::envoy_app(&envoy, folder.path(), app, Speaks::Http1).await;
    let _proxy = third_party::envoy_proxy(&envoy, folder.path(), proxy, web, Speaks::Http1, None).await;
    let answer =
        process::run(&curl, ["-sS", "-H", "x-test: 1", &format!("http://{proxy}/echo-headers")]).await;
    assert_eq!(answer, format!("GET {} 1\n", proxy.ip()));
    let answer = process::run(&curl, ["-sS", &format!("http://{app}/")]).await;
    assert_eq!(answer, "from envoy\n");
}
