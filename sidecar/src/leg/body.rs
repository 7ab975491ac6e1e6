//! A request's or an answer's body, whichever protocol it comes from, and the body of an answer on its way out.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use super::h1::conn::{Broken, Incoming};
use super::h1::head;
use crate::pipeline::headers;

/// What broke while a body was read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("HTTP/1.1 content")]
    H1(#[source] Broken),
    #[error("HTTP/2 stream")]
    H2(#[source] h2::Error),
    /// A timeout of the route passed while the answer was under way.
    #[error("the route's timeout passed")]
    Timeout,
}

/// A body that streams from a peer, with backpressure: HTTP/2's window is given back as frames are taken.
pub struct Body {
    source: Source,
    /// Counts what is read, for a request that comes in.
    meter: Option<Rc<Cell<u64>>>,
}

enum Source {
    Empty,
    H1(Incoming),
    H2(RecvStream),
}

impl Body {
    pub fn empty() -> Self {
        Self { source: Source::Empty, meter: None }
    }

    /// The body of a head whose stream may already have ended.
    pub fn from_h2(stream: RecvStream) -> Self {
        let source = if stream.is_end_stream() { Source::Empty } else { Source::H2(stream) };
        Self { source, meter: None }
    }

    /// The content of an HTTP/1.1 message; `None`: it has none.
    pub fn from_h1(incoming: Option<Incoming>) -> Self {
        Self { source: incoming.map_or(Source::Empty, Source::H1), meter: None }
    }

    /// Counts the bytes that are read of it from now on; `None`: there are none to come.
    pub fn meter(&mut self) -> Option<Rc<Cell<u64>>> {
        if matches!(self.source, Source::Empty) {
            return None;
        }
        Some(Rc::clone(self.meter.get_or_insert_default()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::H1(incoming) => ready!(incoming.poll_frame(cx)).map(|frame| frame.map_err(BodyError::H1)),
            Source::H2(stream) => ready!(poll_h2_frame(stream, cx)),
        };
        if let (Some(meter), Some(Ok(frame))) = (&this.meter, &frame)
            && let Some(data) = frame.data_ref()
        {
            meter.set(meter.get() + data.len() as u64);
        }
        // Nothing of the mesh's own is ever said in trailers, whoever sends them.
        Poll::Ready(frame.map(|frame| frame.map(without_reserved)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::H1(incoming) => incoming.is_ended(),
            Source::H2(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::H1(incoming) => incoming.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::H2(_) => SizeHint::default(),
        }
    }
}

fn without_reserved(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::strip_reserved(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(data) => data,
    }
}

fn poll_h2_frame(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    match stream.poll_data(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Some(Ok(data))) => {
            // Taking a frame is what makes room: whoever polls has written the one before.
            match stream.flow_control().release_capacity(data.len()) {
                Ok(()) => Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(error) => Poll::Ready(Some(Err(BodyError::H2(error)))),
            }
        }
        Poll::Ready(Some(Err(error))) => match error.reason() {
            // A whole answer before the request's end: the rest of the request is not wanted.
            Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL)
                if error.is_remote() && stream.is_end_stream() =>
            {
                Poll::Ready(None)
            }
            _ => Poll::Ready(Some(Err(BodyError::H2(error)))),
        },
        Poll::Ready(None) => match stream.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(trailers))) if trailers.keys().any(head::frames_or_routes) => {
                Poll::Ready(Some(Err(BodyError::H2(h2::Reason::PROTOCOL_ERROR.into()))))
            }
            Poll::Ready(Ok(Some(trailers))) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Poll::Ready(Ok(None)) => Poll::Ready(None),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(BodyError::H2(error)))),
        },
    }
}
