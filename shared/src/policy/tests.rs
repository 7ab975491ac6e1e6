//! What loads, what is refused and how, and that no text makes the loader panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::authorization::{Action, DefaultAuthorization, Mode, Operation, Source};
use crate::route::PathMatch;
use crate::snapshot::{AppProtocol, Propagation, Tracing};
use crate::traffic::{Balancing, Concurrency, ConcurrencyAlgorithm, OnBudgetExhausted, StatusRange};
use crate::units::Fraction;
use crate::{RuleId, ServiceId, SpiffeId};

mod directories;
mod edges;
mod mistakes;
mod properties;
mod routes;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn shop() -> String {
    fs::read_to_string(repository("deploy/policy/shop.yaml")).unwrap()
}

fn load_text(text: &str) -> Result<Loaded, Problems> {
    load(vec![("policy.yaml".to_owned(), text.to_owned())])
}

fn policy_of(text: &str) -> Policy {
    load_text(text).map_err(|problems| problems.plain()).unwrap().policy
}

fn id(text: &str) -> ServiceId {
    text.parse().unwrap()
}

/// The one item that there is.
fn only<T>(mut items: impl ExactSizeIterator<Item = T>) -> T {
    assert_eq!(items.len(), 1);
    items.next().unwrap()
}

/// Two services that most cases refer to.
const SERVICES: &str = "\
apiVersion: outrider.mesh/v1alpha1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, targetPort: 8080, appProtocol: http}, {port: 81, appProtocol: http2}]}
---
apiVersion: outrider.mesh/v1alpha1
kind: Service
metadata: {name: pay, namespace: shop}
spec: {ports: [{port: 50051, appProtocol: grpc}]}
---
";

#[test]
fn the_shop_loads_as_it_stands() {
    let policy = policy_of(&shop());
    assert_eq!(policy.mesh().id().as_str(), "MeshConfig/shop");
    assert_eq!(policy.mesh().trust_domain().as_str(), "shop.local");
    assert_eq!(policy.mesh().default_authorization(), DefaultAuthorization::Deny);
    assert_eq!(policy.mesh().certificate_lifetime().as_secs(), 24 * 3600);
    let names: Vec<String> = policy.services().map(|service| service.id().to_string()).collect();
    assert_eq!(names, ["shop/frontend", "shop/orders", "shop/payments"]);
    let counts: Vec<(&str, usize)> = policy.documents().iter().map(|(kind, count)| (*kind, *count)).collect();
    let expected = [
        ("AuthorizationPolicy", 3),
        ("BackendTrafficPolicy", 1),
        ("GRPCRoute", 1),
        ("HTTPRoute", 1),
        ("MeshConfig", 1),
        ("Service", 3),
        ("TelemetryPolicy", 1),
    ];
    assert_eq!(counts, expected);
}

#[test]
fn a_service_has_the_ports_edges_and_identity_that_it_declares() {
    let policy = policy_of(&shop());
    let frontend = policy.service(&id("shop/frontend")).unwrap();
    assert_eq!(frontend.identity().as_str(), "spiffe://shop.local/ns/shop/sa/frontend");
    assert_eq!(frontend.upstreams(), [id("shop/orders")]);
    let port = &frontend.ports()[0];
    assert_eq!((port.port, port.target_port, port.app_protocol), (80, 8080, AppProtocol::Http1));
    let edge = &frontend.edges()[0];
    assert_eq!((edge.port, edge.target_port, edge.app_protocol), (14010, 8080, AppProtocol::Http1));
    assert!(edge.certificates.is_empty(), "plaintext");
    // Left out, the target port is the port.
    let orders = policy.service(&id("shop/orders")).unwrap();
    assert_eq!((orders.ports()[0].port, orders.ports()[0].target_port), (8080, 8080));
}

