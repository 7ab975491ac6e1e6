//! What a sidecar tells its app of the way that a request took, and nobody else.

use http::Method;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, wait};
use serde_json::{Value, json};

/// `caller` and `web`; of `web`, `/shop` may be read, and `/secret` is denied.
async fn mesh() -> (Mesh, Pod, Pod) {
    let rule = "[{name: read, matches: [{path: {type: PathPrefix, value: /shop}, method: GET}, \
                {path: {type: PathPrefix, value: /secret}}], backendRefs: [{name: web, port: 8080}]}]";
    let mesh = Mesh::start(&policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::service(
            "web",
            "ports: [{port: 8080, targetPort: 21080, appProtocol: http}], edge: [{port: 21410, targetPort: 21080}]",
        ),
        &policy::route("web", "web", 8080, rule),
        &policy::authorization("shut", "web", "Enforce", "Deny", "[{to: [{http: {pathPrefixes: [/secret]}}]}]"),
    ]))
    .await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    (mesh, caller, web)
}

async fn asked(caller: &Pod, method: Method, host: &str, path: &str) -> (Answer, Value) {
    let call = Call::new(method, host, path).header("outrider-explain", "way");
    let answer = wait::bounded("an answer", call.send(caller.outbound())).await.unwrap();
    let way = serde_json::from_str(&answer.header("outrider-way")).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer, way)
}

#[tokio::test]
async fn a_request_that_no_rule_matched_tells_which_rules_were_tried_and_why_they_do_not() {
    let (_mesh, caller, web) = mesh().await;
    for (method, path, first) in [(Method::GET, "/admin", "path"), (Method::POST, "/shop/1", "method")] {
        let (answer, way) = asked(&caller, method.clone(), "web.test:8080", path).await;
        assert_eq!(answer.status, 404);
        let stopped = (&way["stopped_at"], &way["refusal"], &way["target"]);
        assert_eq!(stopped, (&json!("find"), &json!("no_route"), &json!("test/web:8080")));
        assert_eq!(
            (&way["looked_at"]["method"], &way["looked_at"]["path"]),
            (&json!(method.as_str()), &json!(path))
        );
        let rules = way["looked_at"]["rules"].as_array().unwrap();
        let told: Vec<_> = rules.iter().map(|miss| (&miss["rule"], &miss["differs_in"])).collect();
        let rule = json!("HTTPRoute/web#read");
        assert_eq!(told.len(), 2, "{way}");
        assert!(told.contains(&(&rule, &json!(first))) && told.contains(&(&rule, &json!("path"))), "{way}");
    }
    assert_eq!(web.app().begun(), 0);
}

#[tokio::test]
async fn a_host_that_nobody_has_tells_the_services_that_there_are() {
    let (_mesh, caller, _web) = mesh().await;
    for (host, label) in [("wbe.test", "unknown_host"), ("web.test:81", "unknown_port")] {
        let (_, way) = asked(&caller, Method::GET, host, "/").await;
        assert_eq!((&way["stopped_at"], &way["refusal"]), (&json!("find"), &json!(label)));
        assert_eq!((&way["rule"], &way["looked_at"]["host"]), (&json!("MeshConfig/open@r1"), &json!(host)));
        let services = way["looked_at"]["services"].as_array().unwrap();
        assert!(services.contains(&json!("test/web:8080")), "{way}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_far_side_tells_how_far_the_request_came_and_what_was_asked_there() {
    let (_mesh, caller, web) = mesh().await;
    let (answer, way) = asked(&caller, Method::GET, "web.test:8080", "/secret").await;
    assert_eq!(answer.status, 403);
    assert_eq!(way["rule"], "HTTPRoute/web#read@r1");
    assert_eq!(way["endpoint"], web.sidecar.at(port::INBOUND).to_string());
    let inbound = &way["inbound"];
    assert_eq!((&inbound["stopped_at"], &inbound["refusal"]), (&json!("authorize"), &json!("denied")));
    assert_eq!(inbound["looked_at"]["peer"], "spiffe://test.mesh/ns/test/sa/caller");
    assert_eq!(inbound["looked_at"]["policies"], json!(["AuthorizationPolicy/shut"]));
    assert_eq!(web.app().begun(), 0);
}

#[tokio::test]
async fn nobody_but_the_own_app_is_told_and_only_if_it_asks() {
    let (_mesh, caller, web) = mesh().await;
    for path in ["/admin", "/shop", "/secret"] {
        let answer = Call::get("web.test:8080", path).send(caller.outbound()).await.unwrap();
        assert_eq!(answer.header("outrider-way"), "", "{path}");
        let edge = web.sidecar.at(port::EDGE);
        let outside =
            Call::get("web.example", path).header("outrider-explain", "way").send(edge).await.unwrap();
        assert_eq!((outside.status.as_u16(), outside.header("outrider-way").as_str()), (403, ""), "{path}");
    }
}
