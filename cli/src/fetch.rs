//! One HTTP request with a bound on everything: time, and the size of the answer.

use std::time::Duration;

use bytes::Bytes;
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
