//! The body of an app's answer.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Response};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{Plan, Way};
use crate::pattern::Pattern;

/// Content, then trailers, or an end half way.
pub struct Reply {
    content: Content,
    sent: u64,
    broken_at: Option<u64>,
    flushed: bool,
    trailers: Option<HeaderMap>,
    total: Arc<AtomicU64>,
}

enum Content {
    Kept(Bytes),
    Pattern(Pattern),
    Echo(Incoming),
    /// The request's body, kept open and unread until the answer is gone.
    Unread {
        early: Bytes,
        _request: Incoming,
    },
}

impl Reply {
    pub fn whole(plan: &Plan, name: &str, kept: Bytes) -> Response<Self> {
        let content =
            plan.bytes.map_or_else(|| Content::Kept(kept), |length| Content::Pattern(Pattern::new(length)));
        Self::response(plan, name, content)
    }

    /// Adds what it sends to `total` too.
    pub fn counted(mut self, total: &Arc<AtomicU64>) -> Self {
        self.total = Arc::clone(total);
        self
    }

    /// To a `HEAD`: the length and no body, which hyper's HTTP/2 server would send.
    pub fn head(plan: &Plan, name: &str) -> Response<Self> {
        let mut response = Self::response(plan, name, Content::Kept(Bytes::new()));
        if let Some(length) = plan.bytes {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        response
    }

    /// Begins before the request's body is read.
    pub fn as_it_comes(plan: &Plan, name: &str, body: Incoming) -> Response<Self> {
        let content = match plan.way {
            Way::Echo => Content::Echo(body),
            Way::Answer | Way::Early | Way::Stall | Way::Hold | Way::Close => {
                Content::Unread { early: Bytes::from_static(b"early"), _request: body }
            }
        };
        Self::response(plan, name, content)
    }

    fn response(plan: &Plan, name: &str, content: Content) -> Response<Self> {
        let trailers = (!plan.trailers.is_empty()).then(|| header_map(&plan.trailers));
        let announced = plan.trailers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let mut response = Response::new(Self {
            content,
            sent: 0,
            broken_at: plan.broken_at,
            flushed: false,
            trailers,
            total: Arc::default(),
        });
        if plan.status != 0 {
            *response.status_mut() = plan.status.try_into().expect("the case asks for a legal status");
        }
        let headers = response.headers_mut();
        headers.extend(header_map(&plan.headers));
        headers.insert("x-app-name", HeaderValue::from_str(name).expect("names are ASCII"));
        if !announced.is_empty() {
            // Without it, HTTP/1.1 has no place for them.
            headers.insert("trailer", HeaderValue::from_str(&announced).expect("names are ASCII"));
        }
        response
    }
}

fn header_map(pairs: &[(String, String)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("the case asks for a legal name");
            (name, HeaderValue::from_str(value).expect("the case asks for a legal value"))
        })
        .collect()
}

impl Body for Reply {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.broken_at.is_some_and(|at| self.sent >= at) {
            // What was sent before is flushed while the body is pending; otherwise it would be lost with the error.
            if std::mem::replace(&mut self.flushed, true) {
                return Poll::Ready(Some(Err(std::io::Error::other("broken off, as asked for"))));
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let frame = match &mut self.content {
            Content::Kept(bytes) | Content::Unread { early: bytes, .. } => {
                let bytes = std::mem::take(bytes);
                (!bytes.is_empty()).then(|| Frame::data(bytes))
            }
            Content::Pattern(pattern) => {
                ready!(Pin::new(pattern).poll_frame(cx)).map(|frame| frame.expect("a pattern never fails"))
            }
            Content::Echo(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(frame) => Some(frame.map_err(std::io::Error::other)?),
                None => None,
            },
        };
        let frame = frame.or_else(|| self.trailers.take().map(Frame::trailers));
        if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
            let length = data.len() as u64;
            self.sent += length;
            self.total.fetch_add(length, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        let ended = match &self.content {
            Content::Kept(bytes) => bytes.is_empty(),
            Content::Pattern(pattern) => pattern.is_end_stream(),
            Content::Echo(body) => body.is_end_stream(),
            Content::Unread { .. } => false,
        };
        ended && self.trailers.is_none() && self.broken_at.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // A length and trailers exclude each other in HTTP/1.1.
        if self.trailers.is_some() {
            return SizeHint::default();
        }
        match &self.content {
            Content::Kept(bytes) | Content::Unread { early: bytes, .. } => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Content::Pattern(pattern) => pattern.size_hint(),
            Content::Echo(body) => body.size_hint(),
        }
    }
}
