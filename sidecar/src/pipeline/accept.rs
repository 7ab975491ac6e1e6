//! The head of a request, read once: what it is, what it asks for, and how it was spoken.

use std::time::Instant;

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use outrider_shared::names::header;

use super::headers;
use super::matching::RequestView;
use super::path::{Mode, NormalTarget};
use super::rejection::Rejection;
use super::upgrade::Tunnel;
use super::urgency::{Known, Urgency};
use crate::contexts::{Contexts, TraceKey};
use crate::leg::body::Body;

/// A request that has passed so many pairs of sidecars goes round in circles.
pub const HOPS_MAX: u8 = 16;

pub static TARGET: HeaderName = HeaderName::from_static(header::TARGET);
pub static FORM: HeaderName = HeaderName::from_static(header::FORM);
pub static HOPS: HeaderName = HeaderName::from_static(header::HOPS);
pub static REFUSED: HeaderName = HeaderName::from_static(header::REFUSED);
pub static XFCC: HeaderName = HeaderName::from_static(header::XFCC);
/// Asks for the way that a request takes; answered by [`WAY`].
pub static EXPLAIN: HeaderName = HeaderName::from_static(header::EXPLAIN);
pub static WAY: HeaderName = HeaderName::from_static(header::WAY);

/// The HTTP version in which an app spoke, which comes out again at the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Http10,
    Http11,
    Http2,
}

impl Form {
    fn of(version: Version) -> Self {
        match version {
            Version::HTTP_09 | Version::HTTP_10 => Self::Http10,
            Version::HTTP_2 | Version::HTTP_3 => Self::Http2,
            _ => Self::Http11,
        }
    }

    /// As OpenTelemetry's `network.protocol.version` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }

    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    fn parse(value: &HeaderValue) -> Option<Self> {
        match value.as_bytes() {
            b"1.0" => Some(Self::Http10),
            b"1.1" => Some(Self::Http11),
            b"2" => Some(Self::Http2),
            _ => None,
        }
    }
}

/// A request whose head is in order. Its hop-by-hop fields are gone, and those that only the mesh may set.
pub struct Accepted {
    pub(super) head: Parts,
    pub(super) body: Body,
    pub(super) authority: Authority,
    pub(super) form: Form,
    pub(super) hops: u8,
    pub(super) target: NormalTarget,
    pub(super) tunnel: Option<Tunnel>,
    pub(super) explain: bool,
    /// What a peer asks for, as `namespace/name:port`; from other sidecars only.
    pub(super) asked: Option<HeaderValue>,
    pub(super) urgency: Urgency,
}

/// Which request a call of the app belongs to, as far as the app says.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    pub key: Option<TraceKey>,
    pub known: Known,
}

impl Accepted {
    /// From the own app.
    pub fn from_app(
        request: Request<Body>,
        paths: Mode,
        contexts: &Contexts,
        now: Instant,
    ) -> Result<(Self, Cause), Rejection> {
        let explain = request.headers().contains_key(&EXPLAIN);
        let mut accepted = Self::read(request, paths)?;
        let fields = &mut accepted.head.headers;
        accepted.hops = hops(fields)?;
        let (urgency, cause, known) = Urgency::of_apps_call(fields, contexts, now);
        headers::strip_reserved(fields);
        accepted.explain = explain;
        accepted.urgency = urgency;
        Ok((accepted, Cause { key: cause, known }))
    }

    /// From outside the mesh, at an edge.
    pub fn from_outside(request: Request<Body>, paths: Mode, now: Instant) -> Result<Self, Rejection> {
        let mut accepted = Self::read(request, paths)?;
        headers::strip_reserved(&mut accepted.head.headers);
        accepted.urgency = Urgency::received(&accepted.head.headers, now);
        Ok(accepted)
    }

