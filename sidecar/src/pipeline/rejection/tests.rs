//! Every row of the table, in the three forms in which a caller may see it.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode};
use outrider_shared::identity::PeerRefusal;
use outrider_shared::{RuleId, names};
use sfv::Parser;

use super::{Detail, Refusal, Rejection, Retry, Side, answer};
use crate::leg::h1::malformed::Malformed;
use crate::overload::machine::Resource;
use crate::pipeline::matching::Protocol;
use crate::pipeline::path::BadPath;
use crate::pipeline::principal::Principal;

fn endpoint() -> SocketAddr {
    "127.0.0.7:14006".parse().unwrap()
}

fn caller() -> Principal {
    Principal::Mesh(std::sync::Arc::new("spiffe://shop.local/ns/shop/sa/frontend".parse().unwrap()))
}

/// The rejection after this one, so that a new one does not compile without an example.
fn after(rejection: &Rejection) -> Option<Rejection> {
    let limit = Duration::from_millis(600);
    let endpoint = endpoint();
    Some(match rejection {
        Rejection::MalformedRequest { .. } => Rejection::HeadTimeout { limit: Duration::from_secs(10) },
        Rejection::HeadTimeout { .. } => Rejection::TargetTooLong { limit: 16_384 },
        Rejection::TargetTooLong { .. } => {
            Rejection::HeadTooLarge { malformed: Malformed::TooManyFields { limit: 100 } }
        }
        Rejection::HeadTooLarge { .. } => Rejection::ExpectationFailed,
        Rejection::ExpectationFailed => Rejection::CodingNotImplemented,
        Rejection::CodingNotImplemented => Rejection::VersionNotSupported,
        // It shares a row with the first.
        Rejection::VersionNotSupported | Rejection::MalformedMessage { .. } => {
            Rejection::MalformedPath { bad: BadPath::MalformedEscape }
        }
        Rejection::MalformedPath { .. } => Rejection::NotReady,
        Rejection::NotReady => Rejection::unknown_host("ordres"),
        Rejection::UnknownHost { .. } => Rejection::unresolved_host("api.example"),
        Rejection::UnresolvedHost { .. } => Rejection::OwnAddress { address: endpoint },
        Rejection::OwnAddress { .. } => {
            Rejection::UnknownPort { service: "shop/orders".parse().unwrap(), port: 81 }
        }
        Rejection::UnknownPort { .. } => Rejection::NoRoute,
        Rejection::NoRoute => Rejection::NoBackend { why: "all weights are 0" },
        Rejection::NoBackend { .. } => Rejection::NoEndpoint { ejected: 2 },
        Rejection::NoEndpoint { .. } => Rejection::ConnectFailed { endpoint },
        Rejection::ConnectFailed { .. } => Rejection::ConnectTimeout { endpoint, limit },
        Rejection::ConnectTimeout { .. } => {
            Rejection::PeerIdentity { endpoint, refusal: Box::new(PeerRefusal::UnknownIssuer) }
        }
        Rejection::PeerIdentity { .. } => Rejection::TlsFailed { endpoint },
        Rejection::TlsFailed { .. } => Rejection::ConcurrencyLimit { limit: 32 },
        Rejection::ConcurrencyLimit { .. } => Rejection::QueueFull { why: "as many requests wait as may" },
        Rejection::QueueFull { .. } => Rejection::QueueTimeout { why: "it waited as long as it may" },
        Rejection::QueueTimeout { .. } => Rejection::Overloaded { short_of: Resource::Memory },
        Rejection::Overloaded { .. } => Rejection::BreakerOpen { cause: "7 requests failed in a row".into() },
        Rejection::BreakerOpen { .. } => Rejection::RetryBudgetExhausted,
        Rejection::RetryBudgetExhausted => Rejection::DeadlineUnreachable,
        Rejection::DeadlineUnreachable => Rejection::RequestTimeout { limit },
        Rejection::RequestTimeout { .. } => Rejection::BackendTimeout { limit },
        Rejection::BackendTimeout { .. } => Rejection::UpstreamReset { endpoint },
        Rejection::UpstreamReset { .. } => Rejection::LoopDetected { hops: 17, limit: 16 },
        Rejection::LoopDetected { .. } => Rejection::MalformedTarget,
        Rejection::MalformedTarget => Rejection::Misdirected { target: "shop/payments:50051".into() },
        Rejection::Misdirected { .. } => Rejection::MtlsRequired { port: 8080 },
        Rejection::MtlsRequired { .. } => Rejection::Denied { principal: caller() },
        Rejection::Denied { .. } => Rejection::NotAllowed { principal: caller() },
        Rejection::NotAllowed { .. } => Rejection::DeniedByDefault { principal: caller() },
        Rejection::DeniedByDefault { .. } => Rejection::AppRefused { target_port: 8080 },
        Rejection::AppRefused { .. } => Rejection::AppConnectTimeout { target_port: 8080, limit },
        Rejection::AppConnectTimeout { .. } => Rejection::AppReset { target_port: 8080 },
        Rejection::AppReset { .. } => Rejection::UpgradeRefused,
        Rejection::UpgradeRefused => Rejection::AppNotHttp { target_port: 8080, malformed: None },
        Rejection::AppNotHttp { .. } => return None,
    })
}

