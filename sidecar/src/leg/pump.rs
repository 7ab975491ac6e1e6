//! Moves a body into an HTTP/2 stream or an HTTP/1.1 connection, as fast as its receiver takes it and no faster.
//!
//! It holds at most one frame that has not been written. For a request, it also keeps what it has sent, up to a bound,
//! until the answer's head has come: then a request that provably never ran can go to another endpoint. All requests of the
//! sidecar share one bound for that ([`room`]).

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use smallvec::SmallVec;

use super::body::BodyError;

pub mod room;
mod turns;

use room::{NoRoom, Place, Room};
use turns::Turns;

/// How a pump ended early.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// Whom we read from broke off. The stream was reset.
    #[error("the body broke off")]
    Source(#[source] BodyError),
    /// Whom we write to went away or refused the rest.
    #[error("the peer took no more of the body")]
    Sink(#[source] BodyError),
    /// The peer reset the stream.
    #[error("the peer reset the stream with {0}")]
    Reset(h2::Reason),
}

/// What a body on its way waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Waits {
    /// That more of it comes.
    Source,
    /// That its receiver takes more, or is connected to; or its next turn.
    #[default]
    Sink,
    /// Nothing any more.
    Over,
}

/// What was sent already, kept for sending it once more.
#[derive(Default)]
pub struct Kept {
    frames: SmallVec<[Bytes; 2]>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// `None`: nothing is ever kept, so none is needed.
    place: Option<Place>,
}

impl Kept {
    /// Whether `data` is kept with what was before.
    fn take(&mut self, data: &Bytes, bytes_max: usize) -> Result<(), NotKept> {
        let fits = self.bytes + data.len() <= bytes_max;
        match &mut self.place {
            Some(place) if fits => place.grow(data.len()).map_err(|NoRoom| NotKept)?,
            Some(place) => {
                place.is_too_long();
                return Err(NotKept);
            }
            None if fits => {}
            None => return Err(NotKept),
        }
        self.bytes += data.len();
        self.frames.push(data.clone());
        Ok(())
    }
}

/// A body is too long, or bodies of others have taken the room.
struct NotKept;

/// What a pump reads from.
pub trait Source: http_body::Body<Data = Bytes, Error = BodyError> + Unpin {}
impl<T: http_body::Body<Data = Bytes, Error = BodyError> + Unpin> Source for T {}

/// What a pump writes to.
pub trait Sink {
    /// Ready once the receiver wants no more of it.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<PumpError>;
    /// Takes of `data` what there is room for. With `last`, it ends the content once it has taken all.
    fn poll_data(
        &mut self,
        data: &mut Bytes,
        last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>>;
    /// Ends the content.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), PumpError>;
    /// Writes what was taken.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>>;
    /// Says that the rest does not come.
    fn abort(&mut self);
}

impl Sink for SendStream<Bytes> {
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Poll<PumpError> {
        self.poll_reset(cx)
            .map(|reset| reset.map_or_else(|error| PumpError::Sink(BodyError::H2(error)), PumpError::Reset))
    }

    fn poll_data(
        &mut self,
        data: &mut Bytes,
        last: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        let broken = |error| PumpError::Sink(BodyError::H2(error));
        let mut part = Bytes::new();
        if !data.is_empty() {
            self.reserve_capacity(data.len());
            let mut room = self.capacity();
            while room == 0 {
                room = match ready!(self.poll_capacity(cx)) {
                    Some(room) => room.map_err(broken)?,
                    None => return Poll::Ready(Err(PumpError::Reset(h2::Reason::CANCEL))),
                };
            }
            part = data.split_to(room.min(data.len()));
        }
        Poll::Ready(self.send_data(part, last && data.is_empty()).map_err(broken))
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), PumpError> {
        let ended = match trailers {
            Some(trailers) => self.send_trailers(trailers),
            None => self.send_data(Bytes::new(), true),
        };
        ended.map_err(|error| PumpError::Sink(BodyError::H2(error)))
    }

    /// The connection's task does.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.send_reset(h2::Reason::CANCEL);
    }
}

/// A body on its way.
pub struct Pump<B> {
    body: B,
    unsent: Bytes,
    /// The frame in `unsent` is the last one.
    last: bool,
    kept: Option<Kept>,
    kept_bytes_max: usize,
    /// Next of `kept` to be sent again.
    again: usize,
    /// The sink was told of the end.
    ended: bool,
    done: bool,
    /// Told of what it waits for.
    watched: Option<Rc<Cell<Waits>>>,
    turns: Turns,
    pub bytes_sent: u64,
}

impl<B: Source> Pump<B> {
    /// For an answer: keeps nothing.
    pub fn new(body: B) -> Self {
        Self {
            body,
            unsent: Bytes::new(),
            last: false,
            kept: None,
            kept_bytes_max: 0,
            again: 0,
            ended: false,
            done: false,
            watched: None,
            turns: Turns::default(),
            bytes_sent: 0,
        }
    }

