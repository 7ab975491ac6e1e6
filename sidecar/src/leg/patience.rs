//! A deadline that moves with each message, and a timer that is set again only when it goes off.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_rt::time::{Sleep, sleep};

/// Moving it later costs nothing: the timer, once it goes off, looks where the deadline is by then.
pub struct Patience {
    timer: Pin<Box<Sleep>>,
    until: Instant,
}

impl Patience {
    pub fn new(first: Duration) -> Self {
        Self { timer: Box::pin(sleep(first)), until: Instant::now() + first }
    }

    pub fn until(&mut self, until: Instant) {
        if until < self.timer.deadline().into_std() {
            self.timer.as_mut().reset(until.into());
        }
        self.until = until;
    }

    /// Ready once the deadline has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= self.until {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.until.into());
        }
    }
}
