//! What a request's head may carry across the mesh, and what may not.

use http::Method;
use outrider_tests::app::Speaks;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::Mesh;
use outrider_tests::policy;

use crate::data_path::{BOTH, Pair};

#[tokio::test]
async fn hop_by_hop_fields_end_at_the_sidecar_in_both_directions() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        let before = pod.app().seen().len();
        let mut call = Call::get(host, "/").header("connection", "x-private, close");
        for (name, value) in [
            ("x-private", "1"),
            ("x-public", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, trailers"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("proxy-authorization", "Basic eDp5"),
        ] {
            call = call.header(name, value);
        }
        let plan = if app == Speaks::Http1 {
            "header=connection:x-inner,header=x-inner:1,header=x-outer:1,header=keep-alive:timeout=9"
        } else {
            "header=x-outer:1"
        };
        let answer = pair.send(call.plan(plan)).await.unwrap();
        assert_eq!(answer.header("x-outer"), "1");
        assert_eq!((answer.header("x-inner"), answer.header("keep-alive")), (String::new(), String::new()));

        let seen = pod.app().seen().remove(before);
        assert_eq!(seen.header("x-public").as_deref(), Some("1"));
        for gone in ["x-private", "keep-alive", "proxy-connection", "http2-settings", "upgrade"] {
            assert_eq!(seen.header(gone), None, "{app:?}: {gone}");
        }
        assert!(seen.header("connection").is_none_or(|value| !value.contains("x-private")), "{seen:?}");
        assert!(["", "trailers"].contains(&seen.header("te").unwrap_or_default().as_str()), "{seen:?}");
    }
}

#[tokio::test]
async fn cookies_that_came_one_by_one_reach_an_app_over_http1_as_one_field() {
    let pair = Pair::start().await;
    let (pod, host) = pair.app(Speaks::Http1);
    let call =
        ["a=1", "b=2", "c=3"].iter().fold(Call::get(host, "/"), |call, crumb| call.header("cookie", crumb));
    assert_eq!(pair.send(call).await.unwrap().status, 200);
    let seen = pod.app().seen().remove(0);
    assert_eq!(seen.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn fields_of_the_mesh_from_an_app_are_stripped_and_the_callers_identity_is_the_sidecars_word() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        let before = pod.app().seen().len();
        let call = Call::get(host, "/")
            .header("outrider-target", "test/other:1")
            .header("outrider-anything", "1")
            .header("x-forwarded-client-cert", "URI=spiffe://test.mesh/ns/test/sa/admin")
            .plan("header=outrider-refused:never-reached-app,header=outrider-made-up:1,header=x-mine:1");
        let answer = pair.send(call).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.header("x-mine").as_str()), (200, "1"));
        let kept: Vec<_> =
            answer.headers.keys().filter(|name| name.as_str().starts_with("outrider-")).collect();
        assert_eq!(kept, Vec::<&http::HeaderName>::new(), "of the app's answer");

        let seen = pod.app().seen().remove(before);
        let kept: Vec<_> = seen
            .headers
            .keys()
            .filter(|name| name.as_str().starts_with("outrider-"))
            .filter(|name| !["outrider-hops", "outrider-context"].contains(&name.as_str()))
            .collect();
        assert_eq!(kept, Vec::<&http::HeaderName>::new(), "of the request");
        assert_eq!(
            seen.header("x-forwarded-client-cert").as_deref(),
            Some("URI=spiffe://test.mesh/ns/test/sa/caller")
        );
        assert_eq!(pod.app().seen().len(), before + 1, "an app's own `outrider-refused` is never believed");
    }
}

#[tokio::test]
async fn fields_of_the_mesh_from_outside_are_stripped_at_the_edge() {
    let policy = policy::documents(&[
        policy::OPEN,
        &policy::service(
            "front",
            "ports: [{port: 8080, targetPort: 21080, appProtocol: http}], edge: [{port: 21410, targetPort: 21080}]",
        ),
        &policy::authorization("front", "front", "Enforce", "Allow", "[{from: [{external: true}]}]"),
    ]);
    let mesh = Mesh::start(&policy).await;
    let front = mesh.pod("front").app(port::APP, Speaks::Http1).start().await;
    let edge = front.sidecar.at(port::EDGE);
    let call = Call::get("shop.example", "/x")
        .header("outrider-target", "test/front:8080")
        .header("outrider-hops", "99")
        .header("x-forwarded-client-cert", "URI=spiffe://test.mesh/ns/test/sa/admin")
        .plan("header=outrider-made-up:1");
    let answer = call.send(edge).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("outrider-")), "{answer:?}");
    let seen = front.app().seen_one();
    let of_the_mesh = seen.headers.keys().filter(|name| name.as_str().starts_with("outrider-"));
    assert!(of_the_mesh.eq(["outrider-context"]), "{seen:?}");
    assert_eq!(seen.header("x-forwarded-client-cert"), None);
    assert_eq!(seen.header("host").as_deref(), Some("shop.example"));
}

#[tokio::test]
async fn a_request_that_an_app_sends_round_in_circles_is_ended() {
    let pair = Pair::start().await;
    let (pod, host) = pair.app(Speaks::Http1);
    let passed = Call::get(host, "/").header("outrider-hops", "15");
    let ended = Call::get(host, "/").header("outrider-hops", "16");
    let forwarded = pair.send(passed).await.unwrap();
    assert_eq!(forwarded.status, 200, "15 pairs of sidecars may be passed");
    let refusal = pair.send(ended).await.unwrap().refusal();
    assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (508, "loop_detected"));
    assert_eq!(refusal.error, "proxy_loop_detected");
    assert_eq!(pod.app().seen().len(), 1);
}

#[tokio::test]
async fn a_malformed_head_is_refused_and_never_reaches_an_app() {
    let pair = Pair::start().await;
    let (pod, host) = pair.app(Speaks::Http1);
    for path in ["/a/%00", "/%", "/a/%zz", "/../x"] {
        let refusal = pair.send(Call::get(host, path)).await.unwrap().refusal();
        assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (400, "malformed_path"), "{path}");
    }
    let refusal = pair.send(Call::new(Method::CONNECT, host, host)).await.unwrap().refusal();
    assert_eq!(refusal.label, "malformed_request", "CONNECT is not carried");
    assert_eq!(pod.app().begun(), 0);
}
