//! Whether the peer of an HTTP/2 connection is still there, asked while something is expected of it; and how far away it is.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_rt::time::{Instant, Sleep, sleep};
use h2::PingPong;

/// While streams are open, another sidecar is asked this often. 10 s: a hung one is found out before most callers give up.
const INTERVAL: Duration = Duration::from_secs(10);
/// A peer that has not answered for so long gets no new streams: one round trip, and much patience.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// And after this time it counts as gone. 10 s: a machine that was paused for longer has lost its requests anyway.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// How far away a peer is, so many round trips tell at the beginning: one alone may have waited for a busy thread.
const MEASURED: u32 = 3;

/// What is known of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Answers,
    /// It has not answered for [`STALLED_AFTER`].
    Stalled,
    /// It has not answered for [`GONE_AFTER`].
    Gone,
}

pub struct Keepalive {
    ping: PingPong,
    timer: Pin<Box<Sleep>>,
    /// Since when an answer is awaited.
    asked_at: Option<Instant>,
    answers: u32,
    nearest: Duration,
    far: Far,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Far {
    /// Another sidecar.
    Sidecar,
    /// The own app. It is asked once: it is near, and servers of gRPC by Go end a connection, and the calls on it, of a client that
    /// asks more often than each 5 minutes while they say nothing.
    App,
}

impl Keepalive {
    pub fn new(ping: PingPong, far: Far) -> Self {
        Self {
            ping,
            timer: Box::pin(sleep(INTERVAL)),
            asked_at: None,
            answers: 0,
            nearest: Duration::MAX,
            far,
        }
    }

    /// Asks at once.
    pub fn ask(&mut self) -> Result<(), h2::Error> {
        self.ping.send_ping(h2::Ping::opaque())?;
        self.asked_at = Some(Instant::now());
        self.timer.as_mut().reset(Instant::now() + STALLED_AFTER);
        Ok(())
    }

    pub fn has_answered(&self) -> bool {
        self.answers > 0
    }

    /// The least round trip so far, once it is known. Not of the first answer, which has the peer's part of the handshake in it.
    pub fn nearest(&self) -> Option<Duration> {
        (self.answers > MEASURED).then_some(self.nearest)
    }

    /// Looks for an answer, and asks again when it is time. `in_use`: whether streams are open.
    pub fn poll(&mut self, in_use: bool, cx: &mut Context<'_>) -> Result<Peer, h2::Error> {
        loop {
            if let Some(asked_at) = self.asked_at {
                match self.ping.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        let trip = asked_at.elapsed();
                        self.asked_at = None;
                        if self.answers > 0 {
                            self.nearest = self.nearest.min(trip);
                        }
                        self.answers = self.answers.saturating_add(1);
                        if self.answers <= MEASURED && self.far == Far::Sidecar {
                            self.ask()?;
                        } else {
                            self.timer.as_mut().reset(Instant::now() + INTERVAL);
                        }
                        continue;
                    }
                    Poll::Ready(Err(error)) => return Err(error),
                    Poll::Pending => {}
                }
                let waited = asked_at.elapsed();
                if waited >= GONE_AFTER {
                    return Ok(Peer::Gone);
                }
                if self.timer.as_mut().poll(cx).is_ready() {
                    self.timer.as_mut().reset(asked_at + GONE_AFTER);
                    continue;
                }
                return Ok(if waited >= STALLED_AFTER { Peer::Stalled } else { Peer::Answers });
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(Peer::Answers);
            }
            if in_use && self.far == Far::Sidecar {
                self.ask()?;
            } else {
                self.timer.as_mut().reset(Instant::now() + INTERVAL);
            }
        }
    }
}
