//! An answer on its way to the client: its body, and the record that ends with it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use actix_rt::time::Sleep;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};

use super::record::{Outcome, Record};
use crate::leg::body::{Body, BodyError};
use crate::leg::h1::conn::Broken;

/// The body of an answer. However it ends, read to its end, broken off, or dropped half way, its record is written once.
pub struct Answer {
    content: Content,
    record: Option<Record>,
    deadline: Option<Pin<Box<Sleep>>>,
}

enum Content {
    Whole(Bytes),
    Stream(Body),
}

impl Answer {
    /// Made by the sidecar itself.
    pub fn whole(body: Bytes, record: Record) -> Self {
        let mut answer = Self { content: Content::Whole(body), record: Some(record), deadline: None };
        answer.end_if_ended();
        answer
    }

    /// From upstream. `deadline`: when the route's time is over.
    pub fn stream(body: Body, record: Record, deadline: Option<Instant>) -> Self {
        let mut answer = Self { content: Content::Stream(body), record: Some(record), deadline: None };
        answer.end_if_ended();
        if answer.record.is_some() {
            answer.deadline = deadline.map(|at| Box::pin(actix_rt::time::sleep_until(at.into())));
        }
        answer
    }

    /// Ready when the route's time is over; the record has ended then.
    pub fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = &mut self.deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
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
        if this.poll_deadline(cx).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let frame = match &mut this.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::Stream(body) => ready!(Pin::new(body).poll_frame(cx)),
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
