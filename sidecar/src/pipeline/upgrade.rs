//! Tunnels: what a connection becomes once both ends agree.
//!
//! Between sidecars each is a stream of its own. An upgrade travels as extended CONNECT (RFC 8441), and the handshake is
//! built anew at the far end, in the app's version of HTTP. Opaque TCP travels as CONNECT. Since an app over HTTP/1.1
//! may also answer an upgrade with 200 and go on as before, the far sidecar marks an answer that opens a tunnel.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use outrider_shared::snapshot::AppProtocol;
use sha1::{Digest as _, Sha1};

use super::accept::{FORM, Form};
use super::rejection::Rejection;
use crate::leg::body::Body;

/// What `Upgrade`, and `:protocol` of an extended CONNECT, may name. An allowlist: what a sidecar does not know it cannot
/// see through, and a protocol such as `h2c` would carry requests past every rule.
const ALLOWED: &[&str] = &["websocket"];
/// RFC 6455, section 1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// In [`FORM`] of a far sidecar's answer: what it leads to has become a tunnel.
const SWITCHED: HeaderValue = HeaderValue::from_static("101");

/// The name as it is written down here; `None`: nobody may ask for it.
pub fn allowed(protocol: &str) -> Option<&'static str> {
    ALLOWED.iter().copied().find(|known| protocol.eq_ignore_ascii_case(known))
}

/// What a request asks for besides an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// To go over to this protocol.
    Upgrade(&'static str),
    /// TCP, of which nothing is looked at.
    Connect,
}

impl Tunnel {
    /// What a head asks for. An upgrade is a GET to every rule, as it is in HTTP/1.1, in whichever version it came.
    pub fn asked(head: &mut Parts) -> Result<Option<Self>, Rejection> {
        if let Some(protocol) = head.extensions.remove::<h2::ext::Protocol>() {
            let protocol = allowed(protocol.as_str())
                .ok_or(Rejection::MalformedRequest { why: "no connection may go over to this protocol" })?;
            head.method = Method::GET;
            return Ok(Some(Self::Upgrade(protocol)));
        }
        Ok((head.method == Method::CONNECT).then_some(Self::Connect))
    }
}

/// Whether a port of `app_protocol` takes a request that asks for `tunnel`. What is opaque goes to ports that are declared
/// so, and nothing else does: a tunnel into an HTTP port would carry requests past every rule about them. A port of which
/// nothing is declared takes both, and its tunnels are watched for requests.
pub fn fits(tunnel: Option<Tunnel>, app_protocol: AppProtocol) -> Result<(), Rejection> {
    match (app_protocol, tunnel) {
        (AppProtocol::Tcp | AppProtocol::Detect, Some(Tunnel::Connect)) => Ok(()),
        (AppProtocol::Tcp, _) => Err(Rejection::MalformedRequest { why: "the port carries TCP, not HTTP" }),
        (_, Some(Tunnel::Connect)) => Err(Rejection::MalformedRequest {
            why: "CONNECT leads only to ports whose appProtocol is tcp, or left out",
        }),
        (AppProtocol::Detect | AppProtocol::Http1 | AppProtocol::Http2 | AppProtocol::Grpc, _) => Ok(()),
    }
}

/// Marks the answer to another sidecar as the opening of a tunnel.
pub fn mark_opened(answer: &mut Response<Body>) {
    *answer.status_mut() = StatusCode::OK;
    answer.headers_mut().insert(&FORM, SWITCHED);
}

/// Whether the far sidecar has opened a tunnel.
pub fn is_opened(answer: &Response<Body>) -> bool {
    answer.status().is_success() && answer.headers().get(&FORM) == Some(&SWITCHED)
}

/// Says to the client that its tunnel is open, or that it is not: over HTTP/2 any 2xx would say that it is.
pub fn settle(
    answer: &mut Response<Body>,
    tunnel: Tunnel,
    opened: bool,
    client: Form,
) -> Result<(), Rejection> {
    match (opened, tunnel, client) {
        (true, Tunnel::Upgrade(_), Form::Http10 | Form::Http11) => {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
        (true, ..) => *answer.status_mut() = StatusCode::OK,
        (false, Tunnel::Upgrade(_), Form::Http10 | Form::Http11) => {}
        (false, ..) if answer.status().is_success() => return Err(Rejection::UpgradeRefused),
        (false, ..) => {}
    }
    Ok(())
}

/// The handshake of a WebSocket at the far end (RFC 6455, section 1.3), which HTTP/2 does without.
pub enum Handshake {
    /// Both ends speak HTTP/1.1: the client's key and the app's answer to it pass.
    Passed,
    /// The app is asked with a key of ours, and must answer it.
    Asked { accept: HeaderValue },
    /// The app needs none; the client is answered by us.
    Answered { accept: HeaderValue },
}

impl Handshake {
    /// For an app over HTTP/1.1.
    pub fn with_http1(fields: &mut HeaderMap, random: &mut impl rand::Rng) -> Self {
        if fields.contains_key(SEC_WEBSOCKET_KEY) {
            return Self::Passed;
        }
        let mut key = [0; 16];
        random.fill_bytes(&mut key);
        let key = HeaderValue::try_from(BASE64.encode(key)).expect("base64 is ASCII");
        let accept = accept(&key);
        fields.insert(SEC_WEBSOCKET_KEY, key);
        Self::Asked { accept }
    }

    /// For an app over HTTP/2.
    pub fn with_http2(fields: &mut HeaderMap) -> Self {
        match fields.remove(SEC_WEBSOCKET_KEY) {
            Some(key) => Self::Answered { accept: accept(&key) },
            None => Self::Passed,
        }
    }

    /// The app has agreed.
    pub fn finish(self, fields: &mut HeaderMap) -> Result<(), Rejection> {
        match self {
            Self::Passed => {}
            Self::Asked { accept } => {
                if fields.remove(SEC_WEBSOCKET_ACCEPT) != Some(accept) {
                    return Err(Rejection::UpgradeRefused);
                }
            }
            Self::Answered { accept } => {
                fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
        }
        Ok(())
    }
}

fn accept(key: &HeaderValue) -> HeaderValue {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(WEBSOCKET_GUID);
    HeaderValue::try_from(BASE64.encode(hash.finalize())).expect("base64 is ASCII")
}

#[cfg(test)]
mod tests;
