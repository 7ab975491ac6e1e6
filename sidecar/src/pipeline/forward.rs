//! Sends a request on, and waits for the head of its answer.
//!
//! Cancelled by: the client's going away (the future is dropped) and the route's timeouts. Dropping it resets the stream
//! or closes the connection, and gives back what the request holds.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body as _;

use super::answer::Answer;
use super::judge::Ended;
use super::record::{Held, Record};
use super::rejection::Rejection;
use super::upgrade::Tunnel;
use crate::leg::body::Body;
use crate::leg::h1::client::{H1Answer, ask_upgrade};
use crate::leg::h1::framing;
use crate::leg::h1::sink::H1Sink;
use crate::leg::h2_client::{H2Connection, LARGE_BYTES, Lane, poll_answer};
use crate::leg::interim::Interim;
use crate::leg::pump::{Pump, PumpError, Sink};
use crate::upstream::attempt::Whose;
use crate::upstream::share::Permit;

mod app;
mod peer;

pub use self::app::to_app;
pub use self::peer::{Reply, to_peer};

/// The head of a request as it goes on. Kept, since a re-dispatch sends it again.
pub struct Outgoing {
    pub method: Method,
    pub uri: Uri,
    pub fields: HeaderMap,
    pub tunnel: Option<Tunnel>,
}

impl Outgoing {
    /// What kind of connection it takes.
    fn lane(&self) -> Lane {
        let length = self.fields.get(CONTENT_LENGTH).map(framing::content_length);
        match length {
            _ if self.tunnel.is_some() => Lane::Long,
            Some(Ok(bytes)) if bytes >= LARGE_BYTES => Lane::Long,
            _ => Lane::Short,
        }
    }

    /// Over HTTP/2.
    fn head(&self) -> Request<()> {
        let mut head = Request::new(());
        *head.method_mut() = self.method.clone();
        *head.uri_mut() = self.uri.clone();
        match self.tunnel {
            None => {}
            Some(Tunnel::Upgrade(protocol)) => {
                *head.method_mut() = Method::CONNECT;
                head.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
            }
            Some(Tunnel::Connect) => {
                *head.uri_mut() = self.uri.authority().cloned().map(Uri::from).unwrap_or_default();
            }
        }
        *head.version_mut() = http::Version::HTTP_2;
        head.headers_mut().clone_from(&self.fields);
        head
    }
}

/// Of a request over HTTP/1.1, to whoever does not speak the mesh's wire.
pub(super) fn http1_head(
    method: Method,
    target: PathAndQuery,
    authority: &Authority,
    mut fields: HeaderMap,
    tunnel: Option<Tunnel>,
) -> Request<()> {
    let host = HeaderValue::from_maybe_shared(Bytes::from(authority.to_string()));
    fields.insert(HOST, host.expect("an authority is a legal field value"));
    join_cookies(&mut fields);
    let mut head = Request::new(());
    *head.method_mut() = method;
    *head.uri_mut() = Uri::from(target);
    *head.headers_mut() = fields;
    if let Some(Tunnel::Upgrade(protocol)) = tunnel {
        ask_upgrade(&mut head, protocol);
    }
    head
}

/// Over HTTP/2 each cookie may be a field of its own; over HTTP/1.1 there is one (RFC 9113, section 8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_maybe_shared(Bytes::from(cookies.join(&b"; "[..])));
    fields.insert(COOKIE, joined.expect("legal values, and what stands between them"));
}

/// And of one over HTTP/2.
pub(super) fn http2_uri(authority: Authority, target: PathAndQuery) -> Result<Uri, Rejection> {
    let uri = Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(target).build();
    uri.map_err(|_| Rejection::MalformedRequest { why: "its target is no URI" })
}

/// An answer's head and body, with what the request holds until its end.
pub struct Forwarded {
    pub(super) response: Response<Body>,
    pub(super) held: Held,
    /// When the route's patience ends.
    pub(super) deadline: Option<Instant>,
}

