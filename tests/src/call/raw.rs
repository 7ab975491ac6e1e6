//! Requests as bytes, for what no client would send.

use std::io;
use std::net::SocketAddr;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Answer;
use crate::pattern::Reader;

/// Sends `request` and reads to the end of the connection: the answer must say that it closes.
pub async fn raw(address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, String::from_utf8_lossy(&bytes).into_owned())
    })
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let body = bytes[end + 4..].to_vec();
    let mut pattern = Reader::default();
    pattern.read(&body);
    Some(Answer {
        status: StatusCode::from_bytes(status.as_bytes()).ok()?,
        version: Version::HTTP_11,
        headers,
        body: body.into(),
        pattern,
        trailers: HeaderMap::new(),
    })
}
