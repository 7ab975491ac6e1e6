//! Sentences about who may do what, and equality with a naive model of the policy's words.

use std::sync::Arc;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use outrider_shared::authorization::{
    Action, AuthorizationPolicy, AuthorizationRule, DefaultAuthorization, Mode, Operation, Source,
};
use outrider_shared::snapshot::{Egress, Forwarded, LocalService, Mesh, PathNormalization};
use outrider_shared::{RuleId, ServiceId};
use proptest::prelude::*;

use super::{Audit, Authorization, Decision, Would};
use crate::pipeline::matching::RequestView;
use crate::pipeline::path::tests::path_and_spelling;
use crate::pipeline::path::{Mode as PathMode, NormalTarget};
use crate::pipeline::principal::Principal;

const ORDERS: &str = "spiffe://shop.local/ns/shop/sa/orders";
const FRONTEND: &str = "spiffe://shop.local/ns/shop/sa/frontend";
const FOREIGN: &str = "spiffe://elsewhere.local/ns/shop/sa/orders";

fn id(text: &str) -> RuleId {
    text.parse().unwrap()
}

fn mesh(id: &str) -> Principal {
    Principal::Mesh(Arc::new(id.parse().unwrap()))
}

fn spiffe(id: &str) -> Source {
    Source::Spiffe(id.parse().unwrap())
}

fn http(methods: &[&str], prefixes: &[&str]) -> Operation {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Operation::Http { methods: owned(methods), path_prefixes: owned(prefixes) }
}

fn grpc(service: &str, methods: &[&str]) -> Operation {
    Operation::Grpc {
        service: service.to_owned(),
        methods: methods.iter().map(|method| (*method).to_owned()).collect(),
    }
}

/// One policy with one rule: `AuthorizationPolicy/name`, `AuthorizationPolicy/name#0`.
fn policy(
    name: &str,
    mode: Mode,
    action: Action,
    from: Vec<Source>,
    to: Vec<Operation>,
) -> AuthorizationPolicy {
    AuthorizationPolicy {
        id: id(&format!("AuthorizationPolicy/{name}")),
        mode,
        action,
        rules: vec![AuthorizationRule { id: id(&format!("AuthorizationPolicy/{name}#0")), from, to }],
    }
}

fn compile(default: DefaultAuthorization, policies: Vec<AuthorizationPolicy>) -> Authorization {
    let mesh = Mesh {
        id: id("MeshConfig/shop"),
        trust_domain: "shop.local".parse().unwrap(),
        default_authorization: default,
        egress: Egress::RegistryOnly,
        path_normalization: PathNormalization::Base,
        forwarded: Forwarded::default(),
    };
    let local = LocalService {
        traffic: None,
        service: ServiceId::new("shop", "payments").unwrap(),
        identity: "spiffe://shop.local/ns/shop/sa/payments".parse().unwrap(),
        ports: vec![],
        edges: vec![],
        authorization: policies,
        upstreams: vec![],
    };
    Authorization::compile(&mesh, &local)
}

struct Request {
    method: Method,
    target: NormalTarget,
    headers: HeaderMap,
}

impl Request {
    fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.parse().unwrap(),
            target: NormalTarget::new(path.parse().unwrap(), PathMode::Base).unwrap(),
            headers: HeaderMap::new(),
        }
    }
    fn grpc(path: &str) -> Self {
        let mut request = Self::new("POST", path);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
        request
    }
    fn view(&self) -> RequestView<'_> {
        RequestView::new(&self.method, &self.target, &self.headers)
    }
}

fn get(path: &str) -> Request {
    Request::new("GET", path)
}

/// The decision as one line.
fn decide(authorization: &Authorization, principal: &Principal, request: &Request) -> String {
    match authorization.authorize(principal, &request.view()).decision {
        Decision::Allow { rule } => format!("allow {rule}"),
        Decision::Deny { rule } => format!("deny {rule}"),
        Decision::NotAllowed { policy } => format!("not allowed {policy}"),
        Decision::DenyByDefault { mesh } => format!("default {mesh}"),
    }
}

