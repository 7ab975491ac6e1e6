//! HTTP/1.1 connections to the app, and the idle ones among them.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::body::Body;
use crate::mesh::CONNECT_MAX;

/// An idle connection is not used again after this time. 1.5 s: below the shortest keep-alive time in common use
/// (gunicorn's 2 s), so that the app does not close it under a request.
const IDLE_MAX: Duration = Duration::from_millis(1_500);
/// Idle connections kept for one app. 256: more would only save a connect on loopback.
const IDLE_CONNECTIONS_MAX: usize = 256;

struct Idle {
    send: SendRequest<Body>,
    since: Instant,
}

/// The shard's connections to one port of the app.
pub struct H1Pool {
    app: SocketAddr,
    /// The most recently used last.
    idle: RefCell<Vec<Idle>>,
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
    Broken(#[source] hyper::Error),
}

/// An answer's head, and what becomes of the connection when its body has ended.
pub struct H1Answer {
    pub response: Response<Incoming>,
    pub reuse: Reuse,
}

/// Returns a connection to its pool. Drop it before the body has ended, and the connection is closed instead: hyper
/// does so as the body is dropped.
pub struct Reuse {
    pool: Rc<H1Pool>,
    send: Option<SendRequest<Body>>,
}

impl Reuse {
    /// The body has been read to its end.
    pub fn done(mut self) {
        let Some(send) = self.send.take() else { return };
        if send.is_closed() {
            return;
        }
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { send, since: Instant::now() });
        }
    }
}

impl H1Pool {
    pub fn new(app: SocketAddr) -> Rc<Self> {
        Rc::new(Self { app, idle: RefCell::default() })
    }

    /// Sends a request and waits for the answer's head. A reused connection that turns out to be closed before anything
    /// of the request was written is replaced by a new one.
    pub async fn send(self: &Rc<Self>, mut request: Request<Body>) -> Result<H1Answer, H1Error> {
        while let Some(mut send) = self.take_idle() {
            // Ready at once, but where its last answer ended in this very round of the executor.
            if send.ready().await.is_err() {
                continue;
            }
            match send.try_send_request(request).await {
                Ok(response) => return Ok(self.answer(response, send)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(H1Error::Broken(error.into_error())),
                },
            }
        }
        let mut send = self.connect().await?;
        let response = send.send_request(request).await.map_err(H1Error::Broken)?;
        Ok(self.answer(response, send))
    }

    fn answer(self: &Rc<Self>, response: Response<Incoming>, send: SendRequest<Body>) -> H1Answer {
        H1Answer { response, reuse: Reuse { pool: Rc::clone(self), send: Some(send) } }
    }

    fn take_idle(&self) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(newest) = idle.pop() {
            if newest.since.elapsed() > IDLE_MAX {
                // All others are older.
                idle.clear();
                return None;
            }
            // hyper's task polls an idle connection, so an end of file that has come is known here.
            if !newest.send.is_closed() {
                return Some(newest.send);
            }
        }
        None
    }

    /// Closes connections that have been idle for too long. Called by the shard each second.
    pub fn sweep(&self) {
        self.idle.borrow_mut().retain(|idle| !idle.send.is_closed() && idle.since.elapsed() <= IDLE_MAX);
    }

    async fn connect(&self) -> Result<SendRequest<Body>, H1Error> {
        let app = self.app;
        let stream = actix_rt::time::timeout(CONNECT_MAX, TcpStream::connect(app))
            .await
            .map_err(|_| H1Error::ConnectTimeout { app })?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| H1Error::Connect { app, source })?;
        let (send, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(H1Error::Broken)?;
        actix_rt::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a connection to the app ended");
            }
        });
        Ok(send)
    }
}
