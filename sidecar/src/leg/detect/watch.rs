//! Looks at what a tunnel carries to an app, and ends the tunnel once that turns out to be HTTP.
//!
//! Nothing waits for it: bytes pass on before it is sure. It is sure before the first line of a request has ended, so the
//! app has seen no request by then.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::judge::{Judge, Verdict};

/// At the way to the app.
pub struct Watch {
    judge: Judge,
    end: Rc<End>,
}

/// At the way back, which ends with the other.
pub struct Cut(Rc<End>);

struct End {
    /// Whose port it is: `namespace/name:port`.
    port: Arc<str>,
    cut: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

/// What a watch says of bytes that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// They may; the next ones are looked at too.
    Watched,
    /// They may, and all that follows.
    Free,
    /// They may not, and nothing after them.
    Refused,
}

/// The two halves of a watch on a tunnel to `port`.
pub fn watch(port: &Arc<str>) -> (Watch, Cut) {
    let end = Rc::new(End { port: Arc::clone(port), cut: Cell::new(false), waker: Cell::new(None) });
    (Watch { judge: Judge::default(), end: Rc::clone(&end) }, Cut(end))
}

impl Watch {
    pub fn see(&mut self, data: &[u8]) -> Passing {
        match self.judge.see(data) {
            Verdict::More => Passing::Watched,
            Verdict::Opaque => Passing::Free,
            Verdict::Http1 | Verdict::Http2 => {
                self.end.cut.set(true);
                if let Some(waker) = self.end.waker.take() {
                    waker.wake();
                }
                Passing::Refused
            }
        }
    }

    pub fn port(&self) -> &Arc<str> {
        &self.end.port
    }
}

impl Cut {
    /// Ready, with whose port it was, once the tunnel has to end.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<Arc<str>> {
        if self.0.cut.get() {
            return Poll::Ready(Arc::clone(&self.0.port));
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
