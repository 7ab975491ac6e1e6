//! Writes a refusal down for the caller, in the form that the caller understands.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use outrider_shared::{RuleId, names};
use serde::Serialize;
use sfv::{KeyRef, ListSerializer, TokenRef};

use super::{Rejection, Retry, Row};
use crate::pipeline::matching::Protocol;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const REFUSED: HeaderName = HeaderName::from_static(names::header::REFUSED);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Where the refusal is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// For an app that calls.
    Outbound,
    /// For a peer's sidecar, which is told whether the app saw the request.
    Inbound,
    /// For a client outside the mesh.
    Edge,
}

impl Side {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Edge => "edge",
        }
    }
}

/// How much the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Everything: for those inside the mesh.
    Full,
    /// Status, title and flag, and nothing that names a rule, a service, an address or a limit: for those outside.
    Stripped,
}

/// A rejection and where it happened.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    pub rejection: &'a Rejection,
    /// The rule that decided, and the policy revision that it is from.
    pub rule: Option<(&'a RuleId, u64)>,
    /// `namespace/name:port` that was asked for, where it is known.
    pub target: Option<&'a str>,
    pub side: Side,
    /// Which sidecar this is: its service, `namespace/name`; empty before its first snapshot.
    pub node: &'a str,
    /// Where to look further: the trace's id, in hex.
    pub trace: Option<&'a str>,
}

/// RFC 9457, with members of our own.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    flag: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_step: Option<&'a str>,
}

/// The answer to a refused request: `application/problem+json`, or for gRPC a status without messages.
///
/// The caller of this function drops the body where the request was a HEAD.
pub fn answer(refusal: &Refusal<'_>, protocol: Protocol, detail: Detail) -> Response<Bytes> {
    let row = refusal.rejection.row();
    let told = Told::new(refusal, detail);
    let mut response = match protocol {
        Protocol::Http => problem(refusal, &row, &told),
        Protocol::Grpc => trailers_only(&row, &told),
    };
    let headers = response.headers_mut();
    headers.insert(PROXY_STATUS, proxy_status(refusal, &row, &told));
    if refusal.side == Side::Inbound {
        headers.insert(REFUSED, HeaderValue::from_static(refused(row.retry)));
    }
    response
}

/// What the inbound side tells the caller's sidecar. `never-reached-app` and `shed` ask it to try another endpoint, so a refusal
/// that every endpoint would repeat does not say so.
fn refused(retry: Retry) -> &'static str {
    match retry {
        Retry::NeverRan => "never-reached-app",
        Retry::Shed => "shed",
        Retry::MayHaveRun | Retry::Useless => "refused",
    }
}

/// The parts that [`Detail::Stripped`] leaves out.
struct Told {
    detail: Option<String>,
    /// `AuthorizationPolicy/payments-authz#0@r12`.
    rule: Option<String>,
    /// `shop/payments, inbound`.
    refused_by: Option<String>,
}

impl Told {
    fn new(refusal: &Refusal<'_>, detail: Detail) -> Self {
        match detail {
            Detail::Stripped => Self { detail: None, rule: None, refused_by: None },
            Detail::Full => Self {
                detail: Some(refusal.rejection.detail()),
                rule: refusal.rule.map(|(id, revision)| format!("{id}@r{revision}")),
                refused_by: Some(match refusal.node {
                    "" => refusal.side.as_str().to_owned(),
                    node => format!("{node}, {}", refusal.side.as_str()),
                }),
            },
        }
    }

    /// One line, for `details` and `grpc-message`.
    fn line(&self) -> Option<String> {
        let mut line = self.detail.clone()?;
        if let Some(rule) = &self.rule {
            write!(line, " [{rule}]").expect("a String takes whatever is written");
        }
        Some(line)
    }
}

fn problem(refusal: &Refusal<'_>, row: &Row, told: &Told) -> Response<Bytes> {
    let inside = told.detail.is_some();
    let kind = format!("tag:outrider.mesh,2026:refusal:{}", row.label);
    let instance = refusal.trace.map(|trace| format!("tag:outrider.mesh,2026:trace:{trace}"));
    let body = Problem {
        kind: &kind,
        title: row.title,
        status: row.status.as_u16(),
        flag: row.flag.as_str(),
        detail: told.detail.as_deref(),
        instance: instance.as_deref(),
        rule: told.rule.as_deref(),
        target: refusal.target.filter(|_| inside),
        refused_by: told.refused_by.as_deref(),
        next_step: inside.then_some(row.next_step),
    };
    let body = serde_json::to_vec(&body).expect("strings and a number are JSON");
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = row.status;
    let length = HeaderValue::from(response.body().len());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, length);
    response
}

/// gRPC over HTTP/2, "Trailers-Only": the status stands in the head, and no body follows.
fn trailers_only(row: &Row, told: &Told) -> Response<Bytes> {
    let mut message = format!("{}: {}", row.flag.as_str(), row.title);
    if let Some(line) = told.line() {
        write!(message, ": {line}").expect("a String takes whatever is written");
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from_static(row.grpc_status.spellings().0));
    headers.insert(GRPC_MESSAGE, percent_encoded(&message));
    response
}

/// As gRPC over HTTP/2 asks: printable ASCII but `%` stays.
fn percent_encoded(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => {
                write!(text, "%{byte:02X}").expect("a String takes whatever is written");
            }
            b' '..=b'~' => text.push(char::from(byte)),
        }
    }
    HeaderValue::from_str(&text).expect("what is not printable ASCII is escaped")
}

/// RFC 9209. Outside the mesh it says the error and nothing more.
fn proxy_status(refusal: &Refusal<'_>, row: &Row, told: &Told) -> HeaderValue {
    let mut list = ListSerializer::new();
    let error = TokenRef::from_str(row.proxy_status_error).expect("RFC 9209's errors are tokens");
    let mut member =
        list.bare_item(TokenRef::constant("outrider")).parameter(KeyRef::constant("error"), error);
    if let Some(line) = told.line() {
        if let Some(target) = refusal.target {
            member = member.parameter(KeyRef::constant("next-hop"), &*quotable(target));
        }
        let details = format!("{}: {line}", row.flag.as_str());
        member.parameter(KeyRef::constant("details"), &*quotable(&details));
    }
    let text = list.finish().expect("the list has a member");
    HeaderValue::from_str(&text).expect("structured fields are printable ASCII")
}

/// A structured field's string holds printable ASCII only; anything else shows as `?`.
fn quotable(text: &str) -> sfv::String {
    let text = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
    sfv::String::from_string(text).expect("every character is printable ASCII")
}
