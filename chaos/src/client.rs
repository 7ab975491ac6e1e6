//! One HTTP/1.1 request over a connection of its own.
//!
//! Written by hand so that nothing between a request and its verdict retries, pools or hides: a caller's view is the
//! only one that counts here.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Metrics of a sidecar take about 100 KiB; what is longer is cut off, and so an error.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The `Proxy-Status` field: who made a refusal, and why.
    pub proxy_status: Option<String>,
    pub body: Vec<u8>,
}

/// Asks, and reads to the end. May be cancelled: the connection closes with it.
pub async fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
    parse(&bytes)
}

/// A whole answer, or an error: one that broke off must not count as a success.
fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let end =
        bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| wrong("no whole head"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("a head that is not text"))?;
    let body = &bytes[end + 4..];
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| wrong("no status line"))?;
    let field = |name: &str| {
        lines.clone().find_map(|line| {
            let (given, value) = line.split_once(':')?;
            given.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let whole = match (field("content-length").map(str::parse::<usize>), field("transfer-encoding")) {
        (Some(Ok(length)), None) => body.len() == length,
        // Ours are small and without trailers: the last chunk ends them.
        (None, Some("chunked")) => body.ends_with(b"0\r\n\r\n"),
        (None, None) => true,
        _ => return Err(wrong("a length that is not understood")),
    };
    if !whole {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer broke off"));
    }
    Ok(Answer { status, proxy_status: field("proxy-status").map(str::to_owned), body: body.to_vec() })
}

#[cfg(test)]
mod tests;
