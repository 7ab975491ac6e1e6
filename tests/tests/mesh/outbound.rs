//! How an app names what it calls: by Host, or by a listener of its own for one upstream.

use outrider_tests::app::Speaks;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::Mesh;
use outrider_tests::policy;

use crate::data_path::Pair;

#[tokio::test]
async fn every_usual_spelling_of_a_host_reaches_the_service() {
    let pair = Pair::start().await;
    for host in [
        "web:8080",
        "web.test:8080",
        "WEB.Test:8080",
        "web.test.svc:8080",
        "web.test.svc.cluster.local:8080",
        "web.test.svc.cluster.local.:8080",
        // The service has one port, so no other can be meant.
        "web.test",
    ] {
        let answer = pair.send(Call::get(host, "/")).await.unwrap();
        assert_eq!(answer.status, 200, "{host}: {answer:?}");
        let seen = pair.web.app().seen().pop().unwrap();
        assert_eq!(seen.header("host").as_deref(), Some(host), "the app is told what the caller wrote");
    }
}

#[tokio::test]
async fn a_host_that_is_not_in_the_registry_is_refused_and_never_dialled() {
    let pair = Pair::start().await;
    // It answers, and still is none of the mesh's business.
    let outside =
        outrider_tests::app::App::start("outside", (pair.mesh.address(), port::APP).into(), Speaks::Http1)
            .unwrap();
    let outside_host = outside.address().to_string();
    for host in ["nobody.test:8080", "web.other:8080", "example.com", outside_host.as_str(), "[::1]:8080"] {
        let refusal = pair.send(Call::get(host, "/")).await.unwrap().refusal();
        assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (502, "unknown_host"), "{host}");
        assert_eq!(
            (refusal.error.as_str(), refusal.flag.as_str()),
            ("destination_not_found", "NC"),
            "{host}"
        );
        assert_eq!(refusal.rule, "MeshConfig/open@r1", "{host}");
    }
    assert_eq!(outside.connections(), 0);
    let refusal = pair.send(Call::get("web.test:9999", "/")).await.unwrap().refusal();
    assert_eq!(refusal.label, "unknown_port");
}

#[tokio::test]
async fn a_listener_of_its_own_leads_to_its_upstream_whatever_host_says() {
    let policy = policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::http2("web2", 8080),
    ]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").upstream("test/web", 8080).upstream("test/web2", 8080).start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    let web2 = mesh.pod("web2").app(port::APP, Speaks::Http2).start().await;
    caller.sidecar.sees("test/web", 1).await;
    caller.sidecar.sees("test/web2", 1).await;
    for (index, pod) in [&web, &web2].into_iter().enumerate() {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            for host in ["localhost:15001", "example.com", "web.test:8080"] {
                let answer =
                    Call::get(host, "/").speaks(speaks).send(caller.sidecar.upstream(index)).await.unwrap();
                assert_eq!(
                    answer.app(),
                    format!("{}@{}", ["web", "web2"][index], pod.sidecar.ip()),
                    "{host}"
                );
            }
        }
    }
}
