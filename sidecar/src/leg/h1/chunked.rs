//! Content in chunks (RFC 9112, section 7.1), taken apart as it comes in.

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;

use super::head;
use super::malformed::Malformed;
use super::scan::{Limits, Scanner};

/// Digits of a chunk's size. 15: the size and what is added to it fit into 64 bits.
const SIZE_DIGITS_MAX: u32 = 15;
/// All extensions of one message together, in bytes. 4 KiB: nobody uses them, and a peer could send nothing else.
const EXTENSION_BYTES_MAX: usize = 4 << 10;

/// The next part of the content.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// More bytes are needed.
    More,
    Data(Bytes),
    /// The end, with the fields that followed.
    End(Option<HeaderMap>),
}

#[derive(Debug, Clone)]
enum State {
    Size {
        size: u64,
        digits: u32,
    },
    /// White space after the size: an extension must follow (RFC 9112, section 7.1.1).
    SizeSpace {
        size: u64,
    },
    Extension {
        size: u64,
    },
    SizeLineFeed {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataEnd {
        seen_cr: bool,
    },
    Trailers(Scanner),
    End,
}

#[derive(Debug, Clone)]
pub struct Chunked {
    state: State,
    extension_bytes: usize,
    limits: Limits,
}

impl Chunked {
    pub fn new(limits: Limits) -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, extension_bytes: 0, limits }
    }

    /// Bytes of the chunk that is under way that are still to come.
    pub fn expected(&self) -> u64 {
        match self.state {
            State::Data { left } => left,
            _ => 0,
        }
    }

    /// Takes the next part out of `bytes`. After an error, or the end, call it no more.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Part, Malformed> {
        loop {
            if let State::Trailers(scanner) = &mut self.state {
                let Some(length) = scanner.scan(bytes, &self.limits)? else { return Ok(Part::More) };
                let section = bytes.split_to(length).freeze();
                self.state = State::End;
                let fields = head::trailers(&section, &self.limits)?;
                return Ok(Part::End((!fields.is_empty()).then_some(fields)));
            }
            let Some(&byte) = bytes.first() else { return Ok(Part::More) };
            self.state = match self.state {
                State::Data { left } => {
                    let part = bytes.split_to(usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len()));
                    let left = left - part.len() as u64;
                    self.state =
                        if left == 0 { State::DataEnd { seen_cr: false } } else { State::Data { left } };
                    return Ok(Part::Data(part.freeze()));
                }
                State::Size { size, digits } => match char::from(byte).to_digit(16) {
                    Some(_) if digits == SIZE_DIGITS_MAX => return Err(Malformed::ChunkSize),
                    Some(digit) => State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 },
                    None if digits == 0 => return Err(Malformed::ChunkSize),
                    None => match byte {
                        b'\r' => State::SizeLineFeed { size },
                        b';' => State::Extension { size },
                        b' ' | b'\t' => State::SizeSpace { size },
                        b'\n' => return Err(Malformed::BareLineFeed),
                        _ => return Err(Malformed::ChunkSize),
                    },
                },
                State::SizeSpace { size } => match byte {
                    b';' => State::Extension { size },
                    b' ' | b'\t' => {
                        self.extension(byte, size)?;
                        State::SizeSpace { size }
                    }
                    _ => return Err(Malformed::ChunkSize),
                },
                State::Extension { size } => self.extension(byte, size)?,
                State::SizeLineFeed { size } => match (byte, size) {
                    (b'\n', 0) => State::Trailers(Scanner::of_trailers()),
                    (b'\n', left) => State::Data { left },
                    _ => return Err(Malformed::BareCarriageReturn),
                },
                State::DataEnd { seen_cr } => match (byte, seen_cr) {
                    (b'\r', false) => State::DataEnd { seen_cr: true },
                    (b'\n', true) => State::Size { size: 0, digits: 0 },
                    _ => return Err(Malformed::ChunkEnd),
                },
                State::Trailers(_) | State::End => return Ok(Part::End(None)),
            };
            bytes.advance(1);
        }
    }

    /// Read over: an extension means nothing to anybody but the next hop.
    fn extension(&mut self, byte: u8, size: u64) -> Result<State, Malformed> {
        self.extension_bytes += 1;
        match byte {
            b'\r' => Ok(State::SizeLineFeed { size }),
            b'\n' => Err(Malformed::BareLineFeed),
            b' '..=b'~' | b'\t' if self.extension_bytes <= EXTENSION_BYTES_MAX => {
                Ok(State::Extension { size })
            }
            _ => Err(Malformed::ChunkExtension),
        }
    }
}
