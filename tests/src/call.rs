//! Requests of an app, or of somebody outside: one connection each, unless a [`Connection`] is kept.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::app::Speaks;
use crate::pattern::Reader;

mod raw;
mod refusal;

pub use raw::raw;
pub use refusal::Refusal;

/// A body up to this length is kept as it was: the largest is a snapshot of some MiB.
const KEPT_BYTES_MAX: usize = 16 << 20;

pub type CallBody = BoxBody<Bytes, Infallible>;

/// Why there was no whole answer.
#[derive(Debug)]
pub enum CallError {
    Connect(std::io::Error),
    /// No head of an answer.
    Head(hyper::Error),
    /// It broke off after so many bytes.
    Broken {
        length: u64,
        error: hyper::Error,
    },
}

/// A request that is being put together.
#[derive(Debug)]
pub struct Call {
    method: Method,
    path: String,
    host: String,
    headers: HeaderMap,
    body: CallBody,
    speaks: Speaks,
    protocol: Option<hyper::ext::Protocol>,
}

impl Call {
    /// `host` as the app would write it: `orders.shop:8080`.
    pub fn new(method: Method, host: &str, path: &str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            host: host.to_owned(),
            headers: HeaderMap::new(),
            body: Empty::new().boxed(),
            speaks: Speaks::Http1,
            protocol: None,
        }
    }

    pub fn get(host: &str, path: &str) -> Self {
        Self::new(Method::GET, host, path)
    }

    pub fn post(host: &str, path: &str, body: impl Into<Bytes>) -> Self {
        Self::new(Method::POST, host, path).body(Full::new(body.into()))
    }

    /// Over HTTP/2 with prior knowledge, not HTTP/1.1.
    #[must_use]
    pub fn http2(self) -> Self {
        self.speaks(Speaks::Http2)
    }

    #[must_use]
    pub fn speaks(mut self, speaks: Speaks) -> Self {
        self.speaks = speaks;
        self
    }

    #[must_use]
    pub fn body(
        mut self,
        body: impl hyper::body::Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    ) -> Self {
        self.body = body.boxed();
        self
    }

    /// Added to those of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("the case asks for a legal name");
        self.headers.append(name, HeaderValue::from_str(value).expect("the case asks for a legal value"));
        self
    }

    /// Asks to go over to `protocol`, over HTTP/2 (RFC 8441).
    #[must_use]
    pub fn extended_connect(mut self, protocol: &'static str) -> Self {
        self.method = Method::CONNECT;
        self.protocol = Some(hyper::ext::Protocol::from_static(protocol));
        self.http2()
    }

    /// What the app shall do: see [`crate::app::Plan`].
    #[must_use]
    pub fn plan(self, plan: &str) -> Self {
        self.header(crate::app::PLAN, plan)
    }

    /// To `address`, over a connection of its own; the whole answer.
    pub async fn send(self, address: SocketAddr) -> Result<Answer, CallError> {
        let mut connection = Connection::open(address, self.speaks).await?;
        connection.send(self).await
    }

    fn request(self, version: Version) -> Request<CallBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        if let Some(protocol) = self.protocol {
            request.extensions_mut().insert(protocol);
        }
        let uri =
            if version == Version::HTTP_2 { format!("http://{}{}", self.host, self.path) } else { self.path };
        *request.uri_mut() = uri.parse().expect("the case asks for a legal URI");
        *request.version_mut() = version;
        if version != Version::HTTP_2 {
            let host = HeaderValue::from_str(&self.host).expect("the case asks for a legal host");
            request.headers_mut().insert(http::header::HOST, host);
        }
        request
    }
}

/// A connection that takes one request after the other, or over HTTP/2 several at once.
#[derive(Debug)]
pub struct Connection(Sender);

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<CallBody>),
    Http2(http2::SendRequest<CallBody>),
}

impl Connection {
    pub async fn open(address: SocketAddr, speaks: Speaks) -> Result<Self, CallError> {
        let stream = TcpStream::connect(address).await.map_err(CallError::Connect)?;
        stream.set_nodelay(true).map_err(CallError::Connect)?;
        let io = TokioIo::new(stream);
        Ok(Self(match speaks {
            Speaks::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(CallError::Head)?;
                tokio::spawn(connection);
                Sender::Http1(sender)
            }
            Speaks::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), io).await.map_err(CallError::Head)?;
                tokio::spawn(connection);
                Sender::Http2(sender)
            }
        }))
    }

    /// The answer's head, its body still to come.
    pub async fn begin(&mut self, call: Call) -> Result<Response<Incoming>, CallError> {
        match &mut self.0 {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(CallError::Head)?;
                sender.send_request(call.request(Version::HTTP_11)).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(CallError::Head)?;
                sender.send_request(call.request(Version::HTTP_2)).await
            }
        }
        .map_err(CallError::Head)
    }

    pub async fn send(&mut self, call: Call) -> Result<Answer, CallError> {
        Answer::read(self.begin(call).await?).await
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub version: Version,
    pub headers: HeaderMap,
    /// Its first 16 MiB.
    pub body: Bytes,
    /// The whole of it, against the pattern.
    pub pattern: Reader,
    pub trailers: HeaderMap,
}

impl Answer {
    pub async fn read(response: Response<Incoming>) -> Result<Self, CallError> {
        let (head, mut body) = response.into_parts();
        let (mut kept, mut pattern, mut trailers) = (Vec::new(), Reader::default(), HeaderMap::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| CallError::Broken { length: pattern.length, error })?;
            match frame.into_data() {
                Ok(data) => {
                    pattern.read(&data);
                    let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
                    kept.extend_from_slice(&data[..data.len().min(room)]);
                }
                Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
            }
        }
        Ok(Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: kept.into(),
            pattern,
            trailers,
        })
    }

    /// A header's value, all of them joined; `""` where it is absent.
    pub fn header(&self, name: &str) -> String {
        let all: Vec<_> = self
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        all.join(", ")
    }

    /// Which app answered; `""` where none did.
    pub fn app(&self) -> String {
        self.header("x-app-name")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// What the sidecar says of its refusal; panics where an app answered.
    #[track_caller]
    pub fn refusal(&self) -> Refusal {
        Refusal::of(self)
    }
}
