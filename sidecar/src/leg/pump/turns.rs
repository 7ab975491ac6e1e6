//! A large body takes turns with all else on its thread.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll};

/// So much of a body is sent before others have their turn. 64 KiB: what a stream holds, some 30 µs of work.
const TURN_BYTES: usize = 64 << 10;

/// Of one body.
///
/// A body and the connection that takes it wake each other, and while both find work neither leaves the thread to look at its
/// sockets: a small request that has come meanwhile would wait for a whole window of the large one.
#[derive(Debug, Default)]
pub struct Turns {
    sent: usize,
    is_between: bool,
}

impl Turns {
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// Ready, unless its turn is over: then it is woken once the thread has looked at its sockets.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.is_between = self.sent >= TURN_BYTES;
        if !self.is_between {
            return Poll::Ready(());
        }
        self.sent = 0;
        // It asks for the wake-up when it is polled first, and needs no second.
        pin!(tokio::task::yield_now()).poll(cx)
    }

    /// Whether it waits for nothing but its next turn.
    pub fn is_between(&self) -> bool {
        self.is_between
    }
}

#[cfg(test)]
mod tests;