fn all() -> Vec<Rejection> {
    let first = Rejection::MalformedRequest { why: "it names no host" };
    std::iter::successors(Some(first), after).collect()
}

fn rule() -> RuleId {
    "AuthorizationPolicy/payments-authz#0".parse().unwrap()
}

fn refusal<'a>(rejection: &'a Rejection, rule: &'a RuleId, side: Side) -> Refusal<'a> {
    Refusal {
        rejection,
        rule: Some((rule, 12)),
        target: Some("shop/payments:50051"),
        side,
        node: "shop/payments",
        trace: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
    }
}

fn answered(rejection: &Rejection, side: Side, protocol: Protocol, detail: Detail) -> Response<Bytes> {
    let rule = rule();
    answer(&refusal(rejection, &rule, side), protocol, detail)
}

fn field<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

fn json(response: &Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).unwrap()
}

#[test]
fn labels_are_unique_and_fit_for_a_metric() {
    let rejections = all();
    let labels: HashSet<&str> = rejections.iter().map(|rejection| rejection.row().label).collect();
    assert_eq!(labels.len(), rejections.len());
    for label in labels {
        assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{label}");
    }
}

#[test]
fn every_error_is_one_that_rfc_9209_registers() {
    let registered = [
        "destination_not_found",
        "destination_unavailable",
        "dns_error",
        "destination_ip_prohibited",
        "connection_refused",
        "connection_terminated",
        "http_upgrade_failed",
        "connection_timeout",
        "connection_limit_reached",
        "tls_protocol_error",
        "tls_certificate_error",
        "http_request_error",
        "http_request_denied",
        "http_response_timeout",
        "http_protocol_error",
        "proxy_internal_error",
        "proxy_internal_response",
        "proxy_configuration_error",
        "proxy_loop_detected",
    ];
    for rejection in all() {
        let row = rejection.row();
        assert!(registered.contains(&row.proxy_status_error), "{row:?}");
    }
}

