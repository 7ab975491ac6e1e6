//! Writes a head, in the form that leaves no reader a choice.

use std::fmt::Write as _;

use bytes::{BufMut as _, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::framing;
use super::head::Version;

/// How content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// There is none.
    None,
    /// Exactly so many bytes.
    Length(u64),
    Chunked,
    /// As it is, up to the end of the connection.
    Raw,
}

/// Of a request's content: `content` says whether there is any.
pub fn of_request(fields: &HeaderMap, content: bool) -> Encoding {
    match fields.get(CONTENT_LENGTH).map(framing::content_length) {
        _ if !content => Encoding::None,
        Some(Ok(bytes)) => Encoding::Length(bytes),
        _ => Encoding::Chunked,
    }
}

/// Of an answer's content, towards a client that asked by `method` in `version`.
pub fn of_answer(
    method: &Method,
    version: Version,
    status: StatusCode,
    fields: &HeaderMap,
    content: bool,
) -> Encoding {
    let none = *method == Method::HEAD || matches!(status.as_u16(), 204 | 304) || status.is_informational();
    match fields.get(CONTENT_LENGTH).map(framing::content_length) {
        _ if none || !content => Encoding::None,
        Some(Ok(bytes)) => Encoding::Length(bytes),
        _ if version == Version::Http10 => Encoding::Raw,
        _ => Encoding::Chunked,
    }
}

/// A request's head. Its target is in origin form, its `Host` among the fields.
pub fn request(out: &mut BytesMut, head: &Request<()>, encoding: Encoding) {
    out.reserve(room(head.headers()));
    out.put_slice(head.method().as_str().as_bytes());
    out.put_u8(b' ');
    let target = head.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    out.put_slice(target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    let method = head.method();
    let length_expected = *method == Method::POST || *method == Method::PUT || *method == Method::PATCH;
    let says_zero = encoding == Encoding::None && length_expected;
    fields(out, head.headers(), encoding, says_zero);
}

/// An answer's head, and what becomes of the connection after it.
pub fn answer(
    out: &mut BytesMut,
    head: &Response<()>,
    encoding: Encoding,
    says_zero: bool,
    connection: Option<&'static str>,
) {
    out.reserve(room(head.headers()));
    status_line(out, head.status());
    if let Some(connection) = connection {
        out.put_slice(b"connection: ");
        out.put_slice(connection.as_bytes());
        out.put_slice(b"\r\n");
    }
    fields(out, head.headers(), encoding, says_zero);
}

pub fn status_line(out: &mut BytesMut, status: StatusCode) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// Fields, the one that frames, and the empty line.
fn fields(out: &mut BytesMut, fields: &HeaderMap, encoding: Encoding, says_zero: bool) {
    for (name, value) in fields {
        // Where content is chunked, a length would be a second opinion.
        if encoding == Encoding::Chunked && *name == CONTENT_LENGTH {
            continue;
        }
        field(out, name, value);
    }
    if encoding == Encoding::Chunked {
        out.put_slice(TRANSFER_ENCODING.as_str().as_bytes());
        out.put_slice(b": chunked\r\n");
    } else if says_zero && !fields.contains_key(CONTENT_LENGTH) {
        out.put_slice(b"content-length: 0\r\n");
    }
    out.put_slice(b"\r\n");
}

fn field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

/// The line before a chunk of `bytes`, which is not 0.
pub fn chunk_size(out: &mut BytesMut, bytes: usize) {
    write!(out, "{bytes:x}\r\n").expect("a buffer takes whatever is written");
}

/// The last chunk, and what follows it.
pub fn last_chunk(out: &mut BytesMut, trailers: Option<&HeaderMap>) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(out, name, value);
    }
    out.put_slice(b"\r\n");
}

/// About what a head takes, so that the buffer grows once.
fn room(fields: &HeaderMap) -> usize {
    128 + fields.len() * 48
}