#[test]
fn the_shops_traffic_policy_and_retries_reach_the_model() {
    let policy = policy_of(&shop());
    let traffic = policy.traffic(&id("shop/payments")).expect("a policy names it");
    let (client, server) = (&traffic.client, &traffic.server);
    assert_eq!(client.id.as_ref().map(RuleId::as_str), Some("BackendTrafficPolicy/payments-traffic"));
    assert_eq!((client.retry_budget.percent, client.retry_budget.rate_min_count), (20, 3));
    assert_eq!(client.breaker.consecutive_failures, Some(7));
    assert_eq!(client.breaker.failure_when.grpc, [14, 13, 4]);
    assert!(client.breaker.failure_when.timeouts && client.breaker.failure_when.resets);
    assert_eq!(client.breaker.failure_when.http, [StatusRange { from: 500, to: 599 }]);
    assert_eq!(client.breaker.open_max.get(), Duration::from_mins(1));
    assert_eq!(
        server.concurrency,
        Concurrency { algorithm: ConcurrencyAlgorithm::Gradient, initial: 32, min: 4, max: 256 }
    );
    assert_eq!((server.queue.depth_max, server.queue.wait_max.get()), (64, Duration::from_millis(250)));
    let priority = server.queue.priority.as_ref().expect("classes");
    assert_eq!((priority.header.as_str(), priority.default, priority.classes.len()), ("x-priority", 1, 3));
    assert_eq!(policy.traffic(&id("shop/orders")), None);
    let rules: Vec<_> = policy.routes().iter().flat_map(|route| &route.rules).collect();
    let of = |id: &str| rules.iter().find(|rule| rule.id.as_str() == id).expect("a rule").retry.clone();
    let read = of("HTTPRoute/orders-http#read-orders").expect("retries");
    assert_eq!(
        (read.attempts, read.http.as_slice(), read.backoff.get()),
        (2, &[502, 503, 504][..], Duration::from_millis(25))
    );
    assert_eq!(of("HTTPRoute/orders-http#create-order"), None);
    let charge = of("GRPCRoute/payments-grpc#charge").expect("retries");
    assert_eq!(
        (charge.attempts, charge.grpc.as_slice(), charge.idempotency_key_required),
        (1, &[14, 8][..], true)
    );
}

#[test]
fn the_most_specific_traffic_policy_wins_field_by_field() {
    let of = |name: &str, target: &str, spec: &str| {
        format!(
            "apiVersion: outrider.mesh/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec:\n  targetRefs: [{target}]\n  {spec}\n---\n"
        )
    };
    let text = of(
        "a-mesh",
        "{kind: MeshConfig, name: m}",
        "client: {onBudgetExhausted: Status503, loadBalancing: {algorithm: RoundRobin}}",
    ) + &of(
        "a-namespace",
        "{kind: Namespace, name: shop}",
        "client: {loadBalancing: {algorithm: LeastRequest}, circuitBreaker: {maxEjected: 0.25}}",
    ) + &of(
        "a-service",
        "{kind: Service, name: web}",
        "client: {circuitBreaker: {consecutiveFailures: 3}}",
    ) + SERVICES;
    let mesh = "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {}\n---\n";
    let policy = policy_of(&(text + mesh));
    let client = &policy.traffic(&id("shop/web")).expect("named").client;
    assert_eq!(client.on_budget_exhausted, OnBudgetExhausted::Status503);
    assert_eq!(client.balancing, Balancing::LeastRequest);
    assert_eq!((client.breaker.consecutive_failures, client.breaker.ejected_max), (Some(3), 0.25));
}

#[test]
fn the_shops_authorization_names_identities() {
    let policy = policy_of(&shop());
    let payments = only(policy.authorization(&id("shop/payments")));
    assert_eq!((payments.mode, payments.action), (Mode::Enforce, Action::Allow));
    let rule = &payments.rules[0];
    assert_eq!(rule.id.as_str(), "AuthorizationPolicy/payments-authz#0");
    let orders: SpiffeId = "spiffe://shop.local/ns/shop/sa/orders".parse().unwrap();
    assert_eq!(rule.from, [Source::Spiffe(orders)]);
    let methods = vec!["Charge".to_owned(), "Refund".to_owned()];
    assert_eq!(rule.to, [Operation::Grpc { service: "shop.Payments".to_owned(), methods }]);
    let frontend = only(policy.authorization(&id("shop/frontend")));
    assert_eq!(frontend.rules[0].from, [Source::External]);
}

#[test]
fn a_mesh_without_a_mesh_config_has_the_defaults() {
    let policy = policy_of(SERVICES);
    assert_eq!(policy.mesh().id().as_str(), "MeshConfig/default");
    assert_eq!(policy.mesh().trust_domain().as_str(), "outrider.local");
    assert_eq!(policy.mesh().default_authorization(), DefaultAuthorization::Deny);
    assert_eq!(policy.mesh().certificate_lifetime().as_secs(), 24 * 3600);
    assert_eq!(policy.tracing(&id("shop/web")), Tracing::default());
    assert_eq!(policy.traffic(&id("shop/web")), None);
}

/// A policy on `target`, with `spec` behind it.
fn telemetry(name: &str, target: &str, tracing: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: TelemetryPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{target}], tracing: {tracing}}}\n---\n"
    )
}