#[test]
fn without_policy_the_meshs_default_decides_and_never_for_who_has_proved_nothing() {
    let allow = compile(DefaultAuthorization::AllowSameTrustDomain, vec![]);
    assert_eq!(decide(&allow, &mesh(ORDERS), &get("/")), "allow MeshConfig/shop");
    assert_eq!(decide(&allow, &mesh(FOREIGN), &get("/")), "default MeshConfig/shop");
    assert_eq!(decide(&allow, &Principal::External, &get("/")), "default MeshConfig/shop");
    assert_eq!(decide(&allow, &Principal::Unauthenticated, &get("/")), "default MeshConfig/shop");
    let deny = compile(DefaultAuthorization::Deny, vec![]);
    assert_eq!(decide(&deny, &mesh(ORDERS), &get("/")), "default MeshConfig/shop");
}

#[test]
fn where_an_allow_policy_names_the_service_one_of_its_rules_must_match() {
    let allow =
        policy("a", Mode::Enforce, Action::Allow, vec![spiffe(ORDERS)], vec![http(&["GET"], &["/api"])]);
    let authorization = compile(DefaultAuthorization::AllowSameTrustDomain, vec![allow]);
    assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/api/x")), "allow AuthorizationPolicy/a#0");
    for (principal, request) in [
        (mesh(FRONTEND), get("/api/x")),
        (mesh(ORDERS), get("/apix")),
        (mesh(ORDERS), Request::new("POST", "/api/x")),
        (mesh(ORDERS), Request::new("get", "/api/x")),
        (Principal::External, get("/api/x")),
        (Principal::Unauthenticated, get("/api/x")),
    ] {
        assert_eq!(decide(&authorization, &principal, &request), "not allowed AuthorizationPolicy/a");
    }
}

#[test]
fn deny_wins_over_allow_in_whatever_order_they_are_written() {
    let allow = policy("a", Mode::Enforce, Action::Allow, vec![], vec![]);
    let deny = policy("d", Mode::Enforce, Action::Deny, vec![], vec![http(&[], &["/admin"])]);
    for policies in [vec![allow.clone(), deny.clone()], vec![deny, allow]] {
        let authorization = compile(DefaultAuthorization::Deny, policies);
        assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/admin/x")), "deny AuthorizationPolicy/d#0");
        assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/x")), "allow AuthorizationPolicy/a#0");
    }
}

#[test]
fn a_deny_policy_alone_leaves_the_rest_to_the_default() {
    let deny = policy("d", Mode::Enforce, Action::Deny, vec![spiffe(ORDERS)], vec![]);
    let authorization = compile(DefaultAuthorization::AllowSameTrustDomain, vec![deny]);
    assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/")), "deny AuthorizationPolicy/d#0");
    assert_eq!(decide(&authorization, &mesh(FRONTEND), &get("/")), "allow MeshConfig/shop");
    assert_eq!(decide(&authorization, &Principal::External, &get("/")), "default MeshConfig/shop");
}

#[test]
fn external_and_unauthenticated_match_only_rules_that_name_them() {
    let external = policy("e", Mode::Enforce, Action::Allow, vec![Source::External], vec![]);
    let authorization = compile(DefaultAuthorization::Deny, vec![external]);
    assert_eq!(decide(&authorization, &Principal::External, &get("/")), "allow AuthorizationPolicy/e#0");
    assert_eq!(
        decide(&authorization, &Principal::Unauthenticated, &get("/")),
        "not allowed AuthorizationPolicy/e"
    );
    assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/")), "not allowed AuthorizationPolicy/e");
    let anyone = policy("any", Mode::Enforce, Action::Allow, vec![], vec![]);
    let authorization = compile(DefaultAuthorization::Deny, vec![anyone]);
    assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/")), "allow AuthorizationPolicy/any#0");
    for principal in [Principal::External, Principal::Unauthenticated, mesh(FOREIGN)] {
        assert_eq!(decide(&authorization, &principal, &get("/")), "not allowed AuthorizationPolicy/any");
    }
}