    /// What it waits for, for somebody who does not hold it.
    pub fn watch(&mut self) -> Rc<Cell<Waits>> {
        Rc::clone(self.watched.get_or_insert_default())
    }

    /// For a request that is sent once: it can begin again only while nothing of it was read.
    pub fn once(body: B) -> Self {
        Self { kept: Some(Kept::default()), ..Self::new(body) }
    }

    /// For a request: keeps up to `kept_bytes_max` bytes of what it sends, while `room` has room.
    pub fn keeping(body: B, kept_bytes_max: usize, room: &Arc<Room>) -> Self {
        let kept = Kept { place: Some(room.place()), ..Kept::default() };
        Self { kept: Some(kept), kept_bytes_max, ..Self::new(body) }
    }

    /// Whether all of the body can still be sent from its beginning.
    pub fn can_restart(&self) -> bool {
        self.kept.is_some()
    }

    /// Begins again with another stream. Call only where [`Pump::can_restart`].
    pub fn restart(&mut self) {
        debug_assert!(self.can_restart(), "what was sent is gone");
        self.again = 0;
        self.unsent = Bytes::new();
        self.last = false;
        self.ended = false;
        self.done = false;
        self.bytes_sent = 0;
        if let Some(watched) = &self.watched {
            watched.take();
        }
    }

    /// The answer has begun: there is no way back, so nothing needs to be kept.
    pub fn commit(&mut self) {
        if self.again >= self.kept.as_ref().map_or(0, |kept| kept.frames.len()) {
            self.kept = None;
        }
    }

    /// What is read from.
    pub fn body_mut(&mut self) -> &mut B {
        &mut self.body
    }

    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Sends on. Ready when the content has been ended and written, or cannot be.
    pub fn poll<S: Sink>(&mut self, sink: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let polled = self.poll_on(sink, cx);
        self.done = polled.is_ready();
        if let Some(watched) = &self.watched {
            // Between two turns more has come, as far as anybody knows.
            let sends = self.ended || self.last || !self.unsent.is_empty() || self.turns.is_between();
            watched.set(if self.done {
                Waits::Over
            } else if sends {
                Waits::Sink
            } else {
                Waits::Source
            });
        }
        polled
    }

    fn poll_on<S: Sink>(&mut self, sink: &mut S, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            if let Poll::Ready(refused) = sink.poll_refused(cx) {
                return Poll::Ready(Err(refused));
            }
            if self.ended {
                return sink.poll_flush(cx);
            }
            if !self.unsent.is_empty() || self.last {
                let before = self.unsent.len();
                let polled = sink.poll_data(&mut self.unsent, self.last, cx);
                let sent = before - self.unsent.len();
                self.bytes_sent += sent as u64;
                self.turns.sent(sent);
                ready!(polled)?;
                self.ended = self.last && self.unsent.is_empty();
                continue;
            }
            let next = match self.turns.poll(cx) {
                Poll::Ready(()) => self.poll_next(cx),
                Poll::Pending => Poll::Pending,
            };
            match next {
                Poll::Pending => {
                    if let Poll::Ready(Err(error)) = sink.poll_flush(cx) {
                        return Poll::Ready(Err(error));
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Next::Data(data, last)) => (self.unsent, self.last) = (data, last),
                Poll::Ready(Next::End(trailers)) => {
                    sink.end(trailers)?;
                    self.ended = true;
                }
                Poll::Ready(Next::Failed(error)) => {
                    sink.abort();
                    return Poll::Ready(Err(PumpError::Source(error)));
                }
            }
        }
    }

    /// The next frame: first what was kept, then the body's own.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if let Some(kept) = &mut self.kept {
            if let Some(data) = kept.frames.get(self.again) {
                self.again += 1;
                let last = kept.ended && kept.trailers.is_none() && self.again == kept.frames.len();
                return Poll::Ready(Next::Data(data.clone(), last));
            }
            if kept.ended {
                return Poll::Ready(Next::End(kept.trailers.clone()));
            }
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.keep_end(None);
                Poll::Ready(Next::End(None))
            }
            Some(Err(error)) => Poll::Ready(Next::Failed(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    self.keep(&data);
                    if last {
                        self.keep_end(None);
                    }
                    Poll::Ready(Next::Data(data, last))
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    self.keep_end(Some(&trailers));
                    Poll::Ready(Next::End(Some(trailers)))
                }
            },
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if data.is_empty() {
            return;
        }
        if let Some(kept) = &mut self.kept {
            match kept.take(data, self.kept_bytes_max) {
                Ok(()) => self.again = kept.frames.len(),
                Err(NotKept) => self.kept = None,
            }
        }
    }

    fn keep_end(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(kept) = &mut self.kept {
            kept.ended = true;
            kept.trailers = trailers.cloned();
        }
    }
}

enum Next {
    /// With whether it is the last one.
    Data(Bytes, bool),
    End(Option<HeaderMap>),
    Failed(BodyError),
}

#[cfg(test)]
mod tests;
