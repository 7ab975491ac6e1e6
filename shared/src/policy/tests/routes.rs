//! How routes of Gateway API become routes of a sidecar.

use super::*;
use crate::route::{Route, RouteRule};

/// A route of `web`, with `rules` in YAML's flow style.
fn http(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: \"\", kind: Service, name: web}}], rules: {rules}}}\n---\n"
    )
}

/// A route of `pay`, with `rules` in YAML's flow style.
fn grpc(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: pay, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: \"\", kind: Service, name: pay, port: 50051}}], rules: {rules}}}\n---\n"
    )
}

fn rule(text: &str) -> RouteRule {
    policy_of(&(SERVICES.to_owned() + text)).routes()[0].rules[0].clone()
}

#[test]
fn a_rule_without_matches_matches_all() {
    let rule = rule(&http("web", "[{}]"));
    assert_eq!(rule.id.as_str(), "HTTPRoute/web#0");
    assert_eq!(rule.matches.len(), 1);
    assert_eq!((&rule.matches[0].path, &rule.matches[0].method), (&PathMatch::Any, &None));
    assert!(rule.backends.is_empty());
}

#[test]
fn a_route_without_rules_has_one_that_matches_all_and_has_no_backend() {
    let text = SERVICES.to_owned()
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: shop}\n\
           spec: {parentRefs: [{group: \"\", kind: Service, name: web}]}\n";
    let policy = policy_of(&text);
    let rule = &policy.routes()[0].rules[0];
    assert_eq!((rule.id.as_str(), &rule.matches[0].path), ("HTTPRoute/web#0", &PathMatch::Any));
    assert!(rule.backends.is_empty());
}

#[test]
fn paths_keep_their_meaning() {
    let rule = rule(&http(
        "web",
        "[{matches: [{path: {value: /}}, {path: {value: /a/}}, {path: {type: Exact, value: /a/}}, {path: {type: Exact}}, \
         {path: {type: PathPrefix, value: /b%20c}}]}]",
    ));
    let paths: Vec<&PathMatch> = rule.matches.iter().map(|one| &one.path).collect();
    let expected = [
        PathMatch::Any,
        PathMatch::Prefix("/a".to_owned()),
        PathMatch::Exact("/a/".to_owned()),
        PathMatch::Exact("/".to_owned()),
        PathMatch::Prefix("/b%20c".to_owned()),
    ];
    assert_eq!(paths, expected.iter().collect::<Vec<_>>());
}

#[test]
fn grpc_methods_become_paths() {
    let rule = rule(&grpc(
        "[{matches: [{method: {service: shop.Payments, method: Charge}}, {method: {service: .shop.Payments}}, \
         {method: {method: Charge}}, {headers: [{name: X-Tier, value: gold}]}]}]",
    ));
    let paths: Vec<&PathMatch> = rule.matches.iter().map(|one| &one.path).collect();
    let expected = [
        PathMatch::Exact("/shop.Payments/Charge".to_owned()),
        PathMatch::Prefix("/shop.Payments".to_owned()),
        PathMatch::GrpcMethod("Charge".to_owned()),
        PathMatch::Any,
    ];
    assert_eq!(paths, expected.iter().collect::<Vec<_>>());
    assert_eq!(rule.matches[3].headers, [("x-tier".to_owned(), "gold".to_owned())]);
}

#[test]
fn backends_have_weights_and_header_changes_of_their_own() {
    let rule = rule(&http(
        "web",
        "[{filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [Server]}}], backendRefs: [\
         {name: web, port: 80, weight: 9}, {name: web, port: 81, filters: [\
         {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b c}]}}]}]}]",
    ));
    assert_eq!(rule.response_headers.remove, ["server"]);
    let weights: Vec<(u16, u32)> =
        rule.backends.iter().map(|backend| (backend.port, backend.weight)).collect();
    assert_eq!(weights, [(80, 9), (81, 1)]);
    assert!(rule.backends[0].request_headers.is_empty());
    assert_eq!(rule.backends[1].request_headers.set, [("x-a".to_owned(), "b c".to_owned())]);
}

#[test]
fn an_unlimited_request_may_have_a_limited_attempt() {
    let rule = rule(&http("web", "[{timeouts: {request: 0s, backendRequest: 1m}}]"));
    assert_eq!(rule.request_timeout.unwrap().to_string(), "0s");
    assert_eq!(rule.backend_request_timeout.unwrap().to_string(), "1m");
}

#[test]
fn a_route_belongs_to_each_of_its_parents() {
    let text = SERVICES.to_owned()
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: both, namespace: shop}\n\
           spec: {parentRefs: [{group: \"\", kind: Service, name: web, port: 80}, \
           {group: \"\", kind: Service, name: web, port: 81}]}\n";
    let policy = policy_of(&text);
    let parents: Vec<(String, Option<u16>)> =
        policy.routes().iter().map(|route| (route.service.to_string(), route.port)).collect();
    assert_eq!(parents, [("shop/web".to_owned(), Some(80)), ("shop/web".to_owned(), Some(81))]);
}

#[test]
fn the_older_route_comes_first_and_then_the_name_decides() {
    let aged = |name: &str, created: &str| {
        http(name, "[{}]")
            .replace("namespace: shop}", &format!("namespace: shop, creationTimestamp: \"{created}\"}}"))
    };
    let text = SERVICES.to_owned()
        + &http("c", "[{}]")
        + &aged("b", "2026-01-02T00:00:00Z")
        + &aged("z", "2026-01-01T00:00:00Z")
        + &http("a", "[{}]");
    let policy = policy_of(&text);
    let order: Vec<&str> = policy.routes().iter().map(|route: &Route| route.id.as_str()).collect();
    assert_eq!(order, ["HTTPRoute/z", "HTTPRoute/b", "HTTPRoute/a", "HTTPRoute/c"]);
}

#[test]
fn gateway_apis_own_backend_policy_bounds_retries_and_means_503() {
    let text = SERVICES.to_owned()
        + "apiVersion: gateway.networking.x-k8s.io/v1alpha1\nkind: XBackendTrafficPolicy\n\
           metadata: {name: budget, namespace: shop}\nspec:\n  targetRefs: [{group: \"\", kind: Service, name: web}]\n  \
           retryConstraint: {budget: {percent: 20, interval: 10s}, minRetryRate: {count: 3, interval: 1s}}\n";
    let policy = policy_of(&text);
    let client = &policy.traffic(&id("shop/web")).expect("named").client;
    assert_eq!((client.retry_budget.percent, client.retry_budget.rate_min_count), (20, 3));
    assert_eq!(client.on_budget_exhausted, crate::traffic::OnBudgetExhausted::Status503);
}
