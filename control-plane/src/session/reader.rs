//! Reads what a sidecar says: the first message begins the session, each next one goes to its actor.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use actix_ws::AggregatedMessage;
use futures_util::StreamExt as _;
use outrider_shared::identity::Peer;
use outrider_shared::session::framing::{Assembler, frames};
use outrider_shared::session::{FromControlPlane, FromSidecar, Hello, PROTOCOL};
use outrider_shared::{ServiceId, SidecarId};
use ractor::{Actor, ActorCell, ActorRef, call_t};

use super::{ANSWER_MAX_MS, Begun, Message, NAME_BYTES_MAX, REGISTRY_MAX_MS, Session};
use crate::authority::actor::Message as AuthorityMessage;
use crate::parts::Parts;
use crate::registry::Message as RegistryMessage;

/// Largest message from a sidecar: a report of 1,000 rows of some 500 bytes, and 200 upstreams, twice over.
const FROM_SIDECAR_BYTES_MAX: usize = 2 << 20;
/// The first message must come within this time.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// A sidecar says something each second; one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Reads a session to its end. `peer` is who the connection has proved to come from.
pub async fn serve(
    parts: Arc<Parts>,
    mut socket: actix_ws::Session,
    stream: actix_ws::MessageStream,
    peer: Peer,
    source: SocketAddr,
) {
    let mut stream =
        stream.max_frame_size(64 << 10).aggregate_continuations().max_continuation_size(64 << 10);
    let mut assembler = Assembler::new(FROM_SIDECAR_BYTES_MAX);
    let hello = tokio::time::timeout(HELLO_MAX, next(&mut stream, &mut socket, &mut assembler)).await;
    let outcome = match hello {
        Ok(Ok(Some(FromSidecar::Hello(hello)))) => begin(&parts, socket.clone(), hello, &peer, source).await,
        Ok(Ok(_)) => Err("a session begins with Hello".to_owned()),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err("no Hello within 5 s".to_owned()),
    };
    let session = match outcome {
        Ok(session) => session,
        Err(reason) => {
            tracing::warn!(peer = %peer.identity, %source, reason, "refused a session");
            for frame in frames(&FromControlPlane::Goodbye { reason }) {
                // It may have gone already.
                let _ = socket.binary(frame).await;
            }
            let _ = socket.close(None).await;
            return;
        }
    };
    let reason = loop {
        let said = tokio::time::timeout(SILENCE_MAX, next(&mut stream, &mut socket, &mut assembler)).await;
        match said {
            Err(_) => break "silent for 15 s".to_owned(),
            Ok(Ok(None)) => break "closed".to_owned(),
            Ok(Err(reason)) => {
                let _ = session.send_message(Message::Goodbye { reason: reason.clone() });
                break reason;
            }
            Ok(Ok(Some(said))) => {
                let taken = session.call(|reply| Message::Said(Box::new(said), reply), None).await;
                if !matches!(taken, Ok(ractor::rpc::CallResult::Success(()))) {
                    break "the session's actor ended".to_owned();
                }
            }
        }
    };
    tracing::info!(peer = %peer.identity, %source, reason, "a session ended");
    session.stop(Some(reason));
}

/// Checks who says hello, starts the session's actor, and registers it.
async fn begin(
    parts: &Arc<Parts>,
    socket: actix_ws::Session,
    hello: Hello,
    peer: &Peer,
    source: SocketAddr,
) -> Result<ActorRef<Message>, String> {
    if hello.protocol != PROTOCOL {
        return Err(format!("protocol {} is not spoken here, {PROTOCOL} is", hello.protocol));
    }
    if hello.boot.is_empty() || hello.boot.len().max(hello.build.len()) > NAME_BYTES_MAX {
        return Err(format!("boot and build have at most {NAME_BYTES_MAX} bytes, and boot at least one"));
    }
    let sidecar = hello.sidecar.clone();
    let service = service_of(parts, &sidecar).await?;
    if service != hello.service {
        return Err(format!("sidecar {sidecar} joined as {service}, not as {}", hello.service));
    }
    // The leaf may name an identity that its service had before: what it is told of the new one makes it renew.
    match &peer.sidecar {
        Some(of) if *of == sidecar => {}
        Some(of) => return Err(format!("the certificate is that of sidecar {of}, not of {sidecar}")),
        None => return Err(format!("the certificate of {} names no sidecar", peer.identity)),
    }
    let registry = parts.registry().ok_or("starting: try again")?;
    let supervisor = parts.supervisor.load_full().ok_or("starting: try again")?;
    let begun = Begun {
        parts: Arc::clone(parts),
        registry: registry.clone(),
        socket,
        sidecar,
        boot: hello.boot.clone(),
        until: UNIX_EPOCH + Duration::from_secs(peer.not_after.as_secs()),
    };
    let started = Actor::spawn_linked(None, Session, begun, ActorCell::clone(&supervisor)).await;
    let (session, _) = started.map_err(|error| error.to_string())?;
    let to_registry = session.clone();
    let answer = call_t!(
        registry,
        |reply| RegistryMessage::Hello { hello: Box::new(hello), source, session: to_registry, reply },
        REGISTRY_MAX_MS
    );
    let refused = match answer {
        Ok(Ok(())) => return Ok(session),
        Ok(Err(reason)) => reason,
        Err(_) => "the registry was started anew: come back".to_owned(),
    };
    // It says so to the sidecar, and ends; the reader sees that it has ended.
    let _ = session.send_message(Message::Goodbye { reason: refused });
    Ok(session)
}

/// As what a sidecar has joined.
async fn service_of(parts: &Parts, sidecar: &SidecarId) -> Result<ServiceId, String> {
    let authority = parts.authority().ok_or("starting: try again")?;
    let of = call_t!(authority, |reply| AuthorityMessage::ServiceOf(sidecar.clone(), reply), ANSWER_MAX_MS);
    match of {
        Ok(Ok(Some(service))) => Ok(service),
        Ok(Ok(None)) => Err(format!("sidecar {sidecar} has not joined here")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The next message; `None`: the sidecar closed.
async fn next(
    stream: &mut actix_ws::AggregatedMessageStream,
    socket: &mut actix_ws::Session,
    assembler: &mut Assembler,
) -> Result<Option<FromSidecar>, String> {
    while let Some(message) = stream.next().await {
        match message {
            Ok(AggregatedMessage::Binary(frame)) => match assembler.take(&frame) {
                Ok(None) => {}
                Ok(Some(said)) => return Ok(Some(said)),
                Err(error) => return Err(format!("a message that is not understood: {error}")),
            },
            Ok(AggregatedMessage::Ping(payload)) => {
                if socket.pong(&payload).await.is_err() {
                    return Ok(None);
                }
            }
            Ok(AggregatedMessage::Pong(_)) => {}
            Ok(AggregatedMessage::Text(_)) => return Err("a text message: messages are binary".to_owned()),
            Ok(AggregatedMessage::Close(_)) => return Ok(None),
            Err(error) => return Err(format!("not a WebSocket message: {error}")),
        }
    }
    Ok(None)
}
