//! One session with one sidecar: what it says goes to the registry, what the registry plans comes here.
//!
//! At most one push is under way. What is planned meanwhile waits, and only the latest of it: a slow sidecar gets fewer
//! snapshots, never older ones.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_ws::AggregatedMessage;
use futures_util::StreamExt as _;
use outrider_shared::session::framing::{Assembler, frames};
use outrider_shared::session::{FromControlPlane, FromSidecar, Hello, PROTOCOL};
use outrider_shared::snapshot::Version;
use outrider_shared::{SidecarId, SpiffeId};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, call_t};
use tokio::sync::mpsc;

use crate::authority::actor::Message as AuthorityMessage;
use crate::metrics::Outcome;
use crate::parts::Parts;
use crate::registry::Message as RegistryMessage;

/// Largest message from a sidecar: a report of 1,000 rows of some 500 bytes, and 200 upstreams, twice over.
pub const FROM_SIDECAR_BYTES_MAX: usize = 2 << 20;
/// The first message must come within this time.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// A sidecar says something each second; one that is silent for so long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A push that is neither taken nor refused within this time counts as refused.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// A sidecar that takes no frame for so long does not read.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Messages before the writer: a push, one that was not settled in time, a withdrawal's answer, and the reason of the end.
const WRITER_MESSAGES_MAX: usize = 4;
/// Longest text by which a sidecar names itself, its build, or a peer: as long as a SPIFFE ID gets.
const NAME_BYTES_MAX: usize = 2_048;
/// An actor's answer; longer only if the store's disk hangs.
pub const ANSWER_MAX_MS: u64 = 5_000;
/// The registry's to a session. 30 s: to end sessions because it is busy with planning would give it more to plan.
const REGISTRY_MAX_MS: u64 = 30_000;

/// Owns: what of pushes is under way. Receives: [`Message`]. Publishes: messages, to the task that writes them. Capacity:
/// one push under way and one waiting; the reader hands over one message at a time. It never waits for the sidecar, so
/// what comes for it is taken at once. On restart: never, the sidecar reconnects.
pub struct Session;

/// What a session begins with.
pub struct Begun {
    parts: Arc<Parts>,
    registry: ActorRef<RegistryMessage>,
    socket: actix_ws::Session,
    sidecar: SidecarId,
    boot: String,
}

pub enum Message {
    /// From the reader, answered when it has been taken.
    Said(Box<FromSidecar>, RpcReplyPort<()>),
    /// From the registry.
    Push {
        version: Version,
        body: String,
    },
    Withdrawn,
    Goodbye {
        reason: String,
    },
    /// Our own timer.
    Unsettled {
        version: Version,
    },
}

pub struct State {
    parts: Arc<Parts>,
    /// The one that knows of this session: with it the session ends, and its sidecar comes back to the next.
    registry: ActorRef<RegistryMessage>,
    writer: mpsc::Sender<FromControlPlane>,
    sidecar: SidecarId,
    boot: String,
    under_way: Option<Version>,
    waiting: Option<(Version, String)>,
}

impl Actor for Session {
    type Msg = Message;
    type State = State;
    type Arguments = Begun;

    async fn pre_start(&self, myself: ActorRef<Message>, begun: Begun) -> Result<State, ActorProcessingErr> {
        let Begun { parts, registry, socket, sidecar, boot } = begun;
        let (writer, said) = mpsc::channel(WRITER_MESSAGES_MAX);
        tokio::spawn(write(socket, said, myself));
        parts.metrics.sessions.inc();
        Ok(State { parts, registry, writer, sidecar, boot, under_way: None, waiting: None })
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.parts.metrics.sessions.dec();
        let ended =
            RegistryMessage::Disconnected { sidecar: state.sidecar.clone(), session: myself.get_id() };
        // A registry that has ended knows of no session.
        let _ = state.registry.send_message(ended);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Err(reason) = state.take(&myself, message).await {
            // One that does not read will not read this either.
            let _ = state.writer.try_send(FromControlPlane::Goodbye { reason: reason.clone() });
            // Not an error of the actor's: with one, `post_stop` would not run, and the registry would not hear of the end.
            myself.stop(Some(reason));
        }
        Ok(())
    }
}

impl State {
    /// `Err`: why the session ends.
    async fn take(&mut self, myself: &ActorRef<Message>, message: Message) -> Result<(), String> {
        match message {
            Message::Said(said, reply) => {
                self.hear(myself, *said).await?;
                // The reader may have ended.
                let _ = reply.send(());
            }
            Message::Push { version, body } => {
                self.waiting = Some((version, body));
                self.push_next(myself).await?;
            }
            Message::Withdrawn => self.say(FromControlPlane::Withdrawn)?,
            Message::Goodbye { reason } => return Err(reason),
            Message::Unsettled { version } => {
                if self.under_way == Some(version) {
                    tracing::warn!(sidecar = %self.sidecar, %version, "a push was not settled in time");
                    self.settle(myself, version, Some(vec!["no answer within 10 s".to_owned()])).await?;
                }
            }
        }
        Ok(())
    }

    /// Waiting for the registry is its bound: a sidecar's next message is read when this one has been taken.
    async fn tell(&self, message: impl FnOnce(RpcReplyPort<()>) -> RegistryMessage) -> Result<(), String> {
        call_t!(self.registry, message, REGISTRY_MAX_MS)
            .map_err(|_| "the registry was started anew: come back".to_owned())
    }