#[test]
fn the_full_answer_says_what_happened_which_rule_decided_and_what_to_do() {
    for rejection in all() {
        let row = rejection.row();
        let response = answered(&rejection, Side::Outbound, Protocol::Http, Detail::Full);
        assert_eq!(response.status(), row.status);
        assert_eq!(field(&response, "content-type"), Some("application/problem+json"));
        assert_eq!(field(&response, "content-length"), Some(&*response.body().len().to_string()));
        assert_eq!(field(&response, names::header::REFUSED), None);
        let body = json(&response);
        assert_eq!(body["type"], format!("tag:outrider.mesh,2026:refusal:{}", row.label));
        assert_eq!(body["title"], row.title);
        assert_eq!(body["status"], row.status.as_u16());
        assert_eq!(body["flag"], row.flag.as_str());
        assert_eq!(body["detail"], rejection.detail());
        assert_eq!(body["rule"], "AuthorizationPolicy/payments-authz#0@r12");
        assert_eq!(body["target"], "shop/payments:50051");
        assert_eq!(body["refused_by"], "shop/payments, outbound");
        assert_eq!(body["next_step"], row.next_step);
        assert_eq!(body["instance"], "tag:outrider.mesh,2026:trace:4bf92f3577b34da6a3ce929d0e0e4736");
    }
}

#[test]
fn the_stripped_answer_tells_nothing_of_the_inside() {
    for rejection in all() {
        for protocol in [Protocol::Http, Protocol::Grpc] {
            let response = answered(&rejection, Side::Edge, protocol, Detail::Stripped);
            let mut told = String::from_utf8(response.body().to_vec()).unwrap();
            for value in response.headers().values() {
                told.push_str(value.to_str().unwrap());
            }
            for inside in ["payments", "@r12", "127.0.0", "8080", "spiffe", "600ms", "next_step", "detail"] {
                assert!(!told.contains(inside), "{inside}: {told}");
            }
            assert!(told.contains(rejection.row().title), "{told}");
            assert_eq!(field(&response, names::header::REFUSED), None);
        }
    }
}

#[test]
fn a_grpc_caller_gets_a_status_in_the_head_and_no_body() {
    for rejection in all() {
        let row = rejection.row();
        let response = answered(&rejection, Side::Inbound, Protocol::Grpc, Detail::Full);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        let status: u8 = field(&response, "grpc-status").unwrap().parse().unwrap();
        assert!((1..=16).contains(&status));
        let message = field(&response, "grpc-message").unwrap();
        assert!(message.starts_with(&format!("{}: {}", row.flag.as_str(), row.title)), "{message}");
        assert!(message.ends_with("[AuthorizationPolicy/payments-authz#0@r12]"), "{message}");
        assert!(response.body().is_empty());
    }
}

#[test]
fn the_callers_sidecar_is_told_whether_another_endpoint_may_be_tried() {
    for rejection in all() {
        let response = answered(&rejection, Side::Inbound, Protocol::Http, Detail::Full);
        let expected = match rejection.row().retry {
            Retry::NeverRan => "never-reached-app",
            Retry::Shed => "shed",
            Retry::MayHaveRun | Retry::Useless => "refused",
        };
        assert_eq!(field(&response, names::header::REFUSED), Some(expected), "{rejection:?}");
    }
    assert_eq!(Rejection::AppRefused { target_port: 1 }.row().retry, Retry::NeverRan);
    assert_eq!(Rejection::AppReset { target_port: 1 }.row().retry, Retry::MayHaveRun);
    assert_eq!(Rejection::Denied { principal: caller() }.row().retry, Retry::Useless);
}

#[test]
fn proxy_status_is_a_structured_field_with_the_error_of_the_row() {
    for rejection in all() {
        for detail in [Detail::Full, Detail::Stripped] {
            let response = answered(&rejection, Side::Outbound, Protocol::Http, detail);
            let list: sfv::List = Parser::new(field(&response, "proxy-status").unwrap()).parse().unwrap();
            let [sfv::ListEntry::Item(item)] = list.as_slice() else { panic!("{list:?}") };
            assert_eq!(item.bare_item.as_token().unwrap().as_str(), "outrider");
            let error = item.params["error"].as_token().unwrap().as_str();
            assert_eq!(error, rejection.row().proxy_status_error);
            assert_eq!(item.params.contains_key("details"), detail == Detail::Full);
            assert_eq!(item.params.contains_key("next-hop"), detail == Detail::Full);
        }
    }
}

