//! Sentences about what a request asks for, and equality with a naive reading of the precedence.

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use outrider_shared::ServiceId;
use outrider_shared::authorization::DefaultAuthorization;
use outrider_shared::route::{Backend, HeaderChanges, PathMatch, Route, RouteMatch, RouteRule};
use outrider_shared::snapshot::{
    AppProtocol, DirectoryPort, DirectoryService, Edge, Egress, Forwarded, LocalPort, LocalService, Mesh,
    Mtls, PathNormalization, Snapshot, Tracing, Version,
};
use outrider_shared::units::GepDuration;
use proptest::prelude::*;

use super::{Destination, Protocol, RequestView, Rule, Table};
use crate::pipeline::path::{Mode, NormalTarget};
use crate::pipeline::rejection::Rejection;

fn service(id: &str) -> ServiceId {
    id.parse().unwrap()
}

fn directory(id: &str, ports: &[u16]) -> DirectoryService {
    DirectoryService {
        traffic: None,
        service: service(id),
        identity: format!("spiffe://shop.local/ns/{}", id.replace('/', "/sa/")).parse().unwrap(),
        ports: ports.iter().map(|&port| DirectoryPort { port, app_protocol: AppProtocol::Http1 }).collect(),
        endpoints: vec![],
    }
}

fn snapshot(routes: Vec<Route>) -> Snapshot {
    Snapshot {
        version: Version { epoch: 1, sequence: 7 },
        revision: 12,
        sidecar: "0a".parse().unwrap(),
        mesh: Mesh {
            id: "MeshConfig/shop".parse().unwrap(),
            trust_domain: "shop.local".parse().unwrap(),
            default_authorization: DefaultAuthorization::Deny,
            egress: Egress::RegistryOnly,
            path_normalization: PathNormalization::Base,
            forwarded: Forwarded::default(),
        },
        local: LocalService {
            traffic: None,
            service: service("shop/frontend"),
            identity: "spiffe://shop.local/ns/shop/sa/frontend".parse().unwrap(),
            ports: vec![LocalPort {
                port: 80,
                target_port: 8080,
                app_protocol: AppProtocol::Http1,
                mtls: Mtls::Strict,
            }],
            edges: vec![Edge {
                port: 14010,
                target_port: 8081,
                app_protocol: AppProtocol::Http2,
                certificates: Vec::new(),
                forwarded: Forwarded::default(),
            }],
            authorization: vec![],
            upstreams: vec![],
        },
        directory: vec![
            directory("shop/frontend", &[80]),
            directory("shop/orders", &[8080]),
            directory("shop/web", &[80, 81]),
            directory("shop/many", &[1, 2]),
            directory("bank/orders", &[9000]),
            directory("svc/ledger", &[1]),
        ],
        routes,
        tracing: Tracing::default(),
    }
}

fn table(routes: Vec<Route>) -> Table {
    Table::compile(&snapshot(routes)).unwrap()
}

fn any() -> RouteMatch {
    RouteMatch { path: PathMatch::Any, method: None, headers: vec![], query: vec![] }
}

fn on(path: PathMatch) -> RouteMatch {
    RouteMatch { path, ..any() }
}

fn exact(path: &str) -> RouteMatch {
    on(PathMatch::Exact(path.to_owned()))
}

fn prefix(path: &str) -> RouteMatch {
    on(PathMatch::Prefix(path.to_owned()))
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn backend(id: &str, port: u16, weight: u32) -> Backend {
    Backend {
        service: service(id),
        port,
        weight,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
    }
}

fn rule(id: &str, matches: Vec<RouteMatch>) -> RouteRule {
    RouteRule {
        retry: None,
        id: id.parse().unwrap(),
        matches,
        request_headers: HeaderChanges::default(),
        response_headers: HeaderChanges::default(),
        request_timeout: None,
        backend_request_timeout: None,
        backends: vec![backend("shop/orders", 8080, 1)],
    }
}

/// A route on `shop/orders`, whose rules are `name#0`, `name#1`, ….
fn route(name: &str, matches: Vec<RouteMatch>) -> Route {
    let rules = matches.into_iter().enumerate();
    Route {
        id: format!("HTTPRoute/{name}").parse().unwrap(),
        service: service("shop/orders"),
        port: None,
        created_unix_s: None,
        rules: rules.map(|(n, one)| rule(&format!("HTTPRoute/{name}#{n}"), vec![one])).collect(),
    }
}

struct Request {
    method: Method,
    target: NormalTarget,
    headers: HeaderMap,
}

fn get(path: &str) -> Request {
    request("GET", path, &[])
}

fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let target = NormalTarget::new(path.parse().unwrap(), Mode::Base).unwrap();
    Request { method: method.parse().unwrap(), target, headers }
}

