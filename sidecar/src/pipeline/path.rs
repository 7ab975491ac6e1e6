//! One spelling for each path, found before anything is decided about it.
//!
//! Two readers of one path that disagree are the classic way around authorization: the sidecar allows `/a/../admin`, and
//! the app serves `/admin`. So a path is normalised once, every decision is made on the result, and the result is what
//! is forwarded. The modes are those that Istio names, so that a policy written for it means the same here.
//!
//! What this does not do: guess how an app reads what RFC 3986 leaves open. In [`Mode::Base`] an encoded slash stays
//! encoded and `//` stays two slashes; an app that decodes one or folds the other needs the stricter modes.

use bytes::Bytes;
use http::uri::PathAndQuery;

#[cfg(test)]
pub(in crate::pipeline) mod tests;

/// How much is made equal: what `MeshConfig` says, for requests and for the paths in policy alike.
pub use outrider_shared::snapshot::PathNormalization as Mode;

/// Why a path has no normal spelling. The caller is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    #[error("the path has a byte {byte:#04x}, which no path may have")]
    ForbiddenByte { byte: u8 },
    #[error("the path has a '%' without two hex digits")]
    MalformedEscape,
    #[error("the path has an encoded NUL")]
    EncodedNul,
    #[error("the path leads above its root")]
    AboveRoot,
}

/// A request's path and query, the path in its one spelling. Only this file makes one, so nothing can be decided on, or
/// forwarded from, a path as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalTarget(PathAndQuery);

impl NormalTarget {
    /// Takes what came; the ordinary path is found to be normal in one pass and moved, without allocating.
    pub fn new(given: PathAndQuery, mode: Mode) -> Result<Self, BadPath> {
        let path = given.path();
        // `OPTIONS *` asks about the server, not about a path.
        if path == "*" {
            return Ok(Self(given));
        }
        let Some(normal) = normalize(path, mode)? else { return Ok(Self(given)) };
        let mut text = normal;
        if let Some(query) = given.query() {
            text.push('?');
            text.push_str(query);
        }
        let target = PathAndQuery::from_maybe_shared(Bytes::from(text))
            .expect("normalising only removes, decodes unreserved characters and writes slashes");
        Ok(Self(target))
    }

    pub fn path(&self) -> &str {
        self.0.path()
    }

    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// What is forwarded.
    pub fn into_inner(self) -> PathAndQuery {
        self.0
    }

    pub fn as_inner(&self) -> &PathAndQuery {
        &self.0
    }
}

/// The normal spelling of `path`; `None` where that is `path` itself.
pub fn normalize(path: &str, mode: Mode) -> Result<Option<String>, BadPath> {
    match examine(path.as_bytes(), mode)? {
        Spelling::Normal => Ok(None),
        Spelling::Other => rewrite(path, mode).map(Some),
    }
}

enum Spelling {
    Normal,
    Other,
}