#[test]
fn a_policy_without_rules_allows_nobody() {
    let mut empty = policy("none", Mode::Enforce, Action::Allow, vec![], vec![]);
    empty.rules.clear();
    let authorization = compile(DefaultAuthorization::AllowSameTrustDomain, vec![empty]);
    assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/")), "not allowed AuthorizationPolicy/none");
}

#[test]
fn an_allowed_grpc_method_is_that_path_declared_as_grpc() {
    let charge = policy("g", Mode::Enforce, Action::Allow, vec![], vec![grpc("shop.Payments", &["Charge"])]);
    let authorization = compile(DefaultAuthorization::Deny, vec![charge]);
    let decision = |request: &Request| decide(&authorization, &mesh(ORDERS), request);
    assert_eq!(decision(&Request::grpc("/shop.Payments/Charge")), "allow AuthorizationPolicy/g#0");
    assert_eq!(decision(&Request::grpc("/shop%2EPayments/Char%67e")), "allow AuthorizationPolicy/g#0");
    for request in [
        Request::grpc("/shop.Payments/Refund"),
        Request::grpc("/shop.Payments/charge"),
        Request::grpc("/shop.Payments/Charge/x"),
        Request::grpc("/shop.Payments/Charge/"),
        Request::grpc("/shop.Payments"),
        Request::new("POST", "/shop.Payments/Charge"),
    ] {
        assert_eq!(decision(&request), "not allowed AuthorizationPolicy/g");
    }
}

#[test]
fn a_denied_grpc_method_is_denied_under_any_content_type() {
    let allow = policy("a", Mode::Enforce, Action::Allow, vec![], vec![]);
    let deny = policy("d", Mode::Enforce, Action::Deny, vec![], vec![grpc("shop.Payments", &[])]);
    let authorization = compile(DefaultAuthorization::Deny, vec![allow, deny]);
    for request in [Request::grpc("/shop.Payments/Charge"), Request::new("POST", "/shop.Payments/Charge")] {
        assert_eq!(decide(&authorization, &mesh(ORDERS), &request), "deny AuthorizationPolicy/d#0");
    }
    assert_eq!(
        decide(&authorization, &mesh(ORDERS), &Request::grpc("/shop.PaymentsV2/Charge")),
        "allow AuthorizationPolicy/a#0"
    );
}

#[test]
fn audited_policies_decide_nothing_and_say_what_they_would_have_done() {
    let allow = policy("a", Mode::Enforce, Action::Allow, vec![spiffe(ORDERS)], vec![]);
    let audit_deny = policy("ad", Mode::Audit, Action::Deny, vec![], vec![http(&[], &["/admin"])]);
    let audit_allow = policy("aa", Mode::Audit, Action::Allow, vec![spiffe(FRONTEND)], vec![]);
    let authorization = compile(DefaultAuthorization::Deny, vec![allow, audit_deny, audit_allow]);
    let audits = |principal: &Principal, path: &str| {
        let request = get(path);
        let verdict = authorization.authorize(principal, &request.view());
        verdict.audits.iter().map(|Audit { id, would }| format!("{id} {would:?}")).collect::<Vec<_>>()
    };
    assert_eq!(decide(&authorization, &mesh(ORDERS), &get("/admin")), "allow AuthorizationPolicy/a#0");
    assert_eq!(
        audits(&mesh(ORDERS), "/admin"),
        ["AuthorizationPolicy/ad#0 Refuse", "AuthorizationPolicy/aa Pass"],
        "what is allowed already stays allowed, and the deny would refuse it"
    );
    assert_eq!(decide(&authorization, &mesh(FRONTEND), &get("/")), "not allowed AuthorizationPolicy/a");
    assert_eq!(audits(&mesh(FRONTEND), "/"), ["AuthorizationPolicy/ad Pass", "AuthorizationPolicy/aa Pass"]);
    assert_eq!(
        audits(&Principal::External, "/"),
        ["AuthorizationPolicy/ad Pass", "AuthorizationPolicy/aa Refuse"]
    );
}

