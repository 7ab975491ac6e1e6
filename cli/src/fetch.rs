//! One HTTP request with a bound on everything: time, and the size of the answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Idle connections to one host. 64: the demo's load at its default rate needs a handful.
const IDLE_MAX: usize = 64;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("connecting")]
    Connect(#[source] hyper_util::client::legacy::Error),
    #[error("waiting for the answer")]
    Answer(#[source] hyper_util::client::legacy::Error),
    /// It broke off, or was longer than the limit.
    #[error("reading the answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} s", time_max.as_secs_f64())]
    TooSlow { time_max: Duration },
}

/// What an answer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From the first packet to the last byte of the answer.
    pub time_max: Duration,
    pub body_bytes_max: usize,
}

/// Keeps connections for the next request.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client<HttpConnector, Full<Bytes>>,
    bounds: Bounds,
}

impl Fetcher {
    pub fn new(bounds: Bounds) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(IDLE_MAX).build_http();
        Self { client, bounds }
    }

    /// May be cancelled: the connection closes with it.
    pub async fn fetch(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, FetchError> {
        let Bounds { time_max, body_bytes_max } = self.bounds;
        let answered = async {
            let answer = self.client.request(request).await.map_err(|error| {
                if error.is_connect() { FetchError::Connect(error) } else { FetchError::Answer(error) }
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, body_bytes_max).collect().await.map_err(FetchError::Body)?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(time_max, answered).await.unwrap_or(Err(FetchError::TooSlow { time_max }))
    }
}

/// A line of an answer that goes on may be so long, in bytes. 1 MiB: an upstream of 2,000 endpoints.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Why an answer that goes on ended.
#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    #[error("{given} is no URL")]
    Url { given: String, source: http::Error },
    #[error("asking")]
    Ask(#[source] hyper_util::client::legacy::Error),
    #[error("it answered {0}")]
    Status(http::StatusCode),
    #[error("it broke off")]
    Broken(#[source] hyper::Error),
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    #[error("writing a line")]
    Write(#[source] std::io::Error),
}

/// Reads an answer that goes on, line by line, until it ends. Empty lines, which only show that it goes on, are left out.
pub async fn lines(uri: &str, mut write: impl FnMut(&str) -> std::io::Result<()>) -> Result<(), LinesError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let asked = Request::get(uri).body(Full::default());
    let asked = asked.map_err(|source| LinesError::Url { given: uri.to_owned(), source })?;
    let answer = client.request(asked).await.map_err(LinesError::Ask)?;
    if !answer.status().is_success() {
        return Err(LinesError::Status(answer.status()));
    }
    let (mut body, mut read) = (answer.into_body(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.map_err(LinesError::Broken)?.data_ref() {
            read.extend_from_slice(data);
        }
        while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            let line = read.split_to(end + 1);
            let line = String::from_utf8_lossy(&line[..end]);
            if !line.is_empty() {
                write(&line).map_err(LinesError::Write)?;
            }
        }
        if read.len() > LINE_BYTES_MAX {
            return Err(LinesError::TooLong);
        }
    }
    Ok(())
}

/// The chain of causes in one line, for where no error type is asked for.
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words.push_str(": ");
        words.push_str(&cause.to_string());
        source = cause.source();
    }
    words
}
