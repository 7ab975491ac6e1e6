//! One WebSocket, from its handshake to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_http::ws;
use awc::BoxedSocket;
use awc::error::WsClientError;
use awc::ws::{Codec, Frame, Message};
use bytes::Bytes;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use outrider_shared::identity::{Material, control_client_config};
use outrider_shared::session::framing::{Assembler, FrameError, MESSAGE_BYTES_MAX, PART_BYTES_MAX, frames};
use outrider_shared::session::{FromControlPlane, FromSidecar};
use rustls_pki_types::UnixTime;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::enrol::{self, AUTHORITY, EnrolError};
use super::renewal::Life;
use super::state::State;

/// Largest WebSocket frame that is read: a part and its marker.
const FRAME_BYTES_MAX: usize = PART_BYTES_MAX + 1;
/// Messages that wait for the writer. Answers to pushes are few; 16 that wait mean that nothing is being taken.
const OUTGOING_MAX: usize = 16;
/// One frame's way into the socket; longer, and the peer takes nothing any more.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// How often a report goes out, and everything else is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Silence after which the peer is asked for a sign of life, and after which it is taken for dead: three pings lost.
const PING_AFTER: Duration = Duration::from_secs(5);
const DEAD_AFTER: Duration = Duration::from_secs(15);
/// How long the last messages may take to leave when a session ends by our will.
const CLOSE_MAX: Duration = Duration::from_secs(1);

type Sink = SplitSink<actix_codec::Framed<BoxedSocket, Codec>, Message>;

/// How a session that had begun came to its end.
#[derive(Debug)]
pub(super) enum Ending {
    /// Ours to choose: the next one rests on a newer leaf.
    LeafReplaced,
    /// The process is about to end.
    Left,
    Down {
        error: LinkError,
        /// A push was answered: the next attempt need not wait long.
        useful: bool,
    },
}

/// Why we leave a session that could go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    ForNewerLeaf,
    ForGood,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("the control plane closed the session")]
    Closed,
    #[error("the control plane ended the session: {reason}")]
    Goodbye { reason: String },
    #[error("nothing was heard from the control plane for {} s", DEAD_AFTER.as_secs())]
    Silent,
    #[error("the control plane takes no more messages")]
    Stalled,
    #[error("the control plane sent a frame that a session does not have")]
    UnknownFrame,
    #[error("the session broke off")]
    Broken(#[source] ws::ProtocolError),
    #[error("the control plane sent what was not understood")]
    Frame(#[from] FrameError),
}

enum Outgoing {
    Message(Box<FromSidecar>),
    Control(Message),
}

/// Connects to one control plane and follows the session until it ends. An error: it never began.
pub(super) async fn run(
    state: &State,
    control_plane: &str,
    material: &Arc<Material>,
) -> Result<Ending, EnrolError> {
    let socket = connect(control_plane, material).await?;
    let (sink, frames) = socket.split();
    let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
    let mut writer = actix_rt::spawn(write(sink, queue));
    let mut link =
        Link { state, material, outgoing, assembler: Assembler::new(MESSAGE_BYTES_MAX), useful: false };
    state.connected();
    let mut frames = pin!(frames);
    let ended = link.follow(frames.as_mut(), &mut writer).await;
    let useful = link.useful;
    drop(link);
    // What is queued still leaves, then the writer ends by itself; a stalled one is cut off.
    if !writer.is_finished() && timeout(CLOSE_MAX, &mut writer).await.is_err() {
        writer.abort();
    }
    if matches!(ended, Ok(Parting::ForGood)) {
        // A socket that is closed with something unread in it takes back what it has sent, the last report too.
        let _ = timeout(CLOSE_MAX, async { while frames.next().await.is_some_and(|frame| frame.is_ok()) {} })
            .await;
    }
    Ok(match ended {
        Ok(Parting::ForNewerLeaf) => Ending::LeafReplaced,
        Ok(Parting::ForGood) => Ending::Left,
        Err(error) => Ending::Down { error, useful },
    })
}

async fn connect(
    control_plane: &str,
    material: &Material,
) -> Result<actix_codec::Framed<BoxedSocket, Codec>, EnrolError> {
    let client = enrol::client(control_client_config(&material.bundle, Some(material)));
    let mut failed = None;
    for address in enrol::addresses(control_plane).await? {
        let url = format!("https://{AUTHORITY}/v1/session");
        match client.ws(url).address(address).max_frame_size(FRAME_BYTES_MAX).connect().await {
            Ok((_, socket)) => return Ok(socket),
            Err(WsClientError::SendRequest(error)) => failed = Some(enrol::unreached(control_plane, &error)),
            Err(error) => {
                let why = error.to_string();
                failed = Some(EnrolError::Answer { control_plane: control_plane.to_owned(), why });
            }
        }
    }
    Err(failed.expect("a name has at least one address"))
}

/// Owns the socket's other half, so that a slow peer never keeps us from reading.
async fn write(mut sink: Sink, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(outgoing) = queue.recv().await {
        let sent = match outgoing {
            Outgoing::Message(message) => write_message(&mut sink, &message).await,
            Outgoing::Control(message) => {
                timeout(WRITE_MAX, sink.send(message)).await.is_ok_and(|sent| sent.is_ok())
            }
        };
        if !sent {
            return;
        }
    }
    // A courtesy: whether it arrives changes nothing.
    let _ = timeout(WRITE_MAX, sink.send(Message::Close(Some(ws::CloseCode::Normal.into())))).await;
}

async fn write_message(sink: &mut Sink, message: &FromSidecar) -> bool {
    for frame in frames(message) {
        if !timeout(WRITE_MAX, sink.send(Message::Binary(frame))).await.is_ok_and(|sent| sent.is_ok()) {
            return false;
        }
    }
    true
}

struct Link<'a> {
    state: &'a State,
    material: &'a Arc<Material>,
    outgoing: mpsc::Sender<Outgoing>,
    assembler: Assembler,
    useful: bool,
}

