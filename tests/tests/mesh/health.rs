//! Active health checks: an endpoint that is not well gets no requests, and gets them again when it is.

use http::Method;
use outrider_tests::app::{App, Speaks};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::Mesh;
use outrider_tests::mesh::offline::{Offline, Place};
use outrider_tests::mesh::sidecar::Sidecar;
use outrider_tests::{policy, wait};

const HOST: &str = "web.test:8080";
/// What requests bring, so that they are answered well whatever the app says of its health.
const ANSWER: &str = "status=200";
/// Each check has half a second, so that a busy machine does not look like a sick app.
const OFTEN: &str = "interval: 500ms, timeout: 500ms, unhealthyThreshold: 2, healthyThreshold: 2";
const SERVING: &str = "hex=00000000020801,header=content-type:application/grpc,trailer=grpc-status:0";
const NOT_SERVING: &str = "hex=00000000020802,header=content-type:application/grpc,trailer=grpc-status:0";

/// How callers of `web` are to check it; `check` is the inside of `healthCheck`.
fn checked(check: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: web, namespace: test}}\n\
         spec:\n  targetRefs: [{{group: \"\", kind: Service, name: web}}]\n  client: {{healthCheck: {{{check}}}}}\n"
    )
}

/// A caller, and two endpoints of `web`, each with its app.
struct Two {
    caller: Sidecar,
    apps: Vec<App>,
    // Last: they are called until then.
    _sidecars: Vec<Sidecar>,
    _offline: Offline,
}

impl Two {
    async fn start(check: &str, speaks: Speaks, more: &[&str]) -> Self {
        Self::start_with(check, speaks, more, async |offline, place| Some(offline.start(place).await)).await
    }

    /// `second` starts the second one's sidecar, or does not.
    async fn start_with(
        check: &str,
        speaks: Speaks,
        more: &[&str],
        second: impl AsyncFnOnce(&Offline, &Place) -> Option<Sidecar>,
    ) -> Self {
        let web = match speaks {
            Speaks::Http1 => policy::http("web", 8080),
            Speaks::Http2 => policy::http2("web", 8080),
        };
        let (check, caller) = (checked(check), policy::http("caller", 8080));
        let documents = [&[policy::OPEN, &caller, &web, &check], more].concat();
        let mut offline = Offline::new(&policy::documents(&documents));
        let caller = offline.unlisted("caller");
        let places = [offline.place("web"), offline.place("web")];
        let app = |index: usize| App::start(&index.to_string(), places[index].at(port::APP), speaks).unwrap();
        let apps = vec![app(0), app(1)];
        let mut sidecars = vec![offline.start(&places[0]).await];
        sidecars.extend(second(&offline, &places[1]).await);
        let caller = offline.start(&caller).await;
        Self { caller, apps, _sidecars: sidecars, _offline: offline }
    }

    /// Which app answers a request.
    async fn ask(&self) -> String {
        let call = Call::new(Method::GET, HOST, "/").plan(ANSWER);
        let answer = wait::bounded("an answer", call.send(self.caller.outbound())).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.app()
    }

    /// Waits until the second one gets no requests.
    async fn second_is_left_out(&self) {
        wait::until("the second endpoint is left out", async || {
            for _ in 0..20 {
                if self.ask().await == "1" {
                    return Err("it got a request".to_owned());
                }
            }
            Ok(())
        })
        .await;
    }

    async fn second_is_used(&self) {
        wait::until("the second endpoint is used", async || {
            if self.ask().await == "1" { Ok(()) } else { Err("the first one answered".to_owned()) }
        })
        .await;
    }

    async fn counts(&self, result: &str, least: f64) {
        let label = format!("result=\"{result}\"");
        self.caller.counts("outrider_health_checks_total", &[&label], least).await;
    }
}

#[tokio::test]
async fn an_app_that_answers_500_on_its_health_path_is_left_out_and_comes_back() {
    let two = Two::start(&format!("http: {{path: /healthz}}, {OFTEN}"), Speaks::Http1, &[]).await;
    two.apps[1].plan("status=500");
    two.second_is_left_out().await;
    two.counts("unwell", 2.0).await;
    two.apps[1].plan("status=302");
    two.second_is_used().await;
    two.counts("well", 4.0).await;
    let seen = two.apps[1].seen();
    let check = seen.iter().find(|seen| seen.uri.path() == "/healthz").expect("it was asked there");
    assert_eq!(check.method, Method::GET);
    assert_eq!(check.header("user-agent").as_deref(), Some("outrider-health-check"));
    assert_eq!(check.header("host").as_deref(), Some(HOST));
    let caller = "URI=spiffe://test.mesh/ns/test/sa/caller";
    assert_eq!(check.header("x-forwarded-client-cert").as_deref(), Some(caller));
    assert!(check.headers.keys().all(|name| !name.as_str().starts_with("outrider-target")));
}

#[tokio::test]
async fn an_app_that_says_not_serving_over_grpc_is_left_out_and_comes_back() {
    let two = Two::start(&format!("grpc: {{service: shop.Web}}, {OFTEN}"), Speaks::Http2, &[]).await;
    two.apps[0].plan(SERVING);
    two.apps[1].plan(NOT_SERVING);
    // Until a check has said so, the second one may get nothing merely because it was slower.
    two.ask().await;
    two.counts("unwell", 2.0).await;
    two.second_is_left_out().await;
    two.apps[1].plan(SERVING);
    two.second_is_used().await;
    let seen = two.apps[1].seen();
    let check = seen.iter().find(|seen| seen.uri.path() == "/grpc.health.v1.Health/Check");
    let check = check.expect("it was asked there");
    assert_eq!(&check.body[..], b"\0\0\0\0\x0a\x0a\x08shop.Web");
    // An app that knows nothing of health is not well.
    two.apps[1].plan("header=content-type:application/grpc,header=grpc-status:12");
    two.second_is_left_out().await;
}

#[tokio::test]
async fn an_app_that_hangs_is_left_out_and_comes_back() {
    let two = Two::start(&format!("http: {{path: /healthz}}, {OFTEN}"), Speaks::Http1, &[]).await;
    two.apps[1].plan("hold");
    two.second_is_left_out().await;
    two.apps[1].plan("");
    two.second_is_used().await;
}

#[tokio::test]
async fn fewer_failures_than_the_threshold_leave_nobody_out() {
    let often = "interval: 500ms, timeout: 500ms, unhealthyThreshold: 100";
    let two = Two::start(&format!("http: {{path: /healthz}}, {often}"), Speaks::Http1, &[]).await;
    two.apps[1].plan("status=503");
    two.ask().await;
    two.counts("unwell", 3.0).await;
    two.second_is_used().await;
}

#[tokio::test]
async fn a_check_over_tcp_asks_for_the_sidecar_alone() {
    let two = Two::start(&format!("tcp: true, {OFTEN}"), Speaks::Http1, &[]).await;
    two.apps[1].plan("status=500");
    two.ask().await;
    two.counts("well", 6.0).await;
    let begun: usize = two.apps.iter().map(App::begun).sum();
    assert_eq!(begun, 1, "the one request, and no check");
    two.second_is_used().await;

    let absent = Two::start_with(&format!("tcp: true, {OFTEN}"), Speaks::Http1, &[], async |_, _| None).await;
    assert_eq!(absent.ask().await, "0");
    absent.counts("unwell", 2.0).await;
}

#[tokio::test]
async fn a_check_that_policy_does_not_allow_says_nothing_of_the_app() {
    let rules = "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/caller\"]}], to: [{http: {pathPrefixes: [/open]}}]}]";
    let allow = policy::authorization("web", "web", "Enforce", "Allow", rules);
    let two = Two::start(&format!("http: {{path: /healthz}}, {OFTEN}"), Speaks::Http1, &[&allow]).await;
    let mut seen = std::collections::BTreeSet::new();
    let ask = async || {
        let call = Call::get(HOST, "/open").plan(ANSWER);
        wait::bounded("an answer", call.send(two.caller.outbound())).await.unwrap()
    };
    assert_eq!(ask().await.status, 200);
    two.counts("inconclusive", 6.0).await;
    wait::until("both are used", async || {
        seen.insert(ask().await.app());
        if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let unwell = two.caller.metric("outrider_health_checks_total", &["result=\"unwell\""]).await.unwrap();
    assert!(unwell < 0.5, "{unwell}");
}

#[tokio::test]
async fn a_policy_that_no_longer_asks_for_checks_brings_back_whom_they_left_out() {
    let (caller, web) = (policy::http("caller", 8080), policy::http("web", 8080));
    let check = checked(&format!("http: {{path: /healthz}}, {OFTEN}"));
    let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &caller, &web, &check])).await;
    let caller_pod = mesh.pod("caller").start().await;
    let pods = [
        mesh.pod("web").app(port::APP, Speaks::Http1).start().await,
        mesh.pod("web").app(port::APP, Speaks::Http1).start().await,
    ];
    caller_pod.sidecar.sees("test/web", 2).await;
    pods[1].app().plan("status=500");
    let ask = async || {
        let call = Call::get(HOST, "/").plan(ANSWER);
        let answer = wait::bounded("an answer", call.send(caller_pod.outbound())).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.app() == format!("web@{}", pods[1].sidecar.ip())
    };
    wait::until("the second endpoint is left out", async || {
        for _ in 0..20 {
            if ask().await {
                return Err("it got a request".to_owned());
            }
        }
        Ok(())
    })
    .await;
    mesh.control.write_policy(&policy::documents(&[policy::OPEN, &caller, &web]));
    wait::until("the second endpoint is used", async || {
        if ask().await { Ok(()) } else { Err("the first one answered".to_owned()) }
    })
    .await;
}