impl Forwarded {
    /// Hands the answer to the client; the record ends with it.
    pub fn deliver(self, mut record: Record) -> Response<Answer> {
        record.answered(&self.response, self.held);
        let deadline = self.deadline;
        self.response.map(|body| Answer::stream(body, record, deadline))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// It provably never ran: another endpoint may have it, whatever its method.
    NeverRan(Rejection),
    /// It may have run.
    Final(Rejection),
}

/// A request's body on its way, across attempts; `None`: there is none.
pub type RequestBody = Option<Pump<Body>>;

impl Failure {
    /// What it says about the endpoint.
    pub fn ended(&self) -> Ended {
        match self {
            Self::NeverRan(why) | Self::Final(why) => match why {
                Rejection::ConnectFailed { .. }
                | Rejection::PeerIdentity { .. }
                | Rejection::TlsFailed { .. } => Ended::ConnectFailed,
                Rejection::ConnectTimeout { .. } => Ended::ConnectTimedOut,
                Rejection::BackendTimeout { .. } => Ended::AttemptTimedOut,
                Rejection::RequestTimeout { .. } => Ended::RequestTimedOut,
                Rejection::UpstreamReset { .. } if matches!(self, Self::Final(_)) => Ended::Reset,
                Rejection::UpstreamReset { .. } => Ended::Declined,
                // Nothing that the endpoint has done.
                _ => Ended::ClientLeft,
            },
        }
    }
}

/// An answer whose request body may still be under way.
pub(super) type Answered = (Response<Body>, Underway);

pub(super) struct Underway {
    pub(super) held: Held,
    /// Where the rest of the request's body goes.
    rest: Option<Rest>,
}

enum Rest {
    H2(h2::SendStream<Bytes>),
    H1(H1Sink),
}

impl Underway {
    pub(super) fn of_h1(answer: H1Answer) -> Answered {
        let held = Held { reuse: Some(answer.reuse), ..Held::default() };
        (answer.response, Self { held, rest: Some(Rest::H1(answer.sink)) })
    }
}

/// There is no way back: what is left of the request's body goes on by itself.
pub(super) fn commit(body: &mut RequestBody, underway: &mut Underway) {
    let Some(rest) = underway.rest.take() else { return };
    if let Some(mut pump) = body.take_if(|pump| !pump.is_done()) {
        pump.commit();
        match rest {
            Rest::H2(stream) => actix_rt::spawn(send_rest(pump, stream)),
            Rest::H1(sink) => actix_rt::spawn(send_rest(pump, sink)),
        };
    }
}

async fn send_rest<S: Sink>(mut pump: Pump<Body>, mut sink: S) {
    if let Err(error) = poll_fn(|cx| pump.poll(&mut sink, cx)).await {
        tracing::trace!(error = crate::error_chain(&error), "the rest of a request's body was not sent");
    }
}

/// Connections that a request is tried on at one endpoint. 3: a server winds old connections down at any time, and one that does
/// so with each new one is not to be had.
const CONNECTIONS_TRIED: u32 = 3;

/// Over HTTP/2, on a connection that `connect` gives. One that its server winds down takes no more requests: another one has
/// this. `reset`: what a stream that broke means here.
pub(super) async fn over_h2(
    connect: impl AsyncFn() -> Result<H2Connection, Rejection>,
    outgoing: &Outgoing,
    body: &mut RequestBody,
    reset: Rejection,
    interim: &Interim,
) -> Result<Answered, Failure> {
    let upgrade = matches!(outgoing.tunnel, Some(Tunnel::Upgrade(_)));
    let mut tries = 0;
    loop {
        tries += 1;
        let connection = connect().await.map_err(Failure::NeverRan)?;
        if upgrade && !connection.takes_upgrades() {
            return Err(Failure::Final(Rejection::UpgradeRefused));
        }
        let mut sent = match connection.send(outgoing.head(), body.is_none()).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "a connection took no request");
                connection.retire();
                if tries == CONNECTIONS_TRIED {
                    return Err(Failure::NeverRan(reset));
                }
                continue;
            }
        };
        let answered = poll_fn(|cx| {
            // A tunnel's bytes wait for the answer.
            if let Some(pump) = body.as_mut().filter(|_| outgoing.tunnel.is_none())
                && let Poll::Ready(Err(error)) = pump.poll(&mut sent.body, cx)
            {
                match error {
                    // The client broke off, so nobody waits for an answer.
                    PumpError::Source(_) => return Poll::Ready(None),
                    // The answer, or its reset, tells why no more is taken.
                    PumpError::Sink(_) | PumpError::Reset(_) => {}
                }
            }
            poll_answer(&mut sent, interim, cx).map(Some)
        })
        .await;
        match answered {
            None => return Err(Failure::Final(Rejection::MalformedRequest { why: "its body broke off" })),
            Some(Err(error)) if is_above_goaway(&error) => {
                connection.retire();
                let is_last = tries == CONNECTIONS_TRIED || interim.is_hinted();
                if is_last || !body.as_ref().is_none_or(Pump::can_restart) {
                    return Err(Failure::NeverRan(reset));
                }
                body.iter_mut().for_each(Pump::restart);
            }
            Some(Err(error)) => return Err(judge(&error, reset)),
            Some(Ok(response)) => {
                let held = Held { slot: Some(sent.slot), ..Held::default() };
                return Ok((response.map(Body::from_h2), Underway { held, rest: Some(Rest::H2(sent.body)) }));
            }
        }
    }
}

/// A server that winds a connection down has not looked at streams above the last one of its GOAWAY. `h2` gives a remote GOAWAY
/// as the error of those streams alone; streams below it end with what ended the connection.
fn is_above_goaway(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote()
}

/// Whether a stream that failed provably never ran, since the peer refused it.
fn judge(error: &h2::Error, reset: Rejection) -> Failure {
    if error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
        return Failure::NeverRan(reset);
    }
    tracing::debug!(%error, "a stream to an upstream failed");
    Failure::Final(reset)
}

/// Ends `attempt` at the route's deadline.
async fn within<T>(
    attempt: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    deadline: Option<&Deadline>,
) -> Result<T, Failure> {
    match deadline {
        None => attempt.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.at.into(), attempt).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Final(deadline.rejection.clone())),
        },
    }
}

/// What is left of a permit when the answer has begun.
fn after_head(mut permit: Permit, answer: &Response<Body>) -> Permit {
    if !answer.body().is_end_stream() {
        permit.streams();
    }
    permit
}

/// When a route's patience ends, and what is said then.
#[derive(Debug, Clone)]
pub struct Deadline {
    pub at: Instant,
    pub whose: Whose,
    pub rejection: Rejection,
}

impl Deadline {
    /// That the caller has set, of a request that began at `started`.
    pub fn of_caller(at: Instant, started: Instant) -> Self {
        let limit = at.saturating_duration_since(started);
        Self { at, whose: Whose::Callers, rejection: Rejection::RequestTimeout { limit } }
    }
}
