//! The operations of each cell, and what a client saw of one.

use std::collections::BTreeMap;

use outrider_tests::pattern::Reader;
use serde::Deserialize;

/// Content of a request, whose byte `i` is `i % 251`.
pub const ECHO_BYTES: usize = 64 << 10;
/// The large answer, of the same bytes.
pub const LARGE_BYTES: usize = 1 << 20;

/// What a request brings with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Nothing,
    /// [`ECHO_BYTES`] with `Content-Length`.
    Length,
    /// The same without a length: in chunks, or in frames until the stream ends.
    Parts,
}

/// A request, the same for every client. Programs of the `peers` folder have the same list.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub name: &'static str,
    pub method: &'static str,
    pub path: &'static str,
    pub content: Content,
}

impl Operation {
    pub fn of(name: &str) -> Self {
        OPERATIONS
            .into_iter()
            .find(|known| known.name == name)
            .unwrap_or_else(|| panic!("no operation {name}"))
    }
}

pub const OPERATIONS: [Operation; 7] = [
    Operation { name: "get", method: "GET", path: "/hello", content: Content::Nothing },
    Operation { name: "echo", method: "POST", path: "/echo", content: Content::Length },
    Operation { name: "stream", method: "POST", path: "/echo", content: Content::Parts },
    Operation { name: "head", method: "HEAD", path: "/hello", content: Content::Nothing },
    Operation { name: "none", method: "GET", path: "/none", content: Content::Nothing },
    Operation { name: "large", method: "GET", path: "/large", content: Content::Nothing },
    Operation { name: "seen", method: "GET", path: "/seen", content: Content::Nothing },
];

/// An answer, as far as the client tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Seen {
    pub status: u16,
    /// `None` where the client shows none.
    pub fields: Option<BTreeMap<String, String>>,
    pub length: usize,
    /// Whether the content is that of an echo and of the large answer; `None` where the client shows no content.
    pub patterned: Option<bool>,
    /// What is short; `None` where the client shows no content.
    pub text: Option<String>,
}

impl Seen {
    pub fn new(status: u16, fields: BTreeMap<String, String>, content: &[u8]) -> Self {
        let mut reader = Reader::default();
        reader.read(content);
        let text =
            if content.len() < 4096 { String::from_utf8_lossy(content).into_owned() } else { String::new() };
        Self {
            status,
            fields: Some(fields),
            length: content.len(),
            patterned: Some(!reader.differs),
            text: Some(text),
        }
    }

    /// Whether the operation came out as it must; otherwise what is wrong.
    pub fn judge(&self, name: &str) -> Result<(), String> {
        let patterned = self.patterned.unwrap_or(true);
        let right = match name {
            "get" => {
                self.status == 200
                    && self.length == 6
                    && self.text.as_deref().is_none_or(|text| text == "hello\n")
            }
            "echo" | "stream" => self.status == 200 && self.length == ECHO_BYTES && patterned,
            "large" => self.status == 200 && self.length == LARGE_BYTES && patterned,
            "head" => self.status == 200 && self.length == 0,
            "none" => self.status == 204 && self.length == 0,
            "seen" => self.status == 200,
            _ => false,
        };
        if right { Ok(()) } else { Err(format!("{} with {} bytes", self.status, self.length)) }
    }
}

/// What a client heard: by operation, an answer or why there is none. An operation that it cannot do is not there.
pub type Heard = BTreeMap<&'static str, Result<Seen, String>>;
