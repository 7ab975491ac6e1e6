//! What a whole head says, or why it says nothing for certain.
//!
//! Values are slices of the head as it was read, so that a head costs one allocation and its map.

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::framing::{self, Framing};
use super::malformed::Malformed;
use super::scan::Limits;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Http10,
    Http11,
}

impl From<Version> for http::Version {
    fn from(version: Version) -> Self {
        match version {
            Version::Http10 => Self::HTTP_10,
            Version::Http11 => Self::HTTP_11,
        }
    }
}

/// What a head says about its connection and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub version: Version,
    pub framing: Framing,
    /// Whether the sender leaves the connection open for another message.
    pub keep_alive: bool,
    /// A request: its sender waits for 100 before it sends the content.
    pub expects_continue: bool,
    /// `Connection` names `upgrade`.
    pub upgrade: bool,
}

/// Reads a request's head, all of it and nothing else.
pub fn request(head: &Bytes, limits: &Limits) -> Result<(Request<()>, Shape), Malformed> {
    let end = line_end(head, 0);
    let (method, target, version) = request_line(head, end, limits)?;
    let fields = fields(head, end + 2, limits)?;
    let mut hosts = fields.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Malformed::TwoHosts),
        (None, None) if version == Version::Http11 => return Err(Malformed::NoHost),
        (None | Some(_), None) => {}
    }
    let framing = framing::of_request(&method, version, &fields)?;
    let mut expectations = fields.get_all(EXPECT).iter();
    let expects_continue = match (expectations.next(), expectations.next()) {
        (None, _) => false,
        (Some(value), None) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            // RFC 9110, section 10.1.1: not from HTTP/1.0, and pointless without content.
            version == Version::Http11 && matches!(framing, Framing::Length(_) | Framing::Chunked)
        }
        (Some(_), _) => return Err(Malformed::Expectation),
    };
    let connection = Connection::of(&fields);
    let shape = Shape {
        version,
        framing,
        keep_alive: connection.keep_alive(version),
        expects_continue,
        upgrade: connection.upgrade && version == Version::Http11,
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target;
    *request.version_mut() = version.into();
    *request.headers_mut() = fields;
    Ok((request, shape))
}

/// Reads the head of an answer to a request of `method`.
pub fn answer(head: &Bytes, method: &Method, limits: &Limits) -> Result<(Response<()>, Shape), Malformed> {
    let end = line_end(head, 0);
    let (version, status) = status_line(&head[..end])?;
    let fields = fields(head, end + 2, limits)?;
    let framing = framing::of_answer(method, status, version, &fields)?;
    let connection = Connection::of(&fields);
    let shape = Shape {
        version,
        framing,
        keep_alive: connection.keep_alive(version)
            && !matches!(framing, Framing::UntilClose | Framing::Tunnel),
        expects_continue: false,
        upgrade: connection.upgrade,
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version.into();
    *response.headers_mut() = fields;
    Ok((response, shape))
}

/// Reads a trailer section, with the empty line that ends it.
pub fn trailers(section: &Bytes, limits: &Limits) -> Result<HeaderMap, Malformed> {
    let fields = fields(section, 0, limits)?;
    if fields.keys().any(belongs_into_the_head) {
        return Err(Malformed::TrailerField);
    }
    Ok(fields)
}

/// What says where a message ends, or to whom it goes, in either version of HTTP.
pub fn frames_or_routes(name: &HeaderName) -> bool {
    *name == TRANSFER_ENCODING
        || *name == HOST
        || *name == CONNECTION
        || matches!(name.as_str(), "content-length" | "trailer" | "te" | "upgrade")
}

/// What frames, routes or authenticates a message must stand before it (RFC 9110, section 6.5.1).
fn belongs_into_the_head(name: &HeaderName) -> bool {
    frames_or_routes(name)
        || matches!(
            name.as_str(),
            "content-encoding"
                | "content-type"
                | "content-range"
                | "expect"
                | "authorization"
                | "proxy-authorization"
                | "cookie"
                | "set-cookie"
        )
}

/// Where the line that begins at `start` ends: at its CR. The scanner has seen to it that every LF follows a CR.
fn line_end(head: &[u8], start: usize) -> usize {
    memchr::memchr(b'\n', &head[start..]).map_or(head.len(), |lf| start + lf - 1)
}

fn request_line(head: &Bytes, end: usize, limits: &Limits) -> Result<(Method, Uri, Version), Malformed> {
    let line = &head[..end];
    let method_end = memchr::memchr(b' ', line).ok_or(Malformed::RequestLine)?;
    let target_start = method_end + 1;
    let target_end =
        target_start + memchr::memchr(b' ', &line[target_start..]).ok_or(Malformed::RequestLine)?;
    let version = version(&line[target_end + 1..])?;
    let method = &line[..method_end];
    if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Malformed::Method);
    }
    let method = Method::from_bytes(method).map_err(|_| Malformed::Method)?;
    if target_end - target_start > limits.target_bytes {
        return Err(Malformed::TargetTooLong { limit: limits.target_bytes });
    }
    let target = target(&method, head.slice(target_start..target_end))?;
    Ok((method, target, version))
}

