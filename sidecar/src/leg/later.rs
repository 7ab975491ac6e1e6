//! Content that is not there yet: of a tunnel that is asked for before anybody knows what goes through it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Frame;

use super::h1::conn::{Broken, Incoming};

/// Pending until it is given.
pub struct Later(Rc<Place>);

/// Gives it. Dropped without, the content breaks off.
pub struct Giver(Rc<Place>);

#[derive(Default)]
struct Place {
    content: RefCell<Content>,
    waker: Cell<Option<Waker>>,
}

#[derive(Default)]
enum Content {
    #[default]
    Awaited,
    Given(Incoming),
    Never,
}

pub fn later() -> (Later, Giver) {
    let place = Rc::<Place>::default();
    (Later(Rc::clone(&place)), Giver(place))
}

impl Giver {
    pub fn give(self, incoming: Incoming) {
        self.0.content.replace(Content::Given(incoming));
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        let mut content = self.0.content.borrow_mut();
        if matches!(*content, Content::Awaited) {
            *content = Content::Never;
        }
        drop(content);
        if let Some(waker) = self.0.waker.take() {
            waker.wake();
        }
    }
}

impl Later {
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &*self.0.content.borrow() {
            Content::Awaited => {
                self.0.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            Content::Given(incoming) => incoming.poll_frame(cx),
            Content::Never => Poll::Ready(Some(Err(Broken::Truncated))),
        }
    }

    pub fn is_ended(&self) -> bool {
        match &*self.0.content.borrow() {
            Content::Given(incoming) => incoming.is_ended(),
            Content::Awaited | Content::Never => false,
        }
    }
}