    async fn hear(&mut self, myself: &ActorRef<Message>, said: FromSidecar) -> Result<(), String> {
        let sidecar = self.sidecar.clone();
        match said {
            FromSidecar::Hello(_) => return Err("a second Hello in one session".to_owned()),
            FromSidecar::Announce { serving } => {
                self.tell(|reply| RegistryMessage::Announce { sidecar, serving, reply }).await?;
            }
            FromSidecar::Withdraw => self.tell(|reply| RegistryMessage::Withdraw { sidecar, reply }).await?,
            FromSidecar::Ack { version } => self.settle(myself, version, None).await?,
            FromSidecar::Nack { version, reasons } => {
                tracing::warn!(%sidecar, ?version, ?reasons, "a snapshot was refused");
                let version = version.or(self.under_way).unwrap_or_default();
                self.settle(myself, version, Some(reasons)).await?;
            }
            FromSidecar::Report(report) => {
                if report.boot != self.boot {
                    return Err("a report of another boot than the one that said Hello".to_owned());
                }
                if report.inbound.iter().any(|row| row.peer.len() > NAME_BYTES_MAX) {
                    return Err(format!("a report with a peer of more than {NAME_BYTES_MAX} bytes"));
                }
                self.tell(|reply| RegistryMessage::Report { sidecar, report, reply }).await?;
            }
        }
        Ok(())
    }

    async fn settle(
        &mut self,
        myself: &ActorRef<Message>,
        version: Version,
        nack: Option<Vec<String>>,
    ) -> Result<(), String> {
        let outcome = if nack.is_none() { "ack" } else { "nack" };
        self.parts.metrics.settled.get_or_create(&Outcome { outcome }).inc();
        let sidecar = self.sidecar.clone();
        self.tell(|reply| RegistryMessage::Settled { sidecar, version, nack, reply }).await?;
        if self.under_way.is_some_and(|under_way| under_way <= version) {
            self.under_way = None;
        }
        self.push_next(myself).await
    }

    async fn push_next(&mut self, myself: &ActorRef<Message>) -> Result<(), String> {
        if self.under_way.is_some() {
            return Ok(());
        }
        let Some((version, body)) = self.waiting.take() else { return Ok(()) };
        let anew = || "the authority was started anew: come back".to_owned();
        let authority = self.parts.authority().ok_or_else(anew)?;
        let signed = call_t!(authority, |reply| AuthorityMessage::Sign(body, reply), ANSWER_MAX_MS);
        let signed = signed.map_err(|_| anew())?.map_err(|error| error.to_string())?;
        self.parts.metrics.pushes.inc();
        self.under_way = Some(version);
        myself.send_after(SETTLE_MAX, move || Message::Unsettled { version });
        self.say(FromControlPlane::Push(signed))
    }

    fn say(&self, message: FromControlPlane) -> Result<(), String> {
        self.writer.try_send(message).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "the sidecar does not read".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "the sidecar closed the session".to_owned(),
        })
    }
}

/// Writes what the session says, and closes the socket when there is nothing more: a slow sidecar makes this wait, and
/// nothing else. Ends with the session, or ends it.
async fn write(
    mut socket: actix_ws::Session,
    mut said: mpsc::Receiver<FromControlPlane>,
    session: ActorRef<Message>,
) {
    while let Some(message) = said.recv().await {
        for frame in frames(&message) {
            let written = tokio::time::timeout(WRITE_MAX, socket.binary(frame)).await;
            if !matches!(written, Ok(Ok(()))) {
                session.stop(Some("the sidecar does not read".to_owned()));
                return;
            }
        }
    }
    // The peer may have closed first.
    let _ = tokio::time::timeout(WRITE_MAX, socket.close(None)).await;
}

/// Reads a session to its end. `peer` is the identity that the connection has proved.
pub async fn serve(
    parts: Arc<Parts>,
    mut socket: actix_ws::Session,
    stream: actix_ws::MessageStream,
    peer: SpiffeId,
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
            tracing::warn!(%peer, %source, reason, "refused a session");
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
    tracing::info!(%peer, %source, reason, "a session ended");
    session.stop(Some(reason));
}

/// Checks who says hello, starts the session's actor, and registers it.
async fn begin(
    parts: &Arc<Parts>,
    socket: actix_ws::Session,
    hello: Hello,
    peer: &SpiffeId,
    source: SocketAddr,
) -> Result<ActorRef<Message>, String> {
    if hello.protocol != PROTOCOL {
        return Err(format!("protocol {} is not spoken here, {PROTOCOL} is", hello.protocol));
    }
    if hello.boot.is_empty() || hello.boot.len().max(hello.build.len()) > NAME_BYTES_MAX {
        return Err(format!("boot and build have at most {NAME_BYTES_MAX} bytes, and boot at least one"));
    }
    let authority = parts.authority().ok_or("starting: try again")?;
    let sidecar = hello.sidecar.clone();
    let of = call_t!(authority, |reply| AuthorityMessage::ServiceOf(sidecar.clone(), reply), ANSWER_MAX_MS);
    let service = match of {
        Ok(Ok(Some(service))) => service,
        Ok(Ok(None)) => return Err(format!("sidecar {sidecar} has not joined here")),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(error) => return Err(error.to_string()),
    };
    if service != hello.service {
        return Err(format!("sidecar {sidecar} joined as {service}, not as {}", hello.service));
    }
    let policy = parts.policy.load_full();
    let Some(declared) = policy.policy.service(&service) else {
        return Err(format!("revision {} declares no service {service}", policy.revision));
    };
    if declared.identity() != peer {
        return Err(format!("{peer} is not the identity of {service}, {} is", declared.identity()));
    }
    let registry = parts.registry().ok_or("starting: try again")?;
    let supervisor = parts.supervisor.load_full().ok_or("starting: try again")?;
    let begun = Begun {
        parts: Arc::clone(parts),
        registry: registry.clone(),
        socket,
        sidecar,
        boot: hello.boot.clone(),
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