#[test]
fn what_a_caller_wrote_cannot_break_out_of_the_answer() {
    let rejection = Rejection::unknown_host("a\"\r\nset-cookie: x\\ 100% \u{e4}\u{1f600}");
    let response = answered(&rejection, Side::Outbound, Protocol::Grpc, Detail::Full);
    let message = field(&response, "grpc-message").unwrap();
    assert!(message.contains("100%25") && message.is_ascii(), "{message}");
    assert!(field(&response, "proxy-status").unwrap().is_ascii());
    let response = answered(&rejection, Side::Outbound, Protocol::Http, Detail::Full);
    assert_eq!(json(&response)["detail"], rejection.detail());
    let Rejection::UnknownHost { host } = Rejection::unknown_host(&"\u{e4}".repeat(500)) else {
        unreachable!()
    };
    assert_eq!(host.chars().count(), 80);
}

#[test]
fn a_refusal_without_rule_target_and_trace_leaves_them_out() {
    let refusal = Refusal {
        rejection: &Rejection::NotReady,
        rule: None,
        target: None,
        side: Side::Outbound,
        node: "",
        trace: None,
    };
    let body = json(&answer(&refusal, Protocol::Http, Detail::Full));
    for member in ["rule", "target", "instance"] {
        assert_eq!(body.get(member), None);
    }
    assert_eq!(body["refused_by"], "outbound");
}

fn shown(response: &Response<Bytes>) -> String {
    let mut text = format!("{}\n", response.status());
    for (name, value) in response.headers() {
        writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
    }
    if !response.body().is_empty() {
        // In the order of the names, whatever features of serde_json a build has.
        let members: BTreeMap<String, serde_json::Value> = serde_json::from_slice(response.body()).unwrap();
        write!(text, "\n{}\n", serde_json::to_string_pretty(&members).unwrap()).unwrap();
    }
    format!("```text\n{text}```\n")
}

fn reference() -> String {
    let mut text = String::from(include_str!("reference.md"));
    text.push_str(
        "\n## The table\n\n| label | status | gRPC status | `Proxy-Status` error | flag | another attempt |\n|---|---|---|---|---|---|\n",
    );
    for rejection in all() {
        let row = rejection.row();
        let (number, name) = row.grpc_status.spellings();
        let retry = match row.retry {
            Retry::NeverRan => "safe: it never ran",
            Retry::Shed => "safe: it never ran; later, or elsewhere",
            Retry::MayHaveRun => "if it may be repeated",
            Retry::Useless => "useless",
        };
        let (label, status, flag) = (row.label, row.status.as_u16(), row.flag.as_str());
        let error = row.proxy_status_error;
        writeln!(text, "| `{label}` | {status} | {number} {name} | `{error}` | {flag} | {retry} |").unwrap();
    }
    text.push_str(
        "\n## What to do\n\n| label | title, and an example of the detail | next step |\n|---|---|---|\n",
    );
    for rejection in all() {
        let row = rejection.row();
        writeln!(text, "| `{}` | {}: {} | {} |", row.label, row.title, rejection.detail(), row.next_step)
            .unwrap();
    }
    let denied = Rejection::NotAllowed { principal: caller() };
    for (title, side, protocol, detail) in [
        ("To an HTTP caller inside the mesh", Side::Inbound, Protocol::Http, Detail::Full),
        ("To a gRPC caller inside the mesh", Side::Inbound, Protocol::Grpc, Detail::Full),
        ("To a client outside", Side::Edge, Protocol::Http, Detail::Stripped),
    ] {
        write!(text, "\n## {title}\n\n{}", shown(&answered(&denied, side, protocol, detail))).unwrap();
    }
    text
}

#[test]
fn the_reference_says_what_the_table_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/refusals.md");
    let generated = reference();
    if std::env::var_os("OUTRIDER_UPDATE_DOCS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == generated,
        "{} differs from the table: run this test with OUTRIDER_UPDATE_DOCS=1 and look at the change",
        path.display()
    );
}