#[test]
fn the_most_specific_tracing_wins_field_by_field() {
    let text = SERVICES.to_owned()
        + &telemetry("on-web", "{kind: Service, name: web}", "{samplingRate: {numerator: 5}}")
        + &telemetry("on-mesh", "{kind: MeshConfig, name: default}", "{propagation: [b3]}")
        + &telemetry(
            "on-shop",
            "{kind: Namespace, name: shop}",
            "{samplingRate: {numerator: 1, denominator: 2}, parentBasedSampling: {mode: Disabled}}",
        );
    let policy = policy_of(&text);
    let web = Tracing {
        sampling: Fraction { numerator: 5, denominator: 100 },
        parent_based: false,
        propagation: vec![Propagation::B3],
    };
    assert_eq!(policy.tracing(&id("shop/web")), web);
    let pay = Tracing { sampling: Fraction { numerator: 1, denominator: 2 }, ..web };
    assert_eq!(policy.tracing(&id("shop/pay")), pay);
}

#[test]
fn authorization_of_a_namespace_or_the_mesh_reaches_its_services() {
    let rule = |name: &str, target: &str| {
        format!(
            "apiVersion: outrider.mesh/v1alpha1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: shop}}\n\
             spec: {{targetRefs: [{target}], mode: Audit, action: Deny, rules: [{{}}]}}\n---\n"
        )
    };
    let elsewhere =
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {name: far}\nspec: {}\n---\n";
    let text = SERVICES.to_owned()
        + elsewhere
        + &rule("z-mesh", "{kind: MeshConfig, name: default, group: outrider.mesh}")
        + &rule("a-shop", "{kind: Namespace, name: shop}");
    let policy = policy_of(&text);
    let names = |service: &str| -> Vec<String> {
        policy.authorization(&id(service)).map(|policy| policy.id.to_string()).collect()
    };
    assert_eq!(names("shop/web"), ["AuthorizationPolicy/a-shop", "AuthorizationPolicy/z-mesh"]);
    assert_eq!(names("default/far"), ["AuthorizationPolicy/z-mesh"]);
    let of_far = only(policy.authorization(&id("default/far")));
    assert_eq!((of_far.mode, of_far.action), (Mode::Audit, Action::Deny));
    assert!(of_far.rules[0].from.is_empty() && of_far.rules[0].to.is_empty());
}

#[test]
fn a_path_prefix_of_all_is_no_restriction() {
    let text = SERVICES.to_owned()
        + "apiVersion: outrider.mesh/v1alpha1\nkind: AuthorizationPolicy\n\
           metadata: {name: web, namespace: shop}\n\
           spec: {targetRefs: [{kind: Service, name: web}], rules: [\
           {to: [{http: {pathPrefixes: [/a, /]}}, {http: {pathPrefixes: [/b/]}}]}]}\n";
    let policy = policy_of(&text);
    let to = &only(policy.authorization(&id("shop/web"))).rules[0].to;
    let http = |prefixes: &[&str]| Operation::Http {
        methods: Vec::new(),
        path_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
    };
    assert_eq!(*to, [http(&[]), http(&["/b"])]);
}

#[test]
fn a_document_copied_from_a_cluster_loads_as_it_stands() {
    let text = SERVICES.to_owned()
        + "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: web\n  namespace: shop\n  \
           annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {\"kind\":\"HTTPRoute\"}\n  \
           labels: {app: web}\n  creationTimestamp: \"2026-05-01T12:00:00Z\"\n  generation: 3\n  \
           resourceVersion: \"1234\"\n  uid: 5f0c8b7e-1111-2222-3333-444455556666\n  managedFields:\n  - \
           apiVersion: v1\n    fieldsV1: {f:spec: {.: {}, f:rules: {}}}\nspec:\n  parentRefs:\n  - group: \"\"\n    \
           kind: Service\n    name: web\n    port: 80\n  rules:\n  - backendRefs:\n    - {group: \"\", kind: Service, \
           name: web, port: 80, weight: 1}\nstatus:\n  parents: [{controllerName: x.io/y, conditions: []}]\n";
    let policy = policy_of(&text);
    assert_eq!(policy.routes()[0].created_unix_s, Some(1_777_636_800));
}

#[test]
fn the_reference_says_what_the_reader_accepts() {
    let path = repository("docs/reference/policy.md");
    let generated = reference::markdown();
    if std::env::var_os("OUTRIDER_UPDATE_DOCS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "{} differs from the records: run this test with OUTRIDER_UPDATE_DOCS=1 and look at the change",
        path.display()
    );
}