/// Refuses what has no normal spelling, but for a path that leads above its root, and finds whether there is work to do.
fn examine(path: &[u8], mode: Mode) -> Result<Spelling, BadPath> {
    if path.first() != Some(&b'/') {
        return Err(BadPath::NotAbsolute);
    }
    let mut spelling = Spelling::Normal;
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        match byte {
            0..=b' ' | 0x7f | b'#' | b'?' => return Err(BadPath::ForbiddenByte { byte }),
            _ if mode == Mode::None => {}
            b'/' => {
                let rest = &path[at + 1..];
                if begins_with_dot_segment(rest)
                    || (mode >= Mode::MergeSlashes && rest.first() == Some(&b'/'))
                {
                    spelling = Spelling::Other;
                }
            }
            b'\\' => spelling = Spelling::Other,
            b'%' => {
                if decoded(escape(&path[at..])?, mode).is_some() {
                    spelling = Spelling::Other;
                }
                at += 2;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(spelling)
}

fn begins_with_dot_segment(rest: &[u8]) -> bool {
    let ([b'.', b'.', rest @ ..] | [b'.', rest @ ..]) = rest else { return false };
    matches!(rest.first(), None | Some(b'/' | b'\\'))
}

/// The byte that the escape at the start of `rest` stands for.
fn escape(rest: &[u8]) -> Result<u8, BadPath> {
    let [_, high, low, ..] = rest else { return Err(BadPath::MalformedEscape) };
    let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err(BadPath::MalformedEscape) };
    match high << 4 | low {
        0 => Err(BadPath::EncodedNul),
        byte => Ok(byte),
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// What an escape of `byte` becomes; `None` where it stays an escape.
fn decoded(byte: u8, mode: Mode) -> Option<char> {
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => Some(char::from(byte)),
        b'/' | b'\\' if mode == Mode::DecodeAndMergeSlashes => Some('/'),
        _ => None,
    }
}

/// Escapes first, then dot segments, then slashes: each step sees what the one before it has uncovered.
fn rewrite(path: &str, mode: Mode) -> Result<String, BadPath> {
    let without_dots = remove_dot_segments(&decode(path, mode)?)?;
    if mode < Mode::MergeSlashes {
        return Ok(without_dots);
    }
    let mut merged = String::with_capacity(without_dots.len());
    for c in without_dots.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    Ok(merged)
}

fn decode(path: &str, mode: Mode) -> Result<String, BadPath> {
    let mut text = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with('\\') {
            text.push('/');
            rest = &rest[1..];
            continue;
        }
        match decoded(escape(rest.as_bytes())?, mode) {
            Some(c) => text.push(c),
            None => text.push_str(&rest[..3]),
        }
        rest = &rest[3..];
    }
    text.push_str(rest);
    Ok(text)
}

/// RFC 3986, section 5.2.4, but that `..` at the root is refused: nobody means it who means well.
fn remove_dot_segments(path: &str) -> Result<String, BadPath> {
    let mut text = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => {
                let parent = text.rfind('/').ok_or(BadPath::AboveRoot)?;
                text.truncate(parent);
            }
            _ => {
                text.push('/');
                text.push_str(segment);
                continue;
            }
        }
        // A dot segment at the end leaves the slash before it.
        if segments.peek().is_none() {
            text.push('/');
        }
    }
    Ok(text)
}

/// A path from policy, ready to be compared with normal ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    /// Compared byte by byte unless there are escapes, whose digits count in either case.
    has_escapes: bool,
}

impl Pattern {
    /// A path that has no normal spelling is kept as it is, and no request can equal it.
    pub fn new(path: &str, mode: Mode) -> Self {
        let text = match normalize(path, mode) {
            Ok(Some(normal)) => normal.into_boxed_str(),
            Ok(None) | Err(_) => path.into(),
        };
        Self { has_escapes: text.contains('%'), text }
    }

    /// For [`Pattern::is_prefix_of`]: a slash at the end says nothing.
    pub fn prefix(path: &str, mode: Mode) -> Self {
        let mut pattern = Self::new(path, mode);
        if let Some(shorter) = pattern.text.strip_suffix('/') {
            pattern.text = shorter.into();
        }
        pattern
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn equals(&self, path: &str) -> bool {
        self.same(path.as_bytes())
    }

    /// By whole segments: `/a` is a prefix of `/a` and `/a/b`, not of `/ab`.
    pub fn is_prefix_of(&self, path: &str) -> bool {
        let path = path.as_bytes();
        path.split_at_checked(self.text.len())
            .is_some_and(|(head, rest)| matches!(rest.first(), None | Some(b'/')) && self.same(head))
    }

    fn same(&self, path: &[u8]) -> bool {
        let text = self.text.as_bytes();
        text == path || (self.has_escapes && same_but_for_hex_case(text, path))
    }
}

fn same_but_for_hex_case(left: &[u8], right: &[u8]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut digits_left = 0;
    left.iter().zip(right).all(|(a, b)| {
        let in_escape = digits_left > 0;
        digits_left = if *a == b'%' { 2 } else { digits_left.max(1) - 1 };
        a == b || (in_escape && a.eq_ignore_ascii_case(b))
    })
}