fn view(request: &Request) -> RequestView<'_> {
    RequestView::new(&request.method, &request.target, &request.headers)
}

/// The id of the rule that is found on `shop/orders`.
fn found(table: &Table, request: &Request) -> Option<String> {
    let destination = table.outbound("orders").unwrap();
    let rule = destination.route(&view(request)).ok()?;
    Some(rule.id.as_ref().map_or("default".to_owned(), ToString::to_string))
}

fn name(found: Result<&Destination, Rejection>) -> String {
    found.unwrap().target.name.to_string()
}

#[test]
fn a_service_is_found_by_each_of_its_names_in_either_case_with_and_without_a_port() {
    let table = table(vec![]);
    for host in [
        "orders",
        "ORDERS",
        "orders.shop",
        "orders.shop.svc",
        "Orders.Shop.svc.cluster.local",
        "orders.shop.svc.cluster.local.",
    ] {
        assert_eq!(name(table.outbound(host)), "shop/orders:8080", "{host}");
        assert_eq!(name(table.outbound(&format!("{host}:8080"))), "shop/orders:8080", "{host}");
    }
    assert_eq!(name(table.outbound("orders:")), "shop/orders:8080");
    assert_eq!(name(table.outbound("orders.bank")), "bank/orders:9000");
    assert_eq!(name(table.outbound("ledger.svc")), "svc/ledger:1");
    assert_eq!(name(table.outbound("ledger.svc.svc")), "svc/ledger:1");
}

#[test]
fn a_host_without_a_port_means_80_or_the_only_one_that_there_is() {
    let table = table(vec![]);
    assert_eq!(name(table.outbound("web")), "shop/web:80");
    assert_eq!(name(table.outbound("web:81")), "shop/web:81");
    assert_eq!(name(table.outbound("orders")), "shop/orders:8080");
    let unknown = |id, port| Rejection::UnknownPort { service: service(id), port };
    assert_eq!(table.outbound("many").unwrap_err(), unknown("shop/many", 80));
    assert_eq!(table.outbound("orders:80").unwrap_err(), unknown("shop/orders", 80));
}

#[test]
fn what_names_no_service_is_an_unknown_host() {
    let table = table(vec![]);
    let long = "a".repeat(300);
    for host in [
        "ledger",
        "orders.nowhere",
        "orders.svc.cluster.local",
        "example.com",
        "orders.shop.example.com",
        "127.0.0.1:8080",
        "[::1]:8080",
        "user@orders",
        "orders:+8080",
        "orders:80:80",
        "orders:65536",
        "orders:0",
        "orders..",
        "ord\u{e4}rs",
        ".",
        long.as_str(),
    ] {
        assert_eq!(table.outbound(host).unwrap_err(), Rejection::unknown_host(host), "{host}");
    }
    let none = Rejection::MalformedRequest { why: "it names no host" };
    assert_eq!(table.outbound("").unwrap_err(), none);
    assert_eq!(table.outbound(":80").unwrap_err(), none);
}

#[test]
fn a_listener_of_one_upstream_asks_by_name() {
    let table = table(vec![]);
    assert_eq!(name(table.outbound_to(&service("bank/orders"), None)), "bank/orders:9000");
    assert_eq!(name(table.outbound_to(&service("shop/web"), Some(81))), "shop/web:81");
    assert_eq!(
        table.outbound_to(&service("shop/gone"), None).unwrap_err(),
        Rejection::unknown_host("gone.shop")
    );
}

