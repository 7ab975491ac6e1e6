//! An answer on its way to the client: its body, and the record that ends with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_rt::time::Sleep;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::unconstrained;

use super::record::{Outcome, Record};
use crate::leg::body::{Body, BodyError};
use crate::leg::h1::conn::Broken;

/// The body of an answer. However it ends, read to its end, broken off, or dropped half way, its record is written once.
pub struct Answer {
    content: Content,
    record: Option<Record>,
    deadline: Option<Instant>,
    /// Set only once there is something to wait for: most answers are all there when they begin.
    timer: Option<Pin<Box<Sleep>>>,
}

enum Content {
    Whole(Bytes),
    Stream(Body),
}

impl Answer {
    /// Made by the sidecar itself.
    pub fn whole(body: Bytes, record: Record) -> Self {
        let content = Content::Whole(body);
        let mut answer = Self { content, record: Some(record), deadline: None, timer: None };
        answer.end_if_ended();
        answer
    }

    /// From upstream. `deadline`: when the route's time is over.
    pub fn stream(body: Body, record: Record, deadline: Option<Instant>) -> Self {
        let content = Content::Stream(body);
        let mut answer = Self { content, record: Some(record), deadline, timer: None };
        answer.end_if_ended();
        answer
    }

    /// Ready when the route's time is over; the record has ended then. To be asked whenever nothing else goes on.
    pub fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(actix_rt::time::sleep_until(deadline.into())));
        // Also where the task has used up its turn: what never rests has a deadline too.
        ready!(Pin::new(&mut unconstrained(timer.as_mut())).poll(cx));
        self.deadline = None;
        self.end(Outcome::Broken("timeout"));
        Poll::Ready(())
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(record) = self.record.take() {
            record.end(outcome);
        }
    }

    fn end_if_ended(&mut self) {
        if self.is_end_stream() {
            self.end(Outcome::Complete);
        }
    }

    fn see_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(record) = &mut self.record {
            record.see_trailers(trailers);
        }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(body) => Pin::new(body).poll_frame(cx),
        };
        let Poll::Ready(frame) = polled else {
            return this.poll_deadline(cx).map(|()| Some(Err(BodyError::Timeout)));
        };
        match &frame {
            None => this.end(Outcome::Complete),
            Some(Err(error)) => {
                if let (BodyError::H1(Broken::Malformed(malformed)), Some(record)) = (error, &this.record) {
                    record.malformed_answer(*malformed);
                }
                let why = match (error, &this.record) {
                    (BodyError::Disguised { port }, Some(record)) => {
                        record.disguised(port);
                        "disguised"
                    }
                    _ => "upstream_reset",
                };
                this.end(Outcome::Broken(why));
            }
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    if let Some(record) = &mut this.record {
                        record.sent(data.len());
                    }
                    this.end_if_ended();
                } else if let Some(trailers) = frame.trailers_ref() {
                    this.see_trailers(trailers);
                    this.end(Outcome::Complete);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(body) => body.size_hint(),
        }
    }
}
