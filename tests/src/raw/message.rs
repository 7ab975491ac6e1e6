//! A strict reader of HTTP/1.1 messages: a message is whole, or not yet whole, or bad.

/// A message as it was framed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    /// Names in lower case, bytes of values as characters of Latin-1.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Message {
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Of a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Of an answer.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// A field's value; of several, the first.
    pub fn value<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.values(name).next()
    }
}

/// What the bytes from the start of a message are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    Whole {
        message: Message,
        length: usize,
    },
    /// The head where it is there, with as much of the body as there is.
    Partial {
        head: Option<Message>,
    },
    Bad {
        why: String,
    },
}

/// Fields that a trailer section must not have (RFC 9110, section 6.5.1).
const NOT_IN_TRAILERS: [&str; 6] =
    ["content-length", "transfer-encoding", "host", "trailer", "authorization", "content-type"];
/// Methods of this many bytes are as long as they get.
const METHOD_BYTES_MAX: usize = 32;

/// Reads one request.
pub fn request(bytes: &[u8]) -> Read {
    read(bytes, |start, fields| {
        request_line(start)?;
        if fields.iter().filter(|(name, _)| name == "host").count() != 1 {
            return Err("not exactly one Host".to_owned());
        }
        Ok(framing(fields)?.unwrap_or(Framing::Length(0)))
    })
}

/// Reads one answer to a request with `method`; `ended`: no more bytes will come.
pub fn answer(bytes: &[u8], method: &str, ended: bool) -> Read {
    read(bytes, |start, fields| {
        let status = status_line(start)?;
        let framing = framing(fields)?;
        if status < 200 || status == 204 {
            return match framing {
                Some(_) => Err("a length where there is no body".to_owned()),
                None => Ok(Framing::Length(0)),
            };
        }
        if method == "HEAD" || status == 304 {
            return Ok(Framing::Length(0));
        }
        Ok(framing.unwrap_or(Framing::UntilEnd { ended }))
    })
}

enum Framing {
    Length(usize),
    Chunked,
    UntilEnd { ended: bool },
}

type Fields = Vec<(String, String)>;

fn read(bytes: &[u8], framing_of: impl Fn(&str, &Fields) -> Result<Framing, String>) -> Read {
    let mut cursor = Cursor { bytes, at: 0 };
    match message(&mut cursor, framing_of) {
        Ok(Ok(message)) => Read::Whole { message, length: cursor.at },
        Ok(Err(head)) => Read::Partial { head },
        Err(why) => Read::Bad { why },
    }
}

/// The inner error: bytes are missing.
fn message(
    cursor: &mut Cursor,
    framing_of: impl Fn(&str, &Fields) -> Result<Framing, String>,
) -> Result<Result<Message, Option<Message>>, String> {
    let Some(start) = cursor.line()? else { return Ok(Err(None)) };
    let Some(fields) = fields(cursor)? else { return Ok(Err(None)) };
    let framing = framing_of(&start, &fields)?;
    let mut message = Message { start, fields, ..Message::default() };
    let whole = match framing {
        Framing::Length(length) => {
            let rest = &cursor.bytes[cursor.at..];
            let there = length.min(rest.len());
            message.body = rest[..there].to_vec();
            cursor.at += there;
            there == length
        }
        Framing::UntilEnd { ended } => {
            message.body = cursor.bytes[cursor.at..].to_vec();
            cursor.at = cursor.bytes.len();
            ended
        }
        Framing::Chunked => chunks(cursor, &mut message)?,
    };
    Ok(if whole { Ok(message) } else { Err(Some(message)) })
}

/// Whether they have ended.
fn chunks(cursor: &mut Cursor, message: &mut Message) -> Result<bool, String> {
    loop {
        let Some(line) = cursor.line()? else { return Ok(false) };
        if line.is_empty() || line.len() > 15 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("{line:?} is no size of a chunk"));
        }
        let size = usize::from_str_radix(&line, 16).map_err(|error| error.to_string())?;
        if size == 0 {
            break;
        }
        let rest = &cursor.bytes[cursor.at..];
        let there = size.min(rest.len());
        message.body.extend_from_slice(&rest[..there]);
        match rest.get(size..) {
            Some([b'\r', b'\n', ..]) => cursor.at += size + 2,
            Some([] | [b'\r']) | None => return Ok(false),
            Some(_) => return Err("no line end after a chunk".to_owned()),
        }
    }
    let Some(trailers) = fields(cursor)? else { return Ok(false) };
    if let Some((name, _)) = trailers.iter().find(|(name, _)| NOT_IN_TRAILERS.contains(&name.as_str())) {
        return Err(format!("{name} in the trailers"));
    }
    message.trailers = trailers;
    Ok(true)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    /// Up to CRLF; a line end of another kind is an error.
    fn line(&mut self) -> Result<Option<String>, String> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Ok(None) };
        match rest[end..] {
            [b'\r', b'\n', ..] => {
                self.at += end + 2;
                Ok(Some(rest[..end].iter().map(|byte| char::from(*byte)).collect()))
            }
            [b'\r'] => Ok(None),
            [b'\r', ..] => Err("a CR without LF".to_owned()),
            _ => Err("a LF without CR".to_owned()),
        }
    }
}

/// Up to the empty line.
fn fields(cursor: &mut Cursor) -> Result<Option<Fields>, String> {
    let mut fields = Vec::new();
    loop {
        let Some(line) = cursor.line()? else { return Ok(None) };
        if line.is_empty() {
            return Ok(Some(fields));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("{line:?} has no colon"))?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} is no field name"));
        }
        let value = value.trim_matches([' ', '\t']);
        if let Some(byte) = value.chars().find(|c| (*c < ' ' && *c != '\t') || *c == '\x7f') {
            return Err(format!("{byte:?} in the value of {name}"));
        }
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn request_line(line: &str) -> Result<(), String> {
    let parts: Vec<_> = line.split(' ').collect();
    let [method, target, version] = parts[..] else { return Err(format!("{line:?} is no request line")) };
    let method_is_good =
        !method.is_empty() && method.len() <= METHOD_BYTES_MAX && method.bytes().all(is_token);
    let target_is_good = !target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic());
    if !method_is_good || !target_is_good || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(format!("{line:?} is no request line"));
    }
    Ok(())
}

fn status_line(line: &str) -> Result<u16, String> {
    let bad = || format!("{line:?} is no status line");
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 ")).ok_or_else(bad)?;
    let (status, _) = rest.split_once(' ').ok_or_else(bad)?;
    let status = Some(status).filter(|status| status.len() == 3).and_then(|status| status.parse().ok());
    status.filter(|status| (100..1000).contains(status)).ok_or_else(bad)
}

/// `None`: the fields say nothing of a body.
fn framing(fields: &Fields) -> Result<Option<Framing>, String> {
    let all = |wanted: &str| -> Vec<&str> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
    };
    match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        ([], []) => Ok(None),
        (["chunked"], []) => Ok(Some(Framing::Chunked)),
        ([], [length]) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(Some(Framing::Length(length.parse().map_err(|_| format!("{length} is too much"))?)))
        }
        (codings, lengths) => Err(format!("Transfer-Encoding {codings:?} and Content-Length {lengths:?}")),
    }
}
