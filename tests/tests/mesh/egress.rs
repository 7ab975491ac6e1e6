//! Calls to what is no service of the mesh: refused by name, or let out in plaintext HTTP as they came.

use std::net::SocketAddr;

use outrider_tests::app::{App, Speaks};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::pattern::Pattern;
use outrider_tests::{policy, process, third_party, tools};

async fn start(egress: &str) -> (Mesh, Pod) {
    let config = policy::OPEN.replace("egress: RegistryOnly", &format!("egress: {egress}"));
    let documents = policy::documents(&[&config, &policy::http("caller", 8080), &policy::http("web", 8080)]);
    let mesh = Mesh::start(&documents).await;
    let caller = mesh.pod("caller").upstream("test/web", 8080).start().await;
    (mesh, caller)
}

/// An app that no sidecar stands beside.
fn outsider(mesh: &Mesh, speaks: Speaks) -> App {
    App::start("outsider", SocketAddr::new(mesh.address(), port::APP), speaks).unwrap()
}

#[tokio::test]
async fn a_host_outside_is_refused_by_name_unless_policy_lets_apps_out() {
    let (mesh, caller) = start("RegistryOnly").await;
    let outsider = outsider(&mesh, Speaks::Http1);
    let host = outsider.address().to_string();
    let refusal = Call::get(&host, "/").send(caller.outbound()).await.unwrap().refusal();
    assert_eq!((refusal.label.as_str(), refusal.rule.as_str()), ("unknown_host", "MeshConfig/open@r1"));
    assert!(refusal.detail.contains(&host), "{refusal:?}");
    assert_eq!(outsider.begun(), 0);
}

#[tokio::test]
async fn a_host_outside_gets_the_request_as_the_app_wrote_it_and_nothing_of_the_mesh() {
    let (mesh, caller) = start("Allow").await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let outsider = outsider(&mesh, speaks);
        let host = outsider.address().to_string();
        for _ in 0..8 {
            let call = Call::post(&host, "/a/../b?c=%20d", "").body(Pattern::new(300_000)).speaks(speaks);
            let call = call
                .header("x-mine", "kept")
                .header("outrider-explain", "way")
                .plan("bytes=700000,status=203");
            let answer = call.send(caller.outbound()).await.unwrap();
            assert_eq!(
                (answer.status.as_u16(), answer.pattern.length, answer.pattern.differs),
                (203, 700_000, false)
            );
            assert_eq!(answer.app(), "outsider");
            let seen = outsider.seen().pop().unwrap();
            assert_eq!((seen.pattern.length, seen.pattern.differs), (300_000, false));
            assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/b?c=%20d");
            assert_eq!(seen.header("x-mine").as_deref(), Some("kept"));
            let authority = seen.uri.authority().map(ToString::to_string).or_else(|| seen.header("host"));
            assert_eq!(authority.as_deref(), Some(host.as_str()));
            let of_mesh = seen.headers.keys().find(|name| name.as_str().starts_with("outrider-"));
            assert_eq!(of_mesh, None);
        }
        assert!(outsider.connections() <= 2, "each of two shards uses its connection again");
    }
    let labels = ["upstream=\"egress\""];
    caller.sidecar.counts("http_client_request_duration_seconds_count", &labels, 16.0).await;
}

#[tokio::test]
async fn a_name_is_resolved_and_curl_may_use_the_sidecar_as_its_proxy() {
    let (Some(curl), Some(nginx)) = (tools::CURL.find(), tools::NGINX.find()) else { return };
    let (mesh, caller) = start("Allow").await;
    let at = SocketAddr::new(mesh.address(), port::APP);
    let _nginx = third_party::nginx(&nginx, mesh.folder(), at).await;
    let proxy = format!("http://{}", caller.outbound());
    let asked = format!("http://{at}/echo-headers");
    let out = process::run(&curl, ["-sS", "--proxy", &proxy, "-H", "x-test: 7", &asked]).await;
    assert_eq!(out, format!("GET {} 7\n", at.ip()));
    // Loopback has this name everywhere; the port is one that only this case listens on.
    let local = App::start("local", SocketAddr::from(([127, 0, 0, 1], 0)), Speaks::Http1).unwrap();
    let asked = format!("http://localhost:{}/x", local.address().port());
    let out =
        process::run(&curl, ["-sS", "--noproxy", "", "--proxy", &proxy, "-d", "from curl", &asked]).await;
    assert_eq!(out, "from curl");
}

#[tokio::test]
async fn services_of_the_mesh_are_still_called_over_mtls_and_a_dead_host_is_said_to_be_one() {
    let (mesh, caller) = start("Allow").await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let answer = Call::get("web.test:8080", "/").send(caller.outbound()).await.unwrap();
    assert_eq!(answer.status, 200);
    let caller_id = web.app().seen_one().header("x-forwarded-client-cert");
    assert_eq!(caller_id.as_deref(), Some("URI=spiffe://test.mesh/ns/test/sa/caller"));

    let nobody = SocketAddr::new(mesh.address(), port::APP).to_string();
    for call in [Call::get(&nobody, "/"), Call::get(&nobody, "/").http2()] {
        let refusal = call.send(caller.outbound()).await.unwrap().refusal();
        assert_eq!((refusal.label.as_str(), refusal.status.as_u16()), ("connect_failed", 503), "{refusal:?}");
    }
    // A service without that port, and the listener of one upstream, do not lead outside.
    let refusal = Call::get("web.test:9", "/").send(caller.outbound()).await.unwrap().refusal();
    assert_eq!(refusal.label, "unknown_port");
    let answer = Call::get(&nobody, "/").send(caller.sidecar.upstream(0)).await.unwrap();
    assert_eq!(answer.app(), format!("web@{}", web.sidecar.ip()));
}

#[tokio::test]
async fn the_sidecars_own_listeners_are_no_way_around_it() {
    let (_mesh, caller) = start("Allow").await;
    for port in [port::ADMIN, port::OUTBOUND, port::INBOUND, port::HEALTH] {
        let own = caller.sidecar.at(port).to_string();
        let refusal = Call::get(&own, "/version").send(caller.outbound()).await.unwrap().refusal();
        assert_eq!((refusal.label.as_str(), refusal.status.as_u16()), ("own_address", 502), "{own}");
    }
}
