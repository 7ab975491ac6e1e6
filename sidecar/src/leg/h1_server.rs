//! One HTTP/1.1 connection as a server, from an app or from outside, by hyper.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use http::{Request, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::body::Body;
use crate::pipeline::answer::Answer;

/// A request's head must come within this time. 10 s: a slow link sends 16 KiB in less.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Largest head, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most header fields.
const HEADERS_MAX: usize = 128;

/// Serves a connection to its end; at `finish`, after the request that is under way.
pub async fn serve<T, H, F>(io: T, mut finish: watch::Receiver<bool>, serve: H) -> Result<(), hyper::Error>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Fn(Request<Body>) -> F,
    F: Future<Output = Response<Answer>> + 'static,
{
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let answered = serve(request.map(Body::from_h1));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        _ = finish.wait_for(|finish| *finish) => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
