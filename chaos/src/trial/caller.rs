//! Calls one address over HTTP/1.1 connections that are kept, as an app's client does; nothing is tried again here.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What is kept idle; the rest is closed after its answer. A steady load needs a few dozen.
const IDLE_MAX: usize = 256;

type Connection = SendRequest<Empty<Bytes>>;

#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    host: HeaderValue,
    /// The last one used is on top, so that what is not needed stays idle.
    idle: Mutex<Vec<Connection>>,
}

impl Caller {
    pub fn new(address: SocketAddr, host: &str) -> io::Result<Self> {
        let host = HeaderValue::from_str(host).map_err(io::Error::other)?;
        Ok(Self { address, host, idle: Mutex::new(Vec::new()) })
    }

    /// `GET /`, to the end of the answer; its status. May be cancelled: the connection closes with it, as that of a caller
    /// does who has lost patience.
    pub async fn call(&self, fields: &HeaderMap) -> io::Result<u16> {
        let mut connection = match self.kept() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut request = Request::new(Empty::new());
        *request.headers_mut() = fields.clone();
        request.headers_mut().insert(header::HOST, self.host.clone());
        let answer = connection.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(io::Error::other)?;
        }
        self.keep(connection);
        Ok(status)
    }

    async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (connection, driver) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // What ends a connection shows as the failure of the request on it.
        tokio::spawn(driver);
        Ok(connection)
    }

    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed by the other end meanwhile: the next one.
        std::iter::from_fn(|| idle.pop()).find(|connection| !connection.is_closed())
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(connection);
        }
    }
}