impl Link<'_> {
    /// `Ok`: we left. Each await may be cancelled only by the end of the session's handle.
    async fn follow<S>(
        &mut self,
        mut frames: std::pin::Pin<&mut S>,
        writer: &mut actix_rt::task::JoinHandle<()>,
    ) -> Result<Parting, LinkError>
    where
        S: futures_util::Stream<Item = Result<Frame, ws::ProtocolError>>,
    {
        let mut wishes = self.state.wishes();
        let mut said = *wishes.borrow_and_update();
        let hello = self.state.hello(said).expect("a session begins with an identity");
        self.say(FromSidecar::Hello(hello))?;
        if said.withdraw {
            self.say(FromSidecar::Withdraw)?;
        }
        let mut heard = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                frame = frames.next() => {
                    self.heard(frame.ok_or(LinkError::Closed)?.map_err(LinkError::Broken)?).await?;
                    heard = Instant::now();
                }
                changed = wishes.changed() => {
                    changed.expect("the sender lives as long as the state");
                    let wish = *wishes.borrow_and_update();
                    if wish.serving != said.serving {
                        self.say(FromSidecar::Announce { serving: wish.serving })?;
                    }
                    if wish.withdraw && !said.withdraw {
                        self.say(FromSidecar::Withdraw)?;
                    }
                    if wish.leave {
                        self.say(FromSidecar::Report(Box::new(self.state.effects.report())))?;
                        return Ok(Parting::ForGood);
                    }
                    said = wish;
                }
                _ = ticks.tick() => {
                    if self.tick(heard.elapsed())? {
                        return Ok(Parting::ForNewerLeaf);
                    }
                }
                _ = &mut *writer => return Err(LinkError::Stalled),
            }
        }
    }

    /// Whether the session is to be left for a newer leaf.
    fn tick(&mut self, silence: Duration) -> Result<bool, LinkError> {
        if silence > DEAD_AFTER {
            return Err(LinkError::Silent);
        }
        if silence > PING_AFTER {
            self.control(Message::Ping(Bytes::new()))?;
        }
        // A report that still waits says what this one would say: counters are cumulative.
        if self.outgoing.capacity() == self.outgoing.max_capacity() {
            self.say(FromSidecar::Report(Box::new(self.state.effects.report())))?;
        }
        let newer = self.state.material().is_some_and(|material| material.serial != self.material.serial);
        Ok(newer && Life::of(self.material).until_leaving(UnixTime::now()).is_zero())
    }

    async fn heard(&mut self, frame: Frame) -> Result<(), LinkError> {
        match frame {
            Frame::Binary(part) => match self.assembler.take(&part) {
                Ok(None) => Ok(()),
                Ok(Some(message)) => self.obey(message).await,
                Err(error) => {
                    let reasons = vec![crate::error_chain(&error)];
                    self.say(FromSidecar::Nack { version: None, reasons })?;
                    Err(error.into())
                }
            },
            Frame::Ping(payload) => self.control(Message::Pong(payload)),
            Frame::Pong(_) => Ok(()),
            Frame::Close(_) => Err(LinkError::Closed),
            Frame::Text(_) | Frame::Continuation(_) => Err(LinkError::UnknownFrame),
        }
    }

    async fn obey(&mut self, message: FromControlPlane) -> Result<(), LinkError> {
        match message {
            FromControlPlane::Push(signed) => {
                let answer = self.state.take(signed).await;
                self.useful = true;
                self.say(answer)
            }
            FromControlPlane::Withdrawn => {
                self.state.withdrawn();
                Ok(())
            }
            FromControlPlane::Goodbye { reason } => Err(LinkError::Goodbye { reason }),
        }
    }

    fn say(&self, message: FromSidecar) -> Result<(), LinkError> {
        self.outgoing.try_send(Outgoing::Message(Box::new(message))).map_err(|_| LinkError::Stalled)
    }

    fn control(&self, message: Message) -> Result<(), LinkError> {
        self.outgoing.try_send(Outgoing::Control(message)).map_err(|_| LinkError::Stalled)
    }
}
