//! A request's or an answer's body, whichever protocol it comes from, and the body of an answer on its way out.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

use super::detect::watch::{self, Cut, Passing, Watch};
use super::h1::conn::{Broken, Incoming};
use super::h1::head;
use super::later::Later;
use crate::pipeline::headers;

/// What broke while a body was read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("HTTP/1.1 content")]
    H1(#[source] Broken),
    #[error("HTTP/2 stream")]
    H2(#[source] h2::Error),
    /// What a tunnel to a port without `appProtocol` carries is HTTP, which comes as requests.
    #[error("the tunnel to {port} carries HTTP")]
    Disguised { port: Arc<str> },
    /// A timeout of the route passed while the answer was under way.
    #[error("the route's timeout passed")]
    Timeout,
}

/// A body that streams from a peer, with backpressure: HTTP/2's window is given back as frames are taken.
pub struct Body {
    source: Source,
    /// Counts what is read, for a request that comes in.
    meter: Option<Rc<Meter>>,
    /// Boxed: few are looked at, and a body is moved often.
    watched: Option<Box<Watched>>,
}

/// Counts a body's bytes.
#[derive(Default)]
pub struct Meter {
    bytes: Cell<u64>,
    at_first: Cell<Option<Box<dyn FnOnce()>>>,
}

impl Meter {
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Runs `then` as soon as there is a byte, in either direction.
    pub fn at_first(&self, then: Box<dyn FnOnce()>) {
        self.at_first.set(Some(then));
    }

    /// There is one.
    pub fn begin(&self) {
        if let Some(then) = self.at_first.take() {
            then();
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
        if bytes > 0 {
            self.begin();
        }
    }
}

/// The directions of a tunnel in which nobody may carry HTTP.
enum Watched {
    ToApp(Watch),
    FromApp(Cut),
}

enum Source {
    Empty,
    Later(Later),
    H1(Incoming),
    H2(RecvStream),
}

impl Body {
    pub fn empty() -> Self {
        Self::of(Source::Empty)
    }

    /// The body of a head whose stream may already have ended.
    pub fn from_h2(stream: RecvStream) -> Self {
        Self::of(if stream.is_end_stream() { Source::Empty } else { Source::H2(stream) })
    }

    /// The content of an HTTP/1.1 message; `None`: it has none.
    pub fn from_h1(incoming: Option<Incoming>) -> Self {
        Self::of(incoming.map_or(Source::Empty, Source::H1))
    }

    /// Content that is given later.
    pub fn from_later(later: Later) -> Self {
        Self::of(Source::Later(later))
    }

    fn of(source: Source) -> Self {
        Self { source, meter: None, watched: None }
    }

    /// Ends both directions of a tunnel to `port` once this one turns out to carry HTTP.
    pub fn watch(&mut self, port: &Arc<str>, from_app: &mut Self) {
        let (to_app, cut) = watch::watch(port);
        self.watched = Some(Box::new(Watched::ToApp(to_app)));
        from_app.watched = Some(Box::new(Watched::FromApp(cut)));
    }

    /// Counts the bytes that are read of it from now on; `None`: there are none to come.
    pub fn meter(&mut self) -> Option<Rc<Meter>> {
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
        if let Some(watched) = &this.watched
            && let Watched::FromApp(cut) = &**watched
            && let Poll::Ready(port) = cut.poll(cx)
        {
            return Poll::Ready(Some(Err(BodyError::Disguised { port })));
        }
        let frame = match &mut this.source {
            Source::Empty => return Poll::Ready(None),
            Source::Later(later) => ready!(later.poll_frame(cx)).map(|frame| frame.map_err(BodyError::H1)),
            Source::H1(incoming) => ready!(incoming.poll_frame(cx)).map(|frame| frame.map_err(BodyError::H1)),
            Source::H2(stream) => ready!(poll_h2_frame(stream, cx)),
        };
        if let (Some(meter), Some(Ok(frame))) = (&this.meter, &frame)
            && let Some(data) = frame.data_ref()
        {
            meter.add(data.len());
        }
        if let (Some(watched), Some(Ok(frame))) = (&mut this.watched, &frame)
            && let Watched::ToApp(watch) = &mut **watched
            && let Some(data) = frame.data_ref()
        {
            match watch.see(data) {
                Passing::Watched => {}
                Passing::Free => this.watched = None,
                Passing::Refused => {
                    let port = Arc::clone(watch.port());
                    return Poll::Ready(Some(Err(BodyError::Disguised { port })));
                }
            }
        }
        // Nothing of the mesh's own is ever said in trailers, whoever sends them.
        Poll::Ready(frame.map(|frame| frame.map(without_reserved)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Later(later) => later.is_ended(),
            Source::H1(incoming) => incoming.is_ended(),
            Source::H2(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::H1(incoming) => incoming.left().map_or_else(SizeHint::default, SizeHint::with_exact),
            Source::Later(_) | Source::H2(_) => SizeHint::default(),
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
