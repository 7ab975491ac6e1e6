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

/// Judges a connection byte by byte, each in the same short time: strangers choose how many come at once.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    /// Bytes so far.
    length: usize,
    /// They are not the preface's.
    no_preface: bool,
    line: Line,
    /// What the first line tells; withheld while the bytes may still become the preface.
    told: Option<Verdict>,
}

/// Where in the first line it is.
#[derive(Debug, Clone, Copy, Default)]
enum Line {
    /// Before its first word.
    #[default]
    Before,
    FirstWord,
    /// Behind it. `word`: how the word that is being read begins, or the last one, once blanks follow.
    Behind {
        word: Word,
        ended: bool,
    },
}

/// How a word begins.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// With so many bytes of [`VERSION`].
    Version(usize),
    Other,
}

impl Judge {
    /// What all bytes so far tell. Once that is anything but [`Verdict::More`], more bytes change nothing.
    pub fn see(&mut self, bytes: &[u8]) -> Verdict {
        for byte in bytes {
            match self.next(*byte) {
                Verdict::More => {}
                told => return told,
            }
        }
        self.verdict()
    }

    fn next(&mut self, byte: u8) -> Verdict {
        if self.verdict() == Verdict::More {
            self.no_preface |= PREFACE.get(self.length) != Some(&byte);
            self.length += 1;
            if self.told.is_none() {
                self.told = self.line.next(byte);
            }
        }
        self.verdict()
    }

    fn verdict(&self) -> Verdict {
        match self.told {
            _ if !self.no_preface && self.length == PREFACE.len() => Verdict::Http2,
            _ if !self.no_preface => Verdict::More,
            Some(told) => told,
            None if self.length >= BYTES_MAX => Verdict::Http1,
            None => Verdict::More,
        }
    }
}

impl Line {
    /// What the line tells by now, if anything.
    fn next(&mut self, byte: u8) -> Option<Verdict> {
        match *self {
            Self::Before if is_blank(byte) => {}
            Self::Before if is_token(byte) => *self = Self::FirstWord,
            Self::FirstWord if is_token(byte) => {}
            Self::FirstWord if byte == b'\n' => return Some(Verdict::Opaque),
            Self::FirstWord if is_blank(byte) => *self = Self::Behind { word: Word::Other, ended: true },
            Self::Before | Self::FirstWord => return Some(Verdict::Opaque),
            Self::Behind { word, .. } if is_blank(byte) => {
                let version = matches!(word, Word::Version(matched) if matched == VERSION.len());
                match byte {
                    b'\r' | b'\n' if version => return Some(Verdict::Http1),
                    b'\n' => return Some(Verdict::Opaque),
                    _ => *self = Self::Behind { word, ended: true },
                }
            }
            Self::Behind { .. } if byte.is_ascii_control() => return Some(Verdict::Opaque),
            Self::Behind { word, ended } => {
                let word = if ended { Word::Version(0) } else { word };
                *self = Self::Behind { word: word.next(byte), ended: false };
            }
        }
        None
    }
}

impl Word {
    fn next(self, byte: u8) -> Self {
        match self {
            Self::Version(matched) if matched == VERSION.len() => self,
            Self::Version(matched) if VERSION[matched].eq_ignore_ascii_case(&byte) => {
                Self::Version(matched + 1)
            }
            Self::Version(_) | Self::Other => Self::Other,
        }
    }
}

/// What some reader takes for white space.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ' | 0x85 | 0xa0)
}

/// Of a method (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
