//! Who may call what: by identity, method, path, gRPC method, and from outside.

use http::Method;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::policy;

/// `alice` and `bob` call `web`; all three have one instance.
struct Guarded {
    alice: Pod,
    bob: Pod,
    web: Pod,
    mesh: Mesh,
}

const HOST: &str = "web.test:8080";

impl Guarded {
    async fn start(default: &str, policies: &[String]) -> Self {
        let config = policy::OPEN.replace("AllowSameTrustDomain", default);
        let services = [
            policy::http("alice", 8080),
            policy::http("bob", 8080),
            policy::service(
                "web",
                "ports: [{port: 8080, targetPort: 21080, appProtocol: http}], edge: [{port: 21410, targetPort: 21080}]",
            ),
        ];
        let mut parts = vec![config.as_str()];
        parts.extend(services.iter().chain(policies).map(String::as_str));
        let mesh = Mesh::start(&policy::documents(&parts)).await;
        let alice = mesh.pod("alice").start().await;
        let bob = mesh.pod("bob").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        alice.sidecar.sees("test/web", 1).await;
        bob.sidecar.sees("test/web", 1).await;
        Self { alice, bob, web, mesh }
    }

    async fn ask(&self, pod: &Pod, method: Method, path: &str) -> Answer {
        Call::new(method, HOST, path).send(pod.outbound()).await.unwrap()
    }
}

#[track_caller]
fn assert_allowed(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[track_caller]
fn assert_refused(answer: &Answer, label: &str, rule: &str) {
    let refusal = answer.refusal();
    assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (403, label), "{answer:?}");
    assert_eq!((refusal.flag.as_str(), refusal.error.as_str()), ("UAEX", "http_request_denied"));
    assert_eq!(refusal.rule, rule, "{answer:?}");
}

#[tokio::test]
async fn an_allow_policy_lets_through_what_one_of_its_rules_matches_and_nothing_else() {
    let rules = "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/alice\"]}], to: [{http: {methods: [GET], pathPrefixes: [/a, /b/c]}}]}]";
    let guarded =
        Guarded::start("Deny", &[policy::authorization("web", "web", "Enforce", "Allow", rules)]).await;
    for path in ["/a", "/a/x", "/b/c", "/b/c/d?x=/z", "/a/../b/c", "/%61/x"] {
        assert_allowed(&guarded.ask(&guarded.alice, Method::GET, path).await);
    }
    let rule = "AuthorizationPolicy/web@r1";
    for path in ["/", "/ab", "/b", "/b/cd", "/a/../z", "/a/%2e%2e/z", "/a//../../z", "/b/c/..", "/A"] {
        assert_refused(&guarded.ask(&guarded.alice, Method::GET, path).await, "not_allowed", rule);
    }
    for method in [Method::POST, Method::HEAD, Method::DELETE] {
        let answer = guarded.ask(&guarded.alice, method.clone(), "/a").await;
        assert_eq!(answer.status, 403, "{method}");
    }
    assert_refused(&guarded.ask(&guarded.bob, Method::GET, "/a").await, "not_allowed", rule);
    assert_eq!(guarded.web.app().seen().len(), 6, "what was refused never reached the app");
    guarded.web.sidecar.counts("outrider_refusals_total", &["reason=\"not_allowed\""], 13.0).await;
    // A sidecar of the peer is told so, and does not ask another endpoint: the caller sees one refusal for one request.
    let refused = guarded.alice.sidecar.metric("outrider_upstream_redispatches_total", &[]).await.unwrap();
    assert!(refused.abs() < f64::EPSILON);
}

#[tokio::test]
async fn deny_wins_over_allow() {
    let all = policy::authorization(
        "all",
        "web",
        "Enforce",
        "Allow",
        "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/alice\", \"spiffe://test.mesh/ns/test/sa/bob\"]}]}]",
    );
    let deny = policy::authorization(
        "no-admin",
        "web",
        "Enforce",
        "Deny",
        "[{to: [{http: {pathPrefixes: [/admin]}}]}]",
    );
    let guarded = Guarded::start("Deny", &[all, deny]).await;
    assert_allowed(&guarded.ask(&guarded.bob, Method::GET, "/public").await);
    for path in ["/admin", "/admin/", "/admin/x", "/x/../admin", "/%61dmin", "/./admin"] {
        let answer = guarded.ask(&guarded.alice, Method::GET, path).await;
        assert_eq!(answer.status, 403, "{path}: {answer:?}");
        assert_eq!(answer.refusal().label, "denied", "{path}: {answer:?}");
    }
    assert_eq!(guarded.web.app().seen().len(), 1);
}

