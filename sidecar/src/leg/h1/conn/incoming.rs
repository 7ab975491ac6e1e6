//! What reads a message's content.

use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;

use super::{Broken, Conn, Reading};

/// The content of one message, read straight from its connection.
pub struct Incoming {
    conn: Rc<Conn>,
    message: u32,
}

impl Incoming {
    /// Of the message that has begun.
    pub(super) fn new(conn: &Rc<Conn>) -> Self {
        Self { conn: Rc::clone(conn), message: conn.message.get() }
    }

    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.conn.message.get() != self.message {
            return Poll::Ready(None);
        }
        self.conn.poll_body(cx)
    }

    pub fn is_ended(&self) -> bool {
        self.conn.message.get() != self.message || self.conn.is_read()
    }

    /// Bytes that are announced and still to come.
    pub fn left(&self) -> Option<u64> {
        match *self.conn.reading.borrow() {
            _ if self.conn.message.get() != self.message => Some(0),
            Reading::Owner => Some(0),
            Reading::Length(left) => Some(left),
            Reading::Chunked(_) | Reading::UntilClose | Reading::Undecided | Reading::Failed => None,
        }
    }
}

impl Drop for Incoming {
    /// Nobody wants the rest; the owner may drain it.
    fn drop(&mut self) {
        if self.conn.message.get() == self.message {
            self.conn.orphaned.set(true);
            if let Some(owner) = self.conn.owner.take() {
                owner.wake();
            }
        }
    }
}
