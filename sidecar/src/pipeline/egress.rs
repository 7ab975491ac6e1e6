//! A request to a host that is no service of the mesh, where policy lets apps call such hosts: in plaintext HTTP, as it came.
//!
//! There is no identity, route, breaker or retry on this way. Cancelled by: the client's going away. Dropping the future
//! gives back its place, and resets the stream or closes the connection.

use std::net::SocketAddr;
use std::rc::Rc;

use http::StatusCode;
use http::uri::Scheme;
use http_body::Body as _;

use super::accept::{Accepted, Form};
use super::find::Outside;
use super::forward::{self, Answered, Failure, Forwarded, Outgoing, Underway};
use super::headers;
use super::record::Record;
use super::refused::Refused;
use super::rejection::Rejection;
use super::upgrade::{self, Tunnel};
use crate::egress::{Host, Unresolved, is_own};
use crate::leg::h1::client::H1Error;
use crate::leg::interim::Interim;
use crate::leg::pump::Pump;
use crate::mesh::{CONNECT_MAX, ConnectError};
use crate::node::Published;
use crate::shard::Shard;

/// Where plaintext HTTP goes that names no port.
const HTTP_PORT: u16 = 80;

pub async fn send(
    shard: &Shard,
    published: &Published,
    outside: Outside,
    interim: &Interim,
    record: &mut Record,
) -> Result<Forwarded, Refused> {
    let Outside { accepted } = outside;
    let (tunnel, form) = (accepted.tunnel, accepted.form);
    record.goes_to(&shard.egress.stats);
    let target: Box<str> = accepted.authority.as_str().into();
    let refused = |rejection| Refused { rejection, rule: None, target: Some(target.clone()) };
    let slot = shard.egress.enter().map_err(|limit| refused(Rejection::ConcurrencyLimit { limit }))?;
    let address = address(shard, published, &accepted).await.map_err(&refused)?;
    let answered = to_host(&shard.egress.host(address), shard, published, accepted, interim, record).await;
    let (mut response, mut underway) = answered.map_err(|failure| {
        refused(match failure {
            Failure::NeverRan(rejection) | Failure::Final(rejection) => rejection,
        })
    })?;
    let fields = response.headers_mut();
    headers::remove_hop_by_hop(fields);
    headers::strip_reserved(fields);
    if let Some(tunnel) = tunnel {
        let opened = match (tunnel, form) {
            (Tunnel::Connect, _) => true,
            (Tunnel::Upgrade(_), Form::Http2) => response.status().is_success(),
            (Tunnel::Upgrade(_), Form::Http10 | Form::Http11) => {
                response.status() == StatusCode::SWITCHING_PROTOCOLS
            }
        };
        upgrade::settle(&mut response, tunnel, opened, form).map_err(&refused)?;
    }
    underway.held.egress = Some(slot);
    Ok(Forwarded { response, held: underway.held, deadline: None })
}

/// Where the host is, unless it is this sidecar itself.
async fn address(shard: &Shard, published: &Published, accepted: &Accepted) -> Result<SocketAddr, Rejection> {
    if accepted.head.uri.scheme() == Some(&Scheme::HTTPS) {
        return Err(Rejection::MalformedRequest {
            why: "https to a host outside of the mesh is the app's own to speak",
        });
    }
    let (host, port) = (accepted.authority.host(), accepted.authority.port_u16().unwrap_or(HTTP_PORT));
    let address = shard.egress.resolve(host, port).await.map_err(|why: Unresolved| {
        tracing::debug!(host, error = crate::error_chain(&why), "a host outside of the mesh was not found");
        Rejection::unresolved_host(host)
    })?;
    if is_own(address, &shard.node.config, published.table.edge_ports()) {
        return Err(Rejection::OwnAddress { address });
    }
    Ok(address)
}

/// In the version in which the app spoke.
async fn to_host(
    host: &Rc<Host>,
    shard: &Shard,
    published: &Published,
    accepted: Accepted,
    interim: &Interim,
    record: &mut Record,
) -> Result<Answered, Failure> {
    let endpoint = host.address;
    let mut fields = accepted.head.headers;
    if let Some(trace) = &mut record.trace {
        trace.attempt(published, &shard.node.tracer, endpoint, &mut fields);
    }
    let mut body = (!accepted.body.is_end_stream()).then(|| Pump::once(accepted.body));
    let tunnel = accepted.tunnel;
    let mut answered = match (accepted.form, tunnel) {
        (_, Some(Tunnel::Connect)) => {
            let opened = host.h1.open().await;
            Underway::of_h1(opened.map_err(|error| of_http1(&error, endpoint, record))?)
        }
        (Form::Http10 | Form::Http11, _) => {
            let (method, target) = (accepted.head.method, accepted.target.into_inner());
            let head = forward::http1_head(method, target, &accepted.authority, fields, tunnel);
            let answer = host.h1.send(&head, &mut body, interim).await;
            Underway::of_h1(answer.map_err(|error| of_http1(&error, endpoint, record))?)
        }
        (Form::Http2, _) => {
            let uri = forward::http2_uri(accepted.authority, accepted.target.into_inner())
                .map_err(Failure::Final)?;
            let outgoing = Outgoing { method: accepted.head.method, uri, fields, tunnel };
            let connect = async || host.http2().await.map_err(|error| of_connect(&error, endpoint));
            let reset = Rejection::UpstreamReset { endpoint };
            forward::over_h2(connect, &outgoing, &mut body, reset, interim).await?
        }
    };
    forward::commit(&mut body, &mut answered.1);
    Ok(answered)
}

fn of_http1(error: &H1Error, endpoint: SocketAddr, record: &mut Record) -> Failure {
    tracing::debug!(error = crate::error_chain(error), "a host outside of the mesh gave no answer");
    match error {
        H1Error::Connect { .. } => Failure::NeverRan(Rejection::ConnectFailed { endpoint }),
        H1Error::ConnectTimeout { .. } => {
            Failure::NeverRan(Rejection::ConnectTimeout { endpoint, limit: CONNECT_MAX })
        }
        H1Error::Malformed(malformed) => {
            record.malformed_answer(*malformed);
            Failure::Final(Rejection::UpstreamReset { endpoint })
        }
        H1Error::Broken(_) => Failure::Final(Rejection::UpstreamReset { endpoint }),
        H1Error::Source => Failure::Final(Rejection::MalformedRequest { why: "its body broke off" }),
    }
}

fn of_connect(error: &ConnectError, endpoint: SocketAddr) -> Rejection {
    match error {
        ConnectError::TcpTimeout { .. } => Rejection::ConnectTimeout { endpoint, limit: CONNECT_MAX },
        ConnectError::NoIdentity
        | ConnectError::Tcp { .. }
        | ConnectError::Peer { .. }
        | ConnectError::Tls { .. } => Rejection::ConnectFailed { endpoint },
        // It took the connection, and does not speak HTTP/2.
        ConnectError::HandshakeTimeout { .. } | ConnectError::Http2 { .. } => {
            Rejection::UpstreamReset { endpoint }
        }
    }
}