#[test]
fn a_service_without_routes_is_its_own_backend_and_one_with_routes_needs_a_match() {
    let table = table(vec![route("r", vec![prefix("/api")])]);
    let web = table.outbound("web").unwrap();
    let request = get("/anything");
    let rule = web.route(&view(&request)).unwrap();
    assert_eq!((rule.id.as_ref(), &*rule.choose(0).unwrap().target.name), (None, "shop/web:80"));
    assert_eq!(found(&table, &get("/api/x")).as_deref(), Some("HTTPRoute/r#0"));
    let orders = table.outbound("orders").unwrap();
    assert_eq!(orders.route(&view(&request)).unwrap_err(), Rejection::NoRoute);
}

#[test]
fn a_route_on_a_port_concerns_that_port_alone() {
    let mut on_81 = route("r", vec![prefix("/api")]);
    on_81.service = service("shop/web");
    on_81.port = Some(81);
    let table = table(vec![on_81]);
    let request = get("/other");
    let id = |host: &str| table.outbound(host).unwrap().route(&view(&request)).map(|rule| rule.id.clone());
    assert_eq!(id("web:80"), Ok(None));
    assert_eq!(id("web:81"), Err(Rejection::NoRoute));
}

#[test]
fn a_route_without_rules_is_attached_all_the_same() {
    let table = table(vec![route("r", vec![])]);
    assert_eq!(found(&table, &get("/")), None);
}

#[test]
fn precedence_is_exact_then_longest_prefix_then_method_then_headers_then_query() {
    let with = |one: RouteMatch, method: Option<&str>, headers: &[(&str, &str)], query: &[(&str, &str)]| {
        RouteMatch { method: method.map(str::to_owned), headers: pairs(headers), query: pairs(query), ..one }
    };
    let table = table(vec![route(
        "r",
        vec![
            any(),
            prefix("/a"),
            with(prefix("/a"), None, &[], &[("q", "1")]),
            with(prefix("/a"), None, &[("x", "1")], &[]),
            with(prefix("/a"), None, &[("x", "1"), ("y", "1")], &[]),
            with(prefix("/a"), Some("PUT"), &[], &[]),
            prefix("/a/b"),
            exact("/a"),
        ],
    )]);
    let id = |request: &Request| found(&table, request).unwrap();
    let both = [("x", "1"), ("y", "1")];
    assert_eq!(id(&request("PUT", "/a?q=1", &both)), "HTTPRoute/r#7");
    assert_eq!(id(&request("PUT", "/a/b?q=1", &both)), "HTTPRoute/r#6");
    assert_eq!(id(&request("PUT", "/a/c?q=1", &both)), "HTTPRoute/r#5");
    assert_eq!(id(&request("GET", "/a/c?q=1", &both)), "HTTPRoute/r#4");
    assert_eq!(id(&request("GET", "/a/c?q=1", &both[..1])), "HTTPRoute/r#3");
    assert_eq!(id(&request("GET", "/a/c?q=1", &[])), "HTTPRoute/r#2");
    assert_eq!(id(&request("GET", "/a/c", &[])), "HTTPRoute/r#1");
    assert_eq!(id(&request("GET", "/c", &[])), "HTTPRoute/r#0");
}

#[test]
fn several_routes_on_one_service_merge_and_the_older_then_the_first_by_name_wins_a_tie() {
    let at = |name: &str, created: Option<i64>| {
        let mut route = route(name, vec![prefix("/a"), any()]);
        route.created_unix_s = created;
        route
    };
    let id = |routes: Vec<Route>| found(&table(routes), &get("/a")).unwrap();
    assert_eq!(id(vec![at("a", None), at("b", Some(9)), at("c", Some(5))]), "HTTPRoute/c#0");
    assert_eq!(id(vec![at("b", None), at("a", None)]), "HTTPRoute/a#0");
    let longer = route("z", vec![prefix("/a/b")]);
    assert_eq!(found(&table(vec![at("a", Some(1)), longer]), &get("/a/b")).unwrap(), "HTTPRoute/z#0");
}