#[test]
fn an_audited_allow_policy_would_end_what_the_default_allows() {
    let audit = policy("aa", Mode::Audit, Action::Allow, vec![spiffe(FRONTEND)], vec![]);
    let authorization = compile(DefaultAuthorization::AllowSameTrustDomain, vec![audit]);
    let request = get("/");
    let principal = mesh(ORDERS);
    let verdict = authorization.authorize(&principal, &request.view());
    assert!(matches!(verdict.decision, Decision::Allow { .. }));
    assert_eq!(verdict.audits[0].would, Would::Refuse);
}

fn any_principal() -> impl Strategy<Value = Principal> {
    prop_oneof![
        Just(mesh(ORDERS)),
        Just(mesh(FRONTEND)),
        Just(mesh(FOREIGN)),
        Just(Principal::External),
        Just(Principal::Unauthenticated)
    ]
}

fn any_source() -> impl Strategy<Value = Source> {
    prop_oneof![
        Just(spiffe(ORDERS)),
        Just(spiffe(FRONTEND)),
        Just(spiffe(FOREIGN)),
        Just(Source::External),
        Just(Source::Unauthenticated)
    ]
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let methods = prop::collection::vec(prop::sample::select(vec!["GET", "POST"]), 0..2);
    let prefixes = prop::collection::vec(prop::sample::select(vec!["/", "/a", "/a/b/", "/s.S"]), 0..3);
    let calls = prop::collection::vec(prop::sample::select(vec!["M", "N"]), 0..2);
    prop_oneof![
        (methods, prefixes).prop_map(|(methods, prefixes)| http(&methods, &prefixes)),
        calls.prop_map(|calls| grpc("s.S", &calls)),
    ]
}

fn any_policy() -> impl Strategy<Value = AuthorizationPolicy> {
    let mode = prop::sample::select(vec![Mode::Audit, Mode::Enforce]);
    let action = prop::sample::select(vec![Action::Allow, Action::Deny]);
    let from = prop::collection::vec(any_source(), 0..3);
    let to = prop::collection::vec(any_operation(), 0..3);
    (mode, action, from, to).prop_map(|(mode, action, from, to)| policy("p", mode, action, from, to))
}

/// The words of the policy, taken one by one over the segments of a path.
mod model {
    use super::{Action, AuthorizationPolicy, DefaultAuthorization, Mode, Operation, Principal, Source};

    pub(super) struct Asked<'a> {
        pub(super) principal: &'a Principal,
        pub(super) method: &'a str,
        pub(super) path: &'a str,
        pub(super) grpc: bool,
    }

    fn is_own(principal: &Principal) -> bool {
        principal.as_str().starts_with("spiffe://shop.local/")
    }

    fn operation_matches(operation: &Operation, action: Action, asked: &Asked<'_>) -> bool {
        let segments: Vec<&str> = asked.path.split('/').skip(1).collect();
        match operation {
            Operation::Http { methods, path_prefixes } => {
                let under = |prefix: &String| {
                    let mut wanted: Vec<&str> = prefix.split('/').skip(1).collect();
                    if wanted.last() == Some(&"") {
                        wanted.pop();
                    }
                    segments.starts_with(&wanted)
                };
                (methods.is_empty() || methods.iter().any(|method| method == asked.method))
                    && (path_prefixes.is_empty() || path_prefixes.iter().any(under))
            }
            Operation::Grpc { service, methods } => {
                (asked.grpc || action == Action::Deny)
                    && segments.first() == Some(&service.as_str())
                    && (methods.is_empty()
                        || (segments.len() == 2 && methods.iter().any(|method| method == segments[1])))
            }
        }
    }

    pub(super) fn matches(policy: &AuthorizationPolicy, asked: &Asked<'_>) -> bool {
        policy.rules.iter().any(|rule| {
            let named = rule.from.iter().any(|source| match source {
                Source::Spiffe(id) => asked.principal.as_str() == id.as_str(),
                Source::External => asked.principal.as_str() == "external",
                Source::Unauthenticated => asked.principal.as_str() == "unauthenticated",
            });
            let from = if rule.from.is_empty() { is_own(asked.principal) } else { named };
            let to = rule.to.iter().any(|operation| operation_matches(operation, policy.action, asked));
            from && (rule.to.is_empty() || to)
        })
    }

    /// Whether the request passes, with policies of these modes in force.
    pub(super) fn passes(
        policies: &[AuthorizationPolicy],
        modes: &[Mode],
        default: DefaultAuthorization,
        asked: &Asked<'_>,
    ) -> bool {
        let in_force = |action| {
            policies.iter().filter(move |policy| policy.action == action && modes.contains(&policy.mode))
        };
        if in_force(Action::Deny).any(|policy| matches(policy, asked)) {
            return false;
        }
        if in_force(Action::Allow).next().is_some() {
            return in_force(Action::Allow).any(|policy| matches(policy, asked));
        }
        default == DefaultAuthorization::AllowSameTrustDomain && is_own(asked.principal)
    }
}