fn version(bytes: &[u8]) -> Result<Version, Malformed> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Malformed::Version)
        }
        _ => Err(Malformed::RequestLine),
    }
}

/// Twice the longest registered method, and room for what somebody has of their own.
const METHOD_BYTES_MAX: usize = 40;

/// The four forms of RFC 9112, section 3.2.
fn target(method: &Method, target: Bytes) -> Result<Uri, Malformed> {
    // `http` cuts a fragment off in silence, and takes bytes above ASCII.
    if target.is_empty() || !target.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#') {
        return Err(Malformed::Target);
    }
    if *method == Method::CONNECT {
        let authority = Authority::from_maybe_shared(target).map_err(|_| Malformed::Target)?;
        if authority.port_u16().is_none() || authority.as_str().contains('@') {
            return Err(Malformed::Target);
        }
        return Ok(Uri::from(authority));
    }
    match target[0] {
        b'/' => PathAndQuery::from_maybe_shared(target).map(Uri::from).map_err(|_| Malformed::Target),
        b'*' if target.len() == 1 && *method == Method::OPTIONS => Ok(Uri::from_static("*")),
        _ => {
            let uri = Uri::from_maybe_shared(target).map_err(|_| Malformed::Target)?;
            let http = matches!(uri.scheme_str(), Some("http" | "https"));
            let named = uri.authority().is_some_and(|a| !a.host().is_empty() && !a.as_str().contains('@'));
            if http && named { with_path(uri) } else { Err(Malformed::Target) }
        }
    }
}

/// `http://a?b` asks for `/?b` (RFC 9110, section 4.2.3), and `http` leaves the slash out.
fn with_path(uri: Uri) -> Result<Uri, Malformed> {
    let Some(query) = uri.path_and_query().map(PathAndQuery::as_str).filter(|rest| rest.starts_with('?'))
    else {
        return Ok(uri);
    };
    let path = PathAndQuery::try_from(format!("/{query}")).map_err(|_| Malformed::Target)?;
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Malformed::Target)
}

fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Malformed> {
    if line.len() < 12 || line[8] != b' ' {
        return Err(Malformed::StatusLine);
    }
    let version = version(&line[..8]).map_err(|_| Malformed::StatusLine)?;
    let status = StatusCode::from_bytes(&line[9..12]).map_err(|_| Malformed::StatusLine)?;
    // Some servers leave the space out with the reason; nothing hangs on it.
    let reason = match &line[12..] {
        [] => &[],
        [b' ', reason @ ..] => reason,
        _ => return Err(Malformed::StatusLine),
    };
    if !reason.iter().all(|byte| is_value(*byte)) {
        return Err(Malformed::StatusLine);
    }
    Ok((version, status))
}

/// Field lines from `start` up to the empty line.
fn fields(head: &Bytes, start: usize, limits: &Limits) -> Result<HeaderMap, Malformed> {
    let mut fields = HeaderMap::new();
    let mut at = start;
    loop {
        let end = line_end(head, at);
        if end <= at {
            return Ok(fields);
        }
        if fields.len() >= limits.fields {
            return Err(Malformed::TooManyFields { limit: limits.fields });
        }
        let line = &head[at..end];
        let colon = memchr::memchr(b':', line);
        let name = name(&line[..colon.unwrap_or(line.len())], colon.is_some())?;
        let (value_start, value_end) = trimmed(head, at + colon.ok_or(Malformed::NoColon)? + 1, end);
        let value = head.slice(value_start..value_end);
        if let Some(bad) = value.iter().find(|byte| !is_value(**byte)) {
            return Err(if *bad == b'\r' { Malformed::BareCarriageReturn } else { Malformed::FieldValue });
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| Malformed::FieldValue)?;
        fields.try_append(name, value).map_err(|_| Malformed::TooManyFields { limit: limits.fields })?;
        at = end + 2;
    }
}

fn name(name: &[u8], colon: bool) -> Result<HeaderName, Malformed> {
    if matches!(name.first(), Some(b' ' | b'\t')) {
        return Err(Malformed::ObsFold);
    }
    if !colon {
        return Err(Malformed::NoColon);
    }
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Malformed::SpaceBeforeColon);
    }
    // `http`'s own table refuses whatever is no token character.
    HeaderName::from_bytes(name).map_err(|_| Malformed::FieldName)
}

/// Without spaces and tabs at both ends.
fn trimmed(head: &[u8], mut start: usize, mut end: usize) -> (usize, usize) {
    while start < end && matches!(head[start], b' ' | b'\t') {
        start += 1;
    }
    while end > start && matches!(head[end - 1], b' ' | b'\t') {
        end -= 1;
    }
    (start, end)
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 9110, section 5.5: visible, space, tab, or above ASCII.
fn is_value(byte: u8) -> bool {
    byte >= b' ' && byte != 0x7f || byte == b'\t'
}

/// What `Connection` says about the connection itself.
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl Connection {
    fn of(fields: &HeaderMap) -> Self {
        let mut connection = Self::default();
        for value in fields.get_all(CONNECTION) {
            for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                connection.close |= token.eq_ignore_ascii_case(b"close");
                connection.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                connection.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            }
        }
        connection
    }

    fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}
