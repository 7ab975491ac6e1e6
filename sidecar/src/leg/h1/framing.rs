//! Where a message's content ends: the one decision that two readers must never make differently.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::head::Version;
use super::malformed::Malformed;

/// How a message's content is delimited (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No content.
    None,
    /// So many bytes, at least one.
    Length(u64),
    Chunked,
    /// An answer that ends with its connection.
    UntilClose,
    /// No message follows, but whatever the two ends say to each other.
    Tunnel,
}

/// Of a request.
pub fn of_request(method: &Method, version: Version, fields: &HeaderMap) -> Result<Framing, Malformed> {
    let framing = match lengths(version, fields)? {
        Lengths::Chunked => Framing::Chunked,
        Lengths::Bytes(0) | Lengths::Neither => Framing::None,
        Lengths::Bytes(bytes) => Framing::Length(bytes),
    };
    if *method == Method::CONNECT && fields.contains_key(CONTENT_LENGTH)
        || matches!(*method, Method::CONNECT | Method::TRACE) && framing != Framing::None
    {
        return Err(Malformed::Content);
    }
    Ok(if *method == Method::CONNECT { Framing::Tunnel } else { framing })
}

/// Of an answer to a request of `method`.
pub fn of_answer(
    method: &Method,
    status: StatusCode,
    version: Version,
    fields: &HeaderMap,
) -> Result<Framing, Malformed> {
    // Judged even where no content may follow: an app that frames wrongly here does so elsewhere.
    let lengths = lengths(version, fields)?;
    if status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success()) {
        return Ok(Framing::Tunnel);
    }
    let none = *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    Ok(match lengths {
        _ if none => Framing::None,
        Lengths::Chunked => Framing::Chunked,
        Lengths::Bytes(0) => Framing::None,
        Lengths::Bytes(bytes) => Framing::Length(bytes),
        Lengths::Neither => Framing::UntilClose,
    })
}

enum Lengths {
    Neither,
    Bytes(u64),
    Chunked,
}

fn lengths(version: Version, fields: &HeaderMap) -> Result<Lengths, Malformed> {
    let mut codings = fields.get_all(TRANSFER_ENCODING).iter();
    let mut bytes = fields.get_all(CONTENT_LENGTH).iter();
    match (codings.next(), bytes.next()) {
        (None, None) => Ok(Lengths::Neither),
        (Some(_), Some(_)) => Err(Malformed::LengthAndEncoding),
        (Some(_), None) if version == Version::Http10 => Err(Malformed::EncodingInHttp10),
        (Some(coding), None) => {
            let coding = coding.as_bytes();
            if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Lengths::Chunked)
            } else if is_unknown_then_chunked(coding) {
                Err(Malformed::UnknownCoding)
            } else {
                Err(Malformed::TransferEncoding)
            }
        }
        // Equal ones too: RFC 9110, section 8.6, leaves it open, and nobody sends two without a reason.
        (None, Some(_)) if bytes.next().is_some() => Err(Malformed::TwoContentLengths),
        (None, Some(bytes)) => content_length(bytes).map(Lengths::Bytes),
    }
}

/// One decimal number and nothing else.
pub fn content_length(value: &HeaderValue) -> Result<u64, Malformed> {
    let digits = value.as_bytes();
    if digits.contains(&b',') {
        return Err(Malformed::TwoContentLengths);
    }
    // Nineteen digits fit into 64 bits.
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::ContentLength);
    }
    Ok(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// `gzip, chunked`: well-formed, and more than is implemented (RFC 9112, section 6.1).
fn is_unknown_then_chunked(coding: &[u8]) -> bool {
    let mut parts = coding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let last = parts.next_back();
    let mut any = false;
    last.is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"))
        && parts.all(|part| {
            any = true;
            [&b"gzip"[..], b"x-gzip", b"compress", b"x-compress", b"deflate"]
                .iter()
                .any(|known| part.eq_ignore_ascii_case(known))
        })
        && any
}