proptest! {
    #[test]
    fn the_decision_is_the_one_that_the_policys_words_make(
        policies in prop::collection::vec(any_policy(), 0..6),
        same_trust_domain in any::<bool>(),
        principal in any_principal(),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        path in prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/a/bc", "/ab", "/s.S", "/s.S/M", "/s.S/M/x"]),
        is_grpc in any::<bool>(),
    ) {
        let default =
            if same_trust_domain { DefaultAuthorization::AllowSameTrustDomain } else { DefaultAuthorization::Deny };
        let mut request = Request::new(method, path);
        if is_grpc {
            request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        }
        let authorization = compile(default, policies.clone());
        let verdict = authorization.authorize(&principal, &request.view());
        let asked = model::Asked { principal: &principal, method, path, grpc: is_grpc };
        let expected = model::passes(&policies, &[Mode::Enforce], default, &asked);
        prop_assert_eq!(matches!(verdict.decision, Decision::Allow { .. }), expected, "{:?}", verdict);
        prop_assert_eq!(verdict.audits.len(), policies.iter().filter(|policy| policy.mode == Mode::Audit).count());
        // What passes now would be refused, were all audited policies in force, exactly if one of them says so.
        let audited = policies.iter().any(|policy| policy.mode == Mode::Audit);
        let all = [Mode::Enforce, Mode::Audit];
        if expected && audited {
            let would_refuse = verdict.audits.iter().any(|audit| audit.would == Would::Refuse);
            prop_assert_eq!(would_refuse, !model::passes(&policies, &all, default, &asked), "{:?}", verdict);
        }
    }

    /// However a path is spelled, the decision is that on its normal spelling.
    #[test]
    fn no_spelling_of_a_path_leads_around_a_rule(
        (plain, spelled) in path_and_spelling(),
        (depth, denied) in (1..4_usize, any::<bool>()),
    ) {
        let segments: Vec<&str> = plain.split('/').skip(1).take(depth).collect();
        let prefix = format!("/{}", segments.join("/"));
        let allow = policy("a", Mode::Enforce, Action::Allow, vec![], vec![]);
        let action = if denied { Action::Deny } else { Action::Allow };
        let rule = policy("p", Mode::Enforce, action, vec![], vec![http(&[], &[&prefix])]);
        let policies = if denied { vec![allow, rule] } else { vec![rule] };
        let authorization = compile(DefaultAuthorization::Deny, policies);
        let expected = if denied { "deny AuthorizationPolicy/p#0" } else { "allow AuthorizationPolicy/p#0" };
        for path in [&plain, &spelled] {
            prop_assert_eq!(decide(&authorization, &mesh(ORDERS), &get(path)), expected, "{}", path);
        }
    }
}