#[test]
fn a_rule_with_several_matches_takes_part_with_each_of_them() {
    let mut route = route("r", vec![prefix("/a")]);
    route.rules.push(rule("HTTPRoute/r#1", vec![exact("/x"), exact("/a/y")]));
    let table = table(vec![route]);
    assert_eq!(found(&table, &get("/x")).unwrap(), "HTTPRoute/r#1");
    assert_eq!(found(&table, &get("/a/y")).unwrap(), "HTTPRoute/r#1");
    assert_eq!(found(&table, &get("/a/z")).unwrap(), "HTTPRoute/r#0");
}

#[test]
fn a_grpc_method_is_matched_with_its_service_before_the_service_alone_and_a_method_of_any_service() {
    let table = table(vec![route(
        "g",
        vec![
            any(),
            on(PathMatch::GrpcMethod("Charge".to_owned())),
            prefix("/shop.Payments"),
            exact("/shop.Payments/Charge"),
        ],
    )]);
    let id = |path: &str| found(&table, &request("POST", path, &[])).unwrap();
    assert_eq!(id("/shop.Payments/Charge"), "HTTPRoute/g#3");
    assert_eq!(id("/shop.Payments/Refund"), "HTTPRoute/g#2");
    assert_eq!(id("/bank.Payments/Charge"), "HTTPRoute/g#1");
    assert_eq!(id("/bank.Payments/Charge/x"), "HTTPRoute/g#0");
}

#[test]
fn parameters_are_compared_decoded_and_the_first_of_a_name_counts() {
    let wants = RouteMatch { query: pairs(&[("a b", "c&d")]), ..any() };
    let table = table(vec![route("r", vec![wants])]);
    for query in ["a+b=c%26d", "x=1&a%20b=c%26d", "%61+b=c%26d&a+b=no"] {
        assert!(found(&table, &get(&format!("/?{query}"))).is_some(), "{query}");
    }
    for query in ["", "a+b", "a+b=", "a+b=no&a+b=c%26d", "a+b=c", "a+b=c%26de", "a+b=c%2", "A+b=c%26d"] {
        assert!(found(&table, &get(&format!("/?{query}"))).is_none(), "{query}");
    }
    assert!(found(&table, &get("/")).is_none());
}

#[test]
fn a_header_matches_by_any_of_its_lines_and_exactly() {
    let wants = RouteMatch { headers: pairs(&[("x-tier", "gold")]), ..any() };
    let table = table(vec![route("r", vec![wants])]);
    let with = |fields: &[(&str, &str)]| found(&table, &request("GET", "/", fields)).is_some();
    assert!(with(&[("X-Tier", "gold")]));
    assert!(with(&[("x-tier", "silver"), ("x-tier", "gold")]));
    assert!(!with(&[("x-tier", "Gold")]));
    assert!(!with(&[]));
}

fn only_rule(backends: Vec<Backend>) -> Table {
    let mut route = route("r", vec![any()]);
    route.rules[0].backends = backends;
    table(vec![route])
}

fn rule_of<'a>(table: &'a Table, request: &Request) -> &'a Rule {
    table.outbound("orders").unwrap().route(&view(request)).unwrap()
}

#[test]
fn backends_are_chosen_by_weight() {
    let table = only_rule(vec![
        backend("shop/orders", 8080, 3),
        backend("shop/web", 80, 0),
        backend("bank/orders", 9000, 1),
    ]);
    let rule = rule_of(&table, &get("/"));
    let at = |random| rule.choose(random).unwrap().target.name.to_string();
    let three_quarters = 0xC000_0000;
    assert_eq!(at(0), "shop/orders:8080");
    assert_eq!(at(three_quarters - 1), "shop/orders:8080");
    assert_eq!(at(three_quarters), "bank/orders:9000");
    assert_eq!(at(u32::MAX), "bank/orders:9000");
}

#[test]
fn a_rule_that_leads_nowhere_is_refused_and_a_share_that_does_is_refused_for_that_share() {
    let request = get("/");
    for backends in [vec![], vec![backend("shop/orders", 8080, 0)], vec![backend("shop/gone", 80, 1)]] {
        let table = only_rule(backends);
        assert!(matches!(rule_of(&table, &request).choose(7), Err(Rejection::NoBackend { .. })));
    }
    let table = only_rule(vec![backend("shop/orders", 81, 1), backend("shop/orders", 8080, 1)]);
    assert!(rule_of(&table, &request).choose(0).is_err());
    assert!(rule_of(&table, &request).choose(u32::MAX).is_ok());
    let table = only_rule(vec![backend("shop/orders", 8080, u32::MAX), backend("shop/web", 80, u32::MAX)]);
    assert_eq!(&*rule_of(&table, &request).choose(u32::MAX).unwrap().target.name, "shop/web:80");
}

