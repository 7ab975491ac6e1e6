//! HTTP/1.1 connections to the app, and the idle ones among them.
//!
//! No task: whoever sends a request writes it and reads the answer. An idle connection lies in the pool; whether the app
//! has closed it meanwhile is looked at before it is used again.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::conn::{Broken, Conn, Tunnel};
use super::encode::{self, Encoding};
use super::framing::Framing;
use super::head;
use super::malformed::Malformed;
use super::scan::{Limits, Scanner};
use super::sink::H1Sink;
use crate::leg::body::Body;
use crate::leg::interim::{INTERIM_MAX, Interim};
use crate::leg::pump::{Pump, PumpError};
use crate::leg::socket;
use crate::leg::wire::Wire;
use crate::mesh::CONNECT_MAX;

/// An idle connection is not used again after this time. 1.5 s: below the shortest keep-alive time in common use
/// (gunicorn's 2 s), so that the app does not close it under a request.
const IDLE_MAX: Duration = Duration::from_millis(1_500);
/// However soon one was closed: a worker that was replaced closes all of its own at once. 50 ms: nobody closes as soon on purpose.
const IDLE_LEAST: Duration = Duration::from_millis(50);
/// A connection that the app closed while it was idle halves that time; it doubles again after as long without one.
const RELEARN: Duration = Duration::from_mins(1);
/// Idle connections kept for one app. 256: more would only save a connect on loopback.
const IDLE_CONNECTIONS_MAX: usize = 256;

struct Idle {
    conn: Rc<Conn>,
    since: Instant,
}

/// The shard's connections to one port of the app.
pub struct H1Pool {
    app: SocketAddr,
    limits: Limits,
    /// The most recently used last.
    idle: RefCell<Vec<Idle>>,
    /// How long a connection may be idle: [`IDLE_MAX`], or less where the app closes them sooner.
    idle_max: Cell<Duration>,
    learnt_at: Cell<Instant>,
}

/// Why the app gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum H1Error {
    /// Nothing reached the app.
    #[error("connecting to the app at {app}")]
    Connect { app: SocketAddr, source: std::io::Error },
    #[error("the app at {app} took no connection for {CONNECT_MAX:?}")]
    ConnectTimeout { app: SocketAddr },
    /// The app may have seen it.
    #[error("the app's connection broke off")]
    Broken(#[source] Broken),
    #[error("the app's answer is malformed")]
    Malformed(#[source] Malformed),
    /// The client broke off, so nobody waits for an answer.
    #[error("the request's content broke off")]
    Source,
}

/// An answer's head, and what becomes of the connection when its content has ended.
pub struct H1Answer {
    pub response: Response<Body>,
    /// Where the rest of the request's content goes.
    pub sink: H1Sink,
    pub reuse: Reuse,
}

/// Returns a connection to its pool. Dropped before the content has ended, it closes the connection.
pub struct Reuse {
    pool: Rc<H1Pool>,
    conn: Rc<Conn>,
    keep_alive: bool,
}

impl Reuse {
    /// The answer has been read to its end.
    pub fn done(self) {
        let Self { pool, conn, keep_alive } = self;
        // Bytes that nobody asked for would be taken for the next answer.
        if !keep_alive || !conn.is_read() || !conn.is_written() || conn.has_unread() {
            return;
        }
        let mut idle = pool.idle.borrow_mut();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { conn, since: Instant::now() });
        }
    }
}