    /// From another sidecar, whose fields of the mesh are believed since it has proved who it is.
    pub fn from_peer(request: Request<Body>, paths: Mode, now: Instant) -> Result<Self, Rejection> {
        let mut accepted = Self::read(request, paths)?;
        let fields = &mut accepted.head.headers;
        accepted.hops = hops(fields)?;
        accepted.asked = Some(fields.remove(&TARGET).ok_or(Rejection::MalformedTarget)?);
        if let Some(form) = fields.get(&FORM) {
            accepted.form = Form::parse(form).ok_or(Rejection::MalformedTarget)?;
        }
        accepted.explain = fields.contains_key(&EXPLAIN);
        accepted.urgency = Urgency::received(fields, now);
        headers::strip_reserved(fields);
        Ok(accepted)
    }

    pub(super) fn view(&self) -> RequestView<'_> {
        let view = RequestView::new(&self.head.method, &self.target, &self.head.headers);
        if self.tunnel == Some(Tunnel::Connect) { view.opaque() } else { view }
    }

    fn read(request: Request<Body>, paths: Mode) -> Result<Self, Rejection> {
        let (mut head, body) = request.into_parts();
        let tunnel = Tunnel::asked(&mut head)?;
        if head.version == Version::HTTP_2 {
            well_formed_http2(&head)?;
        }
        let authority = authority(&mut head)?;
        let form = Form::of(head.version);
        let given = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let target = NormalTarget::new(given, paths).map_err(Rejection::from)?;
        headers::remove_hop_by_hop(&mut head.headers);
        let urgency = Urgency::default();
        Ok(Self {
            head,
            body,
            authority,
            form,
            hops: 0,
            target,
            tunnel,
            explain: false,
            asked: None,
            urgency,
        })
    }
}

/// `:authority`, an absolute form's, or `Host`; exactly one of them counts, in this order (RFC 9112, section 3.2).
fn authority(head: &mut Parts) -> Result<Authority, Rejection> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Rejection::MalformedRequest { why: "more than one Host" });
    }
    let authority = match (head.uri.authority(), host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes())
            .map_err(|_| Rejection::MalformedRequest { why: "Host is no authority" })?,
        (None, None) => return Err(Rejection::MalformedRequest { why: "no Host" }),
    };
    if authority.host().is_empty() || !has_sound_port(&authority) {
        return Err(Rejection::MalformedRequest { why: "its authority has no host, or a port that is none" });
    }
    if authority.as_str().contains('@') {
        return Err(Rejection::MalformedRequest { why: "user information in the authority" });
    }
    head.headers.remove(HOST);
    Ok(authority)
}

/// What RFC 9113, sections 8.2.1 and 8.3.1, ask of a request, and `h2` leaves to its user.
fn well_formed_http2(head: &Parts) -> Result<(), Rejection> {
    let malformed = |why| Err(Rejection::MalformedRequest { why });
    let path = head.uri.path();
    if path == "*" && head.method != Method::OPTIONS {
        return malformed("an asterisk is no path");
    }
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return malformed("its path has a byte that no path may have");
    }
    let host = head.headers.get(HOST);
    if let (Some(authority), Some(host)) = (head.uri.authority(), host)
        && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
    {
        return malformed("Host beside another :authority");
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if head.headers.values().any(|value| blank(value.as_bytes().first()) || blank(value.as_bytes().last())) {
        return malformed("white space around a field's value");
    }
    Ok(())
}

/// `http` takes any text for a port. An empty one is none (RFC 3986, section 3.2.3).
fn has_sound_port(authority: &Authority) -> bool {
    let text = authority.as_str();
    let after_host = text.rfind(']').map_or(text, |end| &text[end..]);
    after_host
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.is_empty() || authority.port_u16().is_some_and(|port| port > 0))
}

fn hops(fields: &HeaderMap) -> Result<u8, Rejection> {
    let Some(value) = fields.get(&HOPS) else { return Ok(0) };
    let hops = value.to_str().ok().and_then(|text| text.parse::<u8>().ok());
    match hops {
        Some(hops) if hops > HOPS_MAX => {
            Err(Rejection::LoopDetected { hops: hops.into(), limit: HOPS_MAX.into() })
        }
        Some(hops) => Ok(hops),
        None => Err(Rejection::MalformedTarget),
    }
}
