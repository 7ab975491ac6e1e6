//! Whether the peer of an HTTP/2 connection is still there, asked while something is expected of it; and how far away it is.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_rt::time::{Sleep, sleep};
use h2::PingPong;

/// While streams are open, the peer is asked this often. 10 s: what gRPC servers allow without complaint.
const INTERVAL: Duration = Duration::from_secs(10);
/// A peer that has not answered for so long gets no new streams: one round trip, and much patience.
const STALLED_AFTER: Duration = Duration::from_secs(1);
/// And after this time it counts as gone. 10 s: a machine that was paused for longer has lost its requests anyway.
const GONE_AFTER: Duration = Duration::from_secs(10);

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
    /// Whether it has ever answered.
    answered: bool,
    nearest: Option<Duration>,
}

impl Keepalive {
    pub fn new(ping: PingPong) -> Self {
        Self { ping, timer: Box::pin(sleep(INTERVAL)), asked_at: None, answered: false, nearest: None }
    }

    /// Asks at once.
    pub fn ask(&mut self) -> Result<(), h2::Error> {
        self.ping.send_ping(h2::Ping::opaque())?;
        self.asked_at = Some(Instant::now());
        self.timer.as_mut().reset((Instant::now() + STALLED_AFTER).into());
        Ok(())
    }

    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// The least round trip so far. Not of the first answer, which has the peer's part of the handshake in it.
    pub fn nearest(&self) -> Option<Duration> {
        self.nearest
    }

    /// Looks for an answer, and asks again when it is time. `in_use`: whether streams are open.
    pub fn poll(&mut self, in_use: bool, cx: &mut Context<'_>) -> Result<Peer, h2::Error> {
        loop {
            if let Some(asked_at) = self.asked_at {
                match self.ping.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        let trip = asked_at.elapsed();
                        self.asked_at = None;
                        if !std::mem::replace(&mut self.answered, true) {
                            self.ask()?;
                            continue;
                        }
                        self.nearest = Some(self.nearest.map_or(trip, |nearest| nearest.min(trip)));
                        self.timer.as_mut().reset((Instant::now() + INTERVAL).into());
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
                    self.timer.as_mut().reset((asked_at + GONE_AFTER).into());
                    continue;
                }
                return Ok(if waited >= STALLED_AFTER { Peer::Stalled } else { Peer::Answers });
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(Peer::Answers);
            }
            if in_use {
                self.ask()?;
            } else {
                self.timer.as_mut().reset((Instant::now() + INTERVAL).into());
            }
        }
    }
}