impl H1Pool {
    pub fn new(app: SocketAddr, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            app,
            limits,
            idle: RefCell::default(),
            idle_max: Cell::new(IDLE_MAX),
            learnt_at: Cell::new(Instant::now()),
        })
    }

    /// Sends a request and waits for the answer's head. Where a connection that was idle turns out to be closed, a request
    /// that may be repeated goes out again on a new one.
    pub async fn send(
        self: &Rc<Self>,
        head: &Request<()>,
        body: &mut Option<Pump<Body>>,
        interim: &Interim,
    ) -> Result<H1Answer, H1Error> {
        if let Some((conn, age)) = self.take_idle() {
            match self.exchange(conn, head, body, interim).await {
                Err(Unanswered::Closed(_)) if may_repeat(head.method(), body.as_ref()) => {
                    self.learn(age);
                    if let Some(pump) = body {
                        pump.restart();
                    }
                }
                Err(Unanswered::Closed(error)) => return Err(H1Error::Broken(error)),
                Err(Unanswered::Failed(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        // Boxed: rare, and large.
        let conn = Box::pin(self.connect()).await?;
        self.exchange(conn, head, body, interim).await.map_err(|error| match error {
            Unanswered::Closed(error) => H1Error::Broken(error),
            Unanswered::Failed(error) => error,
        })
    }

    /// A connection of its own for bytes that nobody looks at.
    pub async fn open(self: &Rc<Self>) -> Result<H1Answer, H1Error> {
        let conn = self.connect().await?;
        let content = conn.begin(Framing::Tunnel);
        conn.decide(Tunnel::Open);
        Ok(H1Answer {
            response: Response::new(Body::from_h1(content)),
            sink: H1Sink::new(&conn, Encoding::Raw),
            reuse: Reuse { pool: Rc::clone(self), conn, keep_alive: false },
        })
    }

    async fn exchange(
        self: &Rc<Self>,
        conn: Rc<Conn>,
        head: &Request<()>,
        body: &mut Option<Pump<Body>>,
        interim: &Interim,
    ) -> Result<H1Answer, Unanswered> {
        let upgrade = head.extensions().get::<h2::ext::Protocol>().is_some();
        let encoding =
            if upgrade { Encoding::None } else { encode::of_request(head.headers(), body.is_some()) };
        encode::request(&mut conn.output.borrow_mut(), head, encoding);
        conn.begin_writing(encoding != Encoding::None);
        let mut sink = H1Sink::new(&conn, encoding);
        // A tunnel's bytes wait for the answer.
        let mut body = body.as_mut().filter(|_| !upgrade);
        let mut scanner = Scanner::of_answer();
        let mut interims = 0;
        let mut answered = false;
        let got = poll_fn(|cx| {
            match poll_request(&conn, &mut body, &mut sink, cx) {
                Poll::Ready(Err(PumpError::Source(_))) => {
                    return Poll::Ready(Err(Unanswered::Failed(H1Error::Source)));
                }
                // The answer, or its absence, tells why no more is taken.
                Poll::Ready(Err(PumpError::Sink(_) | PumpError::Reset(_)) | Ok(())) | Poll::Pending => {}
            }
            loop {
                let head_bytes = match std::task::ready!(conn.poll_head(&mut scanner, cx)) {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => return Poll::Ready(Err(closed(answered, Broken::Truncated))),
                    Err(Broken::Malformed(malformed)) => return Poll::Ready(Err(malformed.into())),
                    Err(error) => return Poll::Ready(Err(closed(answered || conn.has_unread(), error))),
                };
                answered = true;
                let (response, shape) = head::answer(&head_bytes, head.method(), &conn.limits)?;
                let status = response.status();
                if !status.is_informational() || (status == StatusCode::SWITCHING_PROTOCOLS && upgrade) {
                    return Poll::Ready(Ok((response, shape)));
                }
                interims += 1;
                if status == StatusCode::SWITCHING_PROTOCOLS || interims > INTERIM_MAX {
                    return Poll::Ready(Err(Malformed::Interim.into()));
                }
                scanner = Scanner::of_answer();
                interim.send(response);
            }
        })
        .await;
        let (response, shape) = got?;
        let content = conn.begin(shape.framing);
        if shape.framing == Framing::Tunnel {
            conn.decide(Tunnel::Open);
            sink = H1Sink::new(&conn, Encoding::Raw);
        }
        Ok(H1Answer {
            response: response.map(|()| Body::from_h1(content)),
            sink,
            reuse: Reuse { pool: Rc::clone(self), conn, keep_alive: shape.keep_alive },
        })
    }

    /// The idle connection that was used last, if the app has left it open.
    fn take_idle(&self) -> Option<(Rc<Conn>, Duration)> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop() {
            let age = newest.since.elapsed();
            if age > self.idle_max.get() {
                // All others are older.
                idle.clear();
                return None;
            }
            // Bytes that came meanwhile would be taken for the next answer.
            if newest.conn.poll_discard(&mut Context::from_waker(Waker::noop())).is_pending() {
                return Some((newest.conn, age));
            }
            self.learn(age);
        }
        None
    }

    /// The app has closed a connection that was idle for `age`.
    fn learn(&self, age: Duration) {
        self.idle_max.set((self.idle_max.get().min(age) / 2).max(IDLE_LEAST));
        self.learnt_at.set(Instant::now());
    }

    /// Closes connections that have been idle for too long, or that the app has closed. Called by the shard each second.
    pub fn sweep(&self) {
        if self.idle_max.get() < IDLE_MAX && self.learnt_at.get().elapsed() > RELEARN {
            let longer = self.idle_max.get() * 2;
            self.idle_max.set(longer.min(IDLE_MAX));
            self.learnt_at.set(Instant::now());
        }
        let idle_max = self.idle_max.get();
        self.idle.borrow_mut().retain(|idle| {
            idle.since.elapsed() <= idle_max
                && idle.conn.poll_discard(&mut Context::from_waker(Waker::noop())).is_pending()
        });
    }

    async fn connect(&self) -> Result<Rc<Conn>, H1Error> {
        let app = self.app;
        let stream = actix_rt::time::timeout(CONNECT_MAX, TcpStream::connect(app))
            .await
            .map_err(|_| H1Error::ConnectTimeout { app })?
            .and_then(|stream| socket::tune(&stream).map(|()| stream))
            .map_err(|source| H1Error::Connect { app, source })?;
        Ok(Conn::new(Wire::from(stream), self.limits))
    }
}

/// Why there is no answer on this connection.
enum Unanswered {
    /// It was closed before a byte of the answer.
    Closed(Broken),
    Failed(H1Error),
}

impl From<Malformed> for Unanswered {
    fn from(malformed: Malformed) -> Self {
        Self::Failed(H1Error::Malformed(malformed))
    }
}

fn closed(answered: bool, error: Broken) -> Unanswered {
    if answered { Unanswered::Failed(H1Error::Broken(error)) } else { Unanswered::Closed(error) }
}

/// RFC 9110, section 9.2.2: an idempotent request may be sent again where the connection was closed under it.
fn may_repeat(method: &Method, body: Option<&Pump<Body>>) -> bool {
    method.is_idempotent() && body.is_none_or(Pump::can_restart)
}

fn poll_request(
    conn: &Conn,
    body: &mut Option<&mut Pump<Body>>,
    sink: &mut H1Sink,
    cx: &mut Context<'_>,
) -> Poll<Result<(), PumpError>> {
    match body {
        Some(pump) => pump.poll(sink, cx),
        None if conn.unwritten() > 0 => {
            // An error shows again as the answer is read.
            conn.poll_flush(cx).map(|_| Ok(()))
        }
        None => Poll::Ready(Ok(())),
    }
}

/// Makes of a head the wish to go over to `protocol`.
pub fn ask_upgrade(head: &mut Request<()>, protocol: &'static str) {
    head.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    head.extensions_mut().insert(h2::ext::Protocol::from_static(protocol));
}