#[tokio::test]
async fn a_service_without_a_policy_gets_the_meshs_default() {
    let refusing = Guarded::start("Deny", &[]).await;
    let answer = refusing.ask(&refusing.alice, Method::GET, "/").await;
    assert_refused(&answer, "denied_by_default", "MeshConfig/open@r1");

    let open = Guarded::start("AllowSameTrustDomain", &[]).await;
    assert_allowed(&open.ask(&open.alice, Method::GET, "/").await);
    // Never for those outside, whatever the default.
    let edge = open.web.sidecar.at(port::EDGE);
    let answer = Call::get("shop.example", "/").send(edge).await.unwrap();
    assert_eq!(answer.refusal().label, "denied_by_default", "{answer:?}");
    assert_eq!(answer.refusal().rule, "", "outside, nothing is told of the inside");
    assert_eq!(open.web.app().seen().len(), 1);
}

#[tokio::test]
async fn outside_is_let_in_only_by_a_rule_that_names_it_and_such_a_rule_lets_nobody_else_in() {
    let rules = "[{from: [{external: true}], to: [{http: {methods: [GET]}}]}]";
    let guarded =
        Guarded::start("Deny", &[policy::authorization("web", "web", "Enforce", "Allow", rules)]).await;
    let edge = guarded.web.sidecar.at(port::EDGE);
    assert_allowed(&Call::get("shop.example", "/").send(edge).await.unwrap());
    assert_eq!(Call::post("shop.example", "/", "x").send(edge).await.unwrap().refusal().label, "not_allowed");
    assert_eq!(guarded.ask(&guarded.alice, Method::GET, "/").await.refusal().label, "not_allowed");
}

#[tokio::test]
async fn a_policy_in_audit_counts_and_never_decides() {
    let audit = policy::authorization(
        "web-audit",
        "web",
        "Audit",
        "Allow",
        "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/alice\"]}]}]",
    );
    let deny = policy::authorization(
        "web-deny-audit",
        "web",
        "Audit",
        "Deny",
        "[{to: [{http: {pathPrefixes: [/old]}}]}]",
    );
    let guarded = Guarded::start("AllowSameTrustDomain", &[audit, deny]).await;
    assert_allowed(&guarded.ask(&guarded.alice, Method::GET, "/").await);
    assert_allowed(&guarded.ask(&guarded.bob, Method::GET, "/").await);
    assert_allowed(&guarded.ask(&guarded.alice, Method::GET, "/old").await);
    let name = "outrider_authorization_audit_matches_total";
    guarded.web.sidecar.counts(name, &["AuthorizationPolicy/web-audit"], 1.0).await;
    guarded.web.sidecar.counts(name, &["AuthorizationPolicy/web-deny-audit"], 1.0).await;
    let all = guarded.web.sidecar.metric(name, &[]).await.unwrap();
    assert!((all - 2.0).abs() < f64::EPSILON, "only what would have been refused is counted: {all}");
}

#[tokio::test]
async fn a_changed_policy_is_in_force_without_a_restart() {
    let allow = |who: &str| {
        policy::authorization(
            "web",
            "web",
            "Enforce",
            "Allow",
            &format!("[{{from: [{{spiffe: [\"spiffe://test.mesh/ns/test/sa/{who}\"]}}]}}]"),
        )
    };
    let guarded = Guarded::start("Deny", &[allow("alice")]).await;
    assert_eq!(guarded.ask(&guarded.bob, Method::GET, "/").await.status, 403);
    let text = guarded.mesh.control.policy().replace("sa/alice", "sa/bob");
    guarded.mesh.control.write_policy(&text);
    guarded.web.sidecar.has_revision(2).await;
    assert_allowed(&guarded.ask(&guarded.bob, Method::GET, "/").await);
    let answer = guarded.ask(&guarded.alice, Method::GET, "/").await;
    assert_refused(&answer, "not_allowed", "AuthorizationPolicy/web@r2");
}
