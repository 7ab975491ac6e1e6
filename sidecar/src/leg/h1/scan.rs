//! Where a head ends, found as its bytes come in, and never read twice.

use super::malformed::Malformed;

/// Bounds on a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Request line and fields together, in bytes.
    pub head_bytes: usize,
    pub fields: usize,
    pub target_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: HEAD_BYTES_MAX, fields: FIELDS_MAX, target_bytes: TARGET_BYTES_MAX }
    }
}

/// 64 KiB: what HTTP/2 may bring on the other side, and Envoy takes 60 KiB.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// 100: Envoy's bound. A browser sends 20.
pub const FIELDS_MAX: usize = 100;
/// 16 KiB: twice what RFC 9110, section 4.1, asks every recipient to take.
pub const TARGET_BYTES_MAX: usize = 16 << 10;

/// What a head must begin with, so that what is no HTTP at all is refused at its first bytes, and not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    /// With a method, or with the empty line that may stand before it.
    Request,
    /// With `HTTP/`.
    Answer,
    /// A trailer section begins with anything.
    Trailers,
}

/// How far a head has been looked at.
#[derive(Debug, Clone)]
pub struct Scanner {
    begins: Begins,
    /// Bytes that were looked at.
    seen: usize,
    line_start: usize,
    lines: usize,
}

impl Scanner {
    pub fn of_request() -> Self {
        Self { begins: Begins::Request, seen: 0, line_start: 0, lines: 0 }
    }

    pub fn of_answer() -> Self {
        Self { begins: Begins::Answer, ..Self::of_request() }
    }

    /// For a trailer section, which is a head without its first line.
    pub fn of_trailers() -> Self {
        Self { begins: Begins::Trailers, lines: 1, ..Self::of_request() }
    }

    /// A first line must not take what is meant for all of them.
    fn first_line_fits(&self, seen: usize, limits: &Limits) -> Result<(), Malformed> {
        match self.begins {
            _ if self.lines > 0 || seen <= limits.target_bytes + LINE_REST_BYTES => Ok(()),
            Begins::Answer => Err(Malformed::StatusLine),
            Begins::Request | Begins::Trailers => {
                Err(Malformed::TargetTooLong { limit: limits.target_bytes })
            }
        }
    }

    fn begins_well(&self, bytes: &[u8]) -> Result<(), Malformed> {
        // Of the first line alone: what follows an empty one is looked at in its turn.
        let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
        let first = &line[..line.len().min(HTTP.len())];
        match self.begins {
            Begins::Request if !first.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\r')) => {
                Err(Malformed::RequestLine)
            }
            Begins::Answer if *first != HTTP[..first.len()] => Err(Malformed::StatusLine),
            Begins::Request | Begins::Answer | Begins::Trailers => Ok(()),
        }
    }

    /// Looks at what `bytes` has more than the last time; they begin with the head. `Some`: the head's length, with the
    /// empty line that ends it.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Malformed> {
        if self.seen < HTTP.len() {
            self.begins_well(bytes)?;
        }
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.seen..]) {
            let end = self.seen + found;
            if end == self.line_start || bytes[end - 1] != b'\r' {
                return Err(Malformed::BareLineFeed);
            }
            self.first_line_fits(end, limits)?;
            let empty = end - 1 == self.line_start;
            self.seen = end + 1;
            self.line_start = self.seen;
            if self.seen > limits.head_bytes {
                return Err(Malformed::HeadTooLarge { limit: limits.head_bytes });
            }
            if empty {
                return Ok(Some(self.seen));
            }
            self.lines += 1;
            // The first line is no field.
            if self.lines > limits.fields + 1 {
                return Err(Malformed::TooManyFields { limit: limits.fields });
            }
        }
        self.seen = bytes.len();
        self.first_line_fits(self.seen, limits)?;
        if self.seen > limits.head_bytes {
            return Err(Malformed::HeadTooLarge { limit: limits.head_bytes });
        }
        Ok(None)
    }
}

const HTTP: &[u8] = b"HTTP/";

/// What a request line may have besides its target: a method and a version. 64 bytes: the longest registered method has
/// 17.
const LINE_REST_BYTES: usize = 64;
