//! Moves a body into an HTTP/2 stream, as fast as the peer's window allows and no faster.
//!
//! It holds at most one frame that has not been written. For a request, it also keeps what it has sent, up to a bound,
//! until the answer's head has come: then a request that provably never ran can go to another endpoint.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use smallvec::SmallVec;

use super::body::BodyError;

/// How a pump ended early.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// Whom we read from broke off. The stream was reset.
    #[error("the body broke off")]
    Source(#[source] BodyError),
    /// Whom we write to went away or refused the rest.
    #[error("the peer took no more of the body")]
    Sink(#[source] h2::Error),
    /// The peer reset the stream.
    #[error("the peer reset the stream with {0}")]
    Reset(h2::Reason),
}

/// What was sent already, kept for sending it once more.
#[derive(Default)]
pub struct Kept {
    frames: SmallVec<[Bytes; 2]>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// What a pump reads from.
pub trait Source: http_body::Body<Data = Bytes, Error = BodyError> + Unpin {}
impl<T: http_body::Body<Data = Bytes, Error = BodyError> + Unpin> Source for T {}

/// A body on its way into a stream.
pub struct Pump<B> {
    body: B,
    unsent: Bytes,
    /// The frame in `unsent` is the last one.
    last: bool,
    kept: Option<Kept>,
    kept_bytes_max: usize,
    /// Next of `kept` to be sent again.
    again: usize,
    done: bool,
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
            done: false,
            bytes_sent: 0,
        }
    }

    /// For a request: keeps up to `kept_bytes_max` bytes of what it sends.
    pub fn keeping(body: B, kept_bytes_max: usize) -> Self {
        Self { kept: Some(Kept::default()), kept_bytes_max, ..Self::new(body) }
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
        self.done = false;
        self.bytes_sent = 0;
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

    /// Sends on. Ready when the stream has been ended, or cannot be.
    pub fn poll(
        &mut self,
        stream: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                self.done = true;
                return Poll::Ready(Err(reset.map_or_else(PumpError::Sink, PumpError::Reset)));
            }
            if !self.unsent.is_empty() {
                ready!(self.poll_send(stream, cx))?;
                continue;
            }
            match ready!(self.poll_next(cx)) {
                Next::Data(data, last) => {
                    if data.is_empty() && !last {
                        continue;
                    }
                    (self.unsent, self.last) = (data, last);
                    if self.unsent.is_empty() {
                        return Poll::Ready(self.end(stream));
                    }
                }
                Next::Trailers(trailers) => {
                    self.done = true;
                    return Poll::Ready(stream.send_trailers(trailers).map_err(PumpError::Sink));
                }
                Next::End => return Poll::Ready(self.end(stream)),
                Next::Failed(error) => {
                    self.done = true;
                    stream.send_reset(h2::Reason::CANCEL);
                    return Poll::Ready(Err(PumpError::Source(error)));
                }
            }
        }
    }

    fn end(&mut self, stream: &mut SendStream<Bytes>) -> Result<(), PumpError> {
        self.done = true;
        stream.send_data(Bytes::new(), true).map_err(PumpError::Sink)
    }

    /// Writes as much of `unsent` as the window takes.
    fn poll_send(
        &mut self,
        stream: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        stream.reserve_capacity(self.unsent.len());
        let mut room = stream.capacity();
        while room == 0 {
            room = match ready!(stream.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(error)) => return Poll::Ready(Err(self.broken(error))),
                None => {
                    self.done = true;
                    return Poll::Ready(Err(PumpError::Reset(h2::Reason::CANCEL)));
                }
            };
        }
        let part = self.unsent.split_to(room.min(self.unsent.len()));
        let end = self.last && self.unsent.is_empty();
        self.bytes_sent += part.len() as u64;
        if let Err(error) = stream.send_data(part, end) {
            return Poll::Ready(Err(self.broken(error)));
        }
        self.done = end;
        Poll::Ready(Ok(()))
    }

    fn broken(&mut self, error: h2::Error) -> PumpError {
        self.done = true;
        PumpError::Sink(error)
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
                return Poll::Ready(kept.trailers.clone().map_or(Next::End, Next::Trailers));
            }
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => {
                self.keep_end(None);
                Poll::Ready(Next::End)
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
                    Poll::Ready(Next::Trailers(trailers))
                }
            },
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if let Some(kept) = &mut self.kept {
            if kept.bytes + data.len() > self.kept_bytes_max {
                self.kept = None;
            } else if !data.is_empty() {
                kept.bytes += data.len();
                kept.frames.push(data.clone());
                self.again = kept.frames.len();
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
    Data(Bytes, bool),
    Trailers(HeaderMap),
    End,
    Failed(BodyError),
}

#[cfg(test)]
mod tests;
