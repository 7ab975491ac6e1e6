//! The head of a request, read once: what it is, what it asks for, and how it was spoken.

use std::time::Instant;

use http::header::HOST;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Request, Version};

use super::headers;
use super::matching::RequestView;
use super::path::{Mode, NormalTarget};
use super::rejection::Rejection;
use super::upgrade::Tunnel;
use super::urgency::{Known, Urgency};
use crate::contexts::{Contexts, TraceKey};
use crate::leg::body::Body;

mod http2;
pub mod wire;

pub use wire::{AHEAD, EXPLAIN, FORM, Form, HOPS, REFUSED, TARGET, WAY, XFCC};
use wire::{HOPS_MAX, Unsound};

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
    /// It is a tunnel that may turn out not to be wanted.
    pub(super) ahead: bool,
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
        accepted.hops = wire::hops(fields)?;
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
        let told = wire::told(fields)?;
        if told.ahead && accepted.tunnel != Some(Tunnel::Connect) {
            return Err(Rejection::MalformedTarget);
        }
        accepted.hops = told.hops;
        accepted.asked = Some(told.asked);
        accepted.form = told.form.unwrap_or(accepted.form);
        accepted.ahead = told.ahead;
        accepted.explain = told.explain;
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
            http2::judge(&head).map_err(|why| Rejection::MalformedRequest { why })?;
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
            ahead: false,
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

/// `http` takes any text for a port. An empty one is none (RFC 3986, section 3.2.3).
fn has_sound_port(authority: &Authority) -> bool {
    let text = authority.as_str();
    let after_host = text.rfind(']').map_or(text, |end| &text[end..]);
    after_host
        .rsplit_once(':')
        .is_none_or(|(_, port)| port.is_empty() || authority.port_u16().is_some_and(|port| port > 0))
}

impl From<Unsound> for Rejection {
    fn from(unsound: Unsound) -> Self {
        match unsound {
            Unsound::Field => Self::MalformedTarget,
            Unsound::Loop { hops } => Self::LoopDetected { hops: hops.into(), limit: HOPS_MAX.into() },
        }
    }
}
