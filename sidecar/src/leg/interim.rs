//! Interim answers (1xx) on their way to the client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Response, StatusCode};

/// Interim answers that one request may have. 16: nobody needs more than a 100 and a few 103, and an upstream could send
/// nothing else.
pub const INTERIM_MAX: u32 = 16;

/// Where a client is told before its answer.
pub enum Interim {
    /// It would not understand, or does not wait.
    None,
    /// HTTP/1.1, waiting for 100; true once it may send its content.
    Continue(Rc<Cell<bool>>),
    H2 {
        stream: Rc<RefCell<SendResponse<Bytes>>>,
        /// It was told of what is to come.
        hinted: Cell<bool>,
    },
}

impl Interim {
    /// Passes on what the client understands: 100, and over HTTP/2 also 103 (RFC 8297: old HTTP/1.1 clients take it for
    /// the answer).
    pub fn send(&self, interim: Response<()>) {
        match (self, interim.status()) {
            (Self::Continue(go), StatusCode::CONTINUE) => go.set(true),
            (Self::H2 { stream, hinted }, status @ (StatusCode::CONTINUE | StatusCode::EARLY_HINTS)) => {
                hinted.set(hinted.get() || status == StatusCode::EARLY_HINTS);
                if let Err(error) = stream.borrow_mut().send_informational(interim) {
                    tracing::trace!(%error, "the client had gone");
                }
            }
            _ => {}
        }
    }

    /// Whether the client has begun to act on an answer: no other one may follow.
    pub fn is_hinted(&self) -> bool {
        matches!(self, Self::H2 { hinted, .. } if hinted.get())
    }
}
