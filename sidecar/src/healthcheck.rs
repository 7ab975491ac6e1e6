//! `healthcheck URL`: one GET, answered by the exit code, for images that have no shell and no curl.
//!
//! Blocking and without a client library, since it runs every few seconds in each container and ends at once.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use http::Uri;

/// From the look-up to the status line. Below the interval of two seconds at which the compose file asks, so that
/// checks never pile up.
pub const TIME_MAX: Duration = Duration::from_millis(1_500);
/// A status line has 12 bytes before its reason; what else came with it is not read.
const STATUS_BYTES: usize = 12;

/// Why the URL does not count as healthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    #[error("{given:?} is not of the form http://host:port/path")]
    Url { given: String },
    #[error("no answer from {authority}")]
    Unreachable { authority: String, source: std::io::Error },
    #[error("{authority} answered with something that is not HTTP/1.1")]
    NotHttp { authority: String },
    #[error("{url} answered {status}")]
    Status { url: String, status: u16 },
}

/// Asks once; healthy is 200 within [`TIME_MAX`].
pub fn healthcheck(url: &str) -> Result<(), Unhealthy> {
    let malformed = || Unhealthy::Url { given: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| malformed())?;
    let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(malformed)?;
    if authority.port_u16().is_none() {
        return Err(malformed());
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let head = status_line(authority.as_str(), path)
        .map_err(|source| Unhealthy::Unreachable { authority: authority.to_string(), source })?;
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|code| std::str::from_utf8(code).ok()?.parse::<u16>().ok())
        .ok_or_else(|| Unhealthy::NotHttp { authority: authority.to_string() })?;
    if status == 200 { Ok(()) } else { Err(Unhealthy::Status { url: url.to_owned(), status }) }
}

fn status_line(authority: &str, path: &str) -> std::io::Result<[u8; STATUS_BYTES]> {
    let end = Instant::now() + TIME_MAX;
    let left = || -> std::io::Result<Duration> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    };
    let address = authority.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    let mut head = [0; STATUS_BYTES];
    let mut filled = 0;
    while filled < STATUS_BYTES {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut head[filled..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(head)
}

#[cfg(test)]
mod tests;