#[test]
fn timeouts_of_zero_are_none() {
    let mut route = route("r", vec![any()]);
    route.rules[0].request_timeout = Some(GepDuration::from_millis(0));
    route.rules[0].backend_request_timeout = Some(GepDuration::from_millis(600));
    let table = table(vec![route]);
    let request = get("/");
    let rule = rule_of(&table, &request);
    assert_eq!(rule.request_timeout, None);
    assert_eq!(rule.backend_request_timeout, Some(std::time::Duration::from_millis(600)));
}

#[test]
fn a_snapshot_that_cannot_be_enforced_is_refused_with_every_reason() {
    let mut bad = route("r", vec![any(), any(), any()]);
    bad.rules[0].request_headers.set = pairs(&[("host", "x")]);
    bad.rules[1].backends[0].response_headers.remove = vec!["a b".to_owned()];
    bad.rules[2].matches[0].method = Some("GE T".to_owned());
    let reasons = Table::compile(&snapshot(vec![bad])).unwrap_err().reasons;
    assert_eq!(
        reasons,
        [
            "HTTPRoute/r#0: \"host\" is the sidecar's own to set: it routes or frames the message",
            "HTTPRoute/r#1: \"a b\" is no header name",
            "HTTPRoute/r#2: \"GE T\" is no method",
        ]
    );
}

#[test]
fn inbound_serves_what_is_declared_and_refuses_the_rest() {
    let table = table(vec![]);
    let inbound = |target: &[u8]| table.inbound(&HeaderValue::from_bytes(target).unwrap());
    let local = inbound(b"shop/frontend:80").unwrap();
    assert_eq!((local.port, local.target_port, local.app_protocol), (80, 8080, AppProtocol::Http1));
    for target in ["shop/frontend:8080", "shop/frontend:14010", "shop/orders:8080", "bank/frontend:80"] {
        let misdirected = Rejection::Misdirected { target: target.into() };
        assert_eq!(inbound(target.as_bytes()), Err(misdirected), "{target}");
    }
    for target in [
        "",
        "frontend:80",
        "shop/frontend",
        "shop/frontend:",
        "shop/frontend:x",
        "127.0.0.1:80",
        "shop/../x:80",
        "\u{e4}",
    ] {
        assert_eq!(inbound(target.as_bytes()), Err(Rejection::MalformedTarget), "{target}");
    }
    let edge = table.edge(14010).unwrap();
    assert_eq!(
        (edge.target_port, edge.app_protocol, &*edge.name),
        (8081, AppProtocol::Http2, "shop/frontend:14010")
    );
    assert_eq!(table.edge(80), None);
}

#[test]
fn grpc_is_what_its_content_type_says() {
    let of = |value: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
        Protocol::of(&headers)
    };
    for value in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=x"] {
        assert_eq!(of(value), Protocol::Grpc, "{value}");
    }
    for value in ["application/grpc-web", "application/grpcx", "application/json", "", "x application/grpc"] {
        assert_eq!(of(value), Protocol::Http, "{value}");
    }
    assert_eq!(Protocol::of(&HeaderMap::new()), Protocol::Http);
}

fn any_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        Just(PathMatch::Any),
        prop::sample::select(vec!["/", "/a", "/a/b"]).prop_map(|path| PathMatch::Prefix(path.to_owned())),
        prop::sample::select(vec!["/a", "/a/b"]).prop_map(|path| PathMatch::Exact(path.to_owned())),
    ];
    let method = prop::option::of(prop::sample::select(vec!["GET", "PUT"]));
    let headers = prop::sample::subsequence(vec![("x", "1"), ("y", "1")], 0..3);
    (path, method, headers).prop_map(|(path, method, headers)| RouteMatch {
        path,
        method: method.map(str::to_owned),
        headers: pairs(&headers),
        query: vec![],
    })
}

