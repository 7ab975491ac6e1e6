//! What a connection speaks, told by its first bytes: HTTP/1, HTTP/2, or something that nobody looks into. Pure.
//!
//! In doubt it says HTTP: what is taken for HTTP and is none is refused with a reason, while HTTP that is taken for
//! something else would be seen by no rule. So white space is whatever some reader takes for it (Python's splits at file
//! separators and at 0xA0), empty lines before a request are read over, and any word may be a method. What tells is the
//! first line's last word: `GET /key` is a question to a cache, `GET /key HTTP/1.1` is a request. HTTP/0.9, which has no
//! such word and no fields either, is not HTTP here.

/// What comes first on a connection of HTTP/2 with prior knowledge (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What the last word of a request's first line begins with (RFC 9112, section 2.3).
const VERSION: &[u8] = b"HTTP/";
/// A first line that is longer is taken for HTTP's, in bytes. 4 KiB: longer than the lines of other protocols in text
/// (memcached: 2 KiB), and a request's may have more; nothing is lost, since HTTP's own bounds hold then.
pub const BYTES_MAX: usize = 4 << 10;

/// What the bytes so far tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    More,
    Http1,
    Http2,
    /// Neither.
    Opaque,
}

/// Judges the first bytes of a connection. Once it says anything but [`Verdict::More`], more bytes change nothing.
pub fn judge(bytes: &[u8]) -> Verdict {
    if bytes.starts_with(PREFACE) {
        return Verdict::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Verdict::More;
    }
    match first_line(&bytes[..bytes.len().min(BYTES_MAX)]) {
        Verdict::More if bytes.len() >= BYTES_MAX => Verdict::Http1,
        verdict => verdict,
    }
}

fn first_line(bytes: &[u8]) -> Verdict {
    let Some(start) = bytes.iter().position(|byte| !is_blank(*byte)) else { return Verdict::More };
    let line = &bytes[start..];
    let Some(word_end) = line.iter().position(|byte| !is_token(*byte)) else { return Verdict::More };
    if word_end == 0 || !is_blank(line[word_end]) {
        return Verdict::Opaque;
    }
    for (at, &byte) in line.iter().enumerate().skip(word_end) {
        if matches!(byte, b'\r' | b'\n') && ends_in_version(&line[..at]) {
            return Verdict::Http1;
        }
        if byte == b'\n' || (byte.is_ascii_control() && !is_blank(byte)) {
            return Verdict::Opaque;
        }
    }
    Verdict::More
}

fn ends_in_version(line: &[u8]) -> bool {
    let mut words = line.rsplit(|byte| is_blank(*byte)).filter(|word| !word.is_empty());
    let last = words.next().and_then(|last| last.get(..VERSION.len()));
    last.is_some_and(|start| start.eq_ignore_ascii_case(VERSION))
}

/// What some reader takes for white space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ' | 0x85 | 0xa0)
}

/// Of a method (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
