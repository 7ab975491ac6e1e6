//! One session with one sidecar: what it says goes to the registry, what the registry plans comes here.
//!
//! At most one push is under way. What is planned meanwhile waits, and only the latest of it: a slow sidecar gets fewer
//! snapshots, never older ones.
//!
//! A session rests on the leaf with which it was opened: it is that sidecar's alone, and ends with it.

mod reader;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outrider_shared::SidecarId;
use outrider_shared::session::framing::frames;
use outrider_shared::session::{
    FromControlPlane, FromSidecar, REPORT_ROWS_MAX, REPORT_UPSTREAMS_MAX, Report,
};
use outrider_shared::snapshot::Version;
use prometheus_client::metrics::gauge::Gauge;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, call_t};
use tokio::sync::mpsc;

use crate::authority::actor::Message as AuthorityMessage;
use crate::metrics::Outcome;
use crate::parts::Parts;
use crate::registry::{Message as RegistryMessage, Origin};
pub use reader::serve;

/// A push that is neither taken nor refused within this time counts as refused.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// A sidecar that takes no frame for so long does not read.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// Messages before the writer: a push, one that was not settled in time, a withdrawal's answer, and the reason of the end.
const WRITER_MESSAGES_MAX: usize = 4;
/// Longest text by which a sidecar names itself, its build, or a peer: as long as a SPIFFE ID gets.
const NAME_BYTES_MAX: usize = 2_048;
/// Reasons that are kept and logged of one refusal, and the length of each: what fits on a screen or two, and no more than
/// 16 KiB for each sidecar.
const REASONS_MAX: usize = 32;
const REASON_CHARS_MAX: usize = 512;
/// Longest wait before the wall clock is looked at again: a timer does not run while a machine sleeps.
const CLOCK_EVERY: Duration = Duration::from_secs(30);
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
    /// When its leaf ends.
    until: SystemTime,
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
    /// Our own timer: the leaf may have ended.
    LookAtClock,
}

pub struct State {
    parts: Arc<Parts>,
    /// The one that knows of this session: with it the session ends, and its sidecar comes back to the next.
    registry: ActorRef<RegistryMessage>,
    writer: mpsc::Sender<FromControlPlane>,
    from: Origin,
    boot: String,
    until: SystemTime,
    under_way: Option<Version>,
    waiting: Option<(Version, String)>,
    _counted: Counted,
}

/// Counts a session as long as it lives, whatever it ends by.
struct Counted(Gauge);

impl Counted {
    fn new(sessions: &Gauge) -> Self {
        sessions.inc();
        Self(sessions.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Actor for Session {
    type Msg = Message;
    type State = State;
    type Arguments = Begun;

    async fn pre_start(&self, myself: ActorRef<Message>, begun: Begun) -> Result<State, ActorProcessingErr> {
        let Begun { parts, registry, socket, sidecar, boot, until } = begun;
        let from = Origin { sidecar, session: myself.get_id() };
        let (writer, said) = mpsc::channel(WRITER_MESSAGES_MAX);
        look_at_clock(&myself, until);
        tokio::spawn(write(socket, said, myself));
        let counted = Counted::new(&parts.metrics.sessions);
        Ok(State {
            parts,
            registry,
            writer,
            from,
            boot,
            until,
            under_way: None,
            waiting: None,
            _counted: counted,
        })
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
            Message::LookAtClock => {
                if self.until <= SystemTime::now() {
                    return Err(
                        "the leaf of this session has expired: come back with the next one".to_owned()
                    );
                }
                look_at_clock(myself, self.until);
            }
            Message::Unsettled { version } => {
                if self.under_way == Some(version) {
                    tracing::warn!(sidecar = %self.from.sidecar, %version, "a push was not settled in time");
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
        let from = self.from.clone();
        match said {
            FromSidecar::Hello(_) => return Err("a second Hello in one session".to_owned()),
            FromSidecar::Announce { serving } => {
                self.tell(|reply| RegistryMessage::Announce { from, serving, reply }).await?;
            }
            FromSidecar::Withdraw => self.tell(|reply| RegistryMessage::Withdraw { from, reply }).await?,
            FromSidecar::Ack { version } => self.settle(myself, version, None).await?,
            FromSidecar::Nack { version, reasons } => {
                let reasons = in_short(reasons);
                tracing::warn!(sidecar = %from.sidecar, ?version, ?reasons, "a snapshot was refused");
                let version = version.or(self.under_way).unwrap_or_default();
                self.settle(myself, version, Some(reasons)).await?;
            }
            FromSidecar::Report(report) => {
                self.judge(&report).inspect_err(|_| {
                    self.parts.metrics.reports_refused.inc();
                })?;
                self.tell(|reply| RegistryMessage::Report { from, report, reply }).await?;
            }
        }
        Ok(())
    }

    /// Whether a report is one that a sidecar may send.
    fn judge(&self, report: &Report) -> Result<(), String> {
        if report.boot != self.boot {
            return Err("a report of another boot than the one that said Hello".to_owned());
        }
        for (got, of, limit) in [
            (report.inbound.len(), "rows", REPORT_ROWS_MAX),
            (report.upstreams.len(), "upstreams", REPORT_UPSTREAMS_MAX),
        ] {
            if got > limit {
                return Err(format!("a report of {got} {of}, and at most {limit} are taken"));
            }
        }
        if report.inbound.iter().any(|row| row.peer.len() > NAME_BYTES_MAX) {
            return Err(format!("a report with a peer of more than {NAME_BYTES_MAX} bytes"));
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
        let from = self.from.clone();
        self.tell(|reply| RegistryMessage::Settled { from, version, nack, reply }).await?;
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

/// A refusal's reasons within bounds, and how many more there were.
fn in_short(mut reasons: Vec<String>) -> Vec<String> {
    let more = reasons.len().saturating_sub(REASONS_MAX);
    reasons.truncate(REASONS_MAX);
    for reason in &mut reasons {
        if let Some((end, _)) = reason.char_indices().nth(REASON_CHARS_MAX) {
            reason.truncate(end);
            reason.push('…');
        }
    }
    if more > 0 {
        reasons.push(format!("and {more} more"));
    }
    reasons
}

fn look_at_clock(session: &ActorRef<Message>, until: SystemTime) {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    session.send_after(left.min(CLOCK_EVERY), || Message::LookAtClock);
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