/// How much a match says about the path: exact above all, then the prefix's length.
fn weight(path: &PathMatch) -> usize {
    match path {
        PathMatch::Exact(_) => 1_000,
        PathMatch::Prefix(prefix) if prefix != "/" => prefix.len(),
        PathMatch::Prefix(_) | PathMatch::Any | PathMatch::GrpcMethod(_) => 0,
    }
}

proptest! {
    /// Among all matches that hold, none says more about the request than the one that is found, and ties go to the
    /// older route, then to the earlier rule.
    #[test]
    fn the_rule_found_is_the_most_specific_that_holds(
        routes in prop::collection::vec((prop::option::of(0..3_i64), prop::collection::vec(any_match(), 0..5)), 1..4),
        path in prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/ab"]),
        method in prop::sample::select(vec!["GET", "POST"]),
        fields in prop::sample::subsequence(vec![("x", "1"), ("y", "1")], 0..3),
    ) {
        let mut best = None;
        let mut compiled = Vec::new();
        for (number, (created, matches)) in routes.into_iter().enumerate() {
            for (place, one) in matches.iter().enumerate() {
                let path_holds = match &one.path {
                    PathMatch::Any | PathMatch::GrpcMethod(_) => true,
                    PathMatch::Exact(exact) => path == exact,
                    PathMatch::Prefix(prefix) => {
                        prefix == "/" || path == prefix || path.starts_with(&format!("{prefix}/"))
                    }
                };
                let holds = path_holds
                    && one.method.as_deref().is_none_or(|wanted| wanted == method)
                    && one.headers.iter().all(|(name, _)| fields.iter().any(|(given, _)| given == name));
                let says = (weight(&one.path), one.method.is_some(), one.headers.len());
                let age = created.unwrap_or(i64::MAX);
                let rank = (says, std::cmp::Reverse((age, number, place)));
                if holds && best.as_ref().is_none_or(|(known, _)| *known < rank) {
                    best = Some((rank, format!("HTTPRoute/r{number}#{place}")));
                }
            }
            let mut route = route(&format!("r{number}"), matches);
            route.created_unix_s = created;
            compiled.push(route);
        }
        let table = table(compiled);
        prop_assert_eq!(found(&table, &request(method, path, &fields)), best.map(|(_, id)| id));
    }

    #[test]
    fn no_host_and_no_target_panics(text in "[a-z.:@/\u{e4}0-9\\[\\] -]{0,40}") {
        let table = table(vec![]);
        let _ = table.outbound(&text);
        if let Ok(value) = HeaderValue::from_str(&text) {
            let _ = table.inbound(&value);
        }
    }
}

#[test]
fn a_plaintext_request_finds_the_port_by_host_or_by_there_being_one() {
    let mut snapshot = snapshot(Vec::new());
    let port = |port, mtls| LocalPort { port, target_port: port + 1, app_protocol: AppProtocol::Http1, mtls };
    snapshot.local.ports = vec![port(80, Mtls::Permissive), port(81, Mtls::Strict)];
    let table = Table::compile(&snapshot).unwrap();
    assert!(table.takes_plaintext());
    let found = |host: &str| table.plaintext(host).map(|local| local.port);
    for host in [
        "frontend",
        "frontend.shop:80",
        "FRONTEND.shop.svc:80",
        "10.0.0.7:14006",
        "[::1]:14006",
        "old.example:80",
        "",
        "a:b",
    ] {
        assert_eq!(found(host), Ok(80), "{host}");
    }
    assert_eq!(found("frontend:81"), Ok(81), "whether it takes plaintext is asked next");
    for host in ["orders:80", "orders.shop"] {
        assert!(matches!(found(host), Err(Rejection::Misdirected { .. })), "{host}");
    }
    snapshot.local.ports[1].mtls = Mtls::Permissive;
    let table = Table::compile(&snapshot).unwrap();
    assert!(matches!(table.plaintext("10.0.0.7"), Err(Rejection::Misdirected { .. })), "one of two");
    for port in &mut snapshot.local.ports {
        port.mtls = Mtls::Strict;
    }
    assert!(!Table::compile(&snapshot).unwrap().takes_plaintext());
}
