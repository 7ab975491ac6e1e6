//! HTTP/2 by the frame: a client that sends whatever it is told to, and reads what comes.
//!
//! Fields are literals without Huffman coding, so that a case can put any byte in them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames (RFC 9113, section 6).
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
}

/// Error codes (RFC 9113, section 7).
pub mod code {
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// A frame's bytes; its length is that of the payload.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is small");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload = pairs.iter().flat_map(|(id, value)| {
        let mut pair = id.to_be_bytes().to_vec();
        pair.extend(value.to_be_bytes());
        pair
    });
    frame(kind::SETTINGS, 0, 0, &payload.collect::<Vec<_>>())
}

pub fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, bytes)
}

/// A whole head, or trailers, in one frame.
pub fn headers(stream: u32, fields: &[(&[u8], &[u8])], end: bool) -> Vec<u8> {
    let flags = flag::END_HEADERS | if end { flag::END_STREAM } else { 0 };
    frame(kind::HEADERS, flags, stream, &block(fields))
}

/// Fields as HPACK literals without indexing (RFC 7541, section 6.2.2).
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// One field, kept in the dynamic table (RFC 7541, section 6.2.1).
pub fn indexed_literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut block = vec![0x40];
    text(&mut block, name);
    text(&mut block, value);
    block
}

fn text(block: &mut Vec<u8>, text: &[u8]) {
    // An integer with a prefix of 7 bits (RFC 7541, section 5.1), without the bit for Huffman coding.
    let mut rest = text.len();
    if rest < 127 {
        block.push(u8::try_from(rest).expect("below 127"));
    } else {
        block.push(127);
        rest -= 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).expect("below 128") | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).expect("below 128"));
    }
    block.extend(text);
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// Of a head: its status, as far as it is in the static table or a literal.
    pub fn status(&self) -> Option<u16> {
        let block = &self.payload;
        match *block.first()? {
            0x88 => Some(200),
            0x89 => Some(204),
            0x8a => Some(206),
            0x8b => Some(304),
            0x8c => Some(400),
            0x8d => Some(404),
            0x8e => Some(500),
            // A literal with the name of index 8 to 14.
            first if matches!(first & 0x3f, 8..=14) => digits(block.get(1..)?),
            _ => None,
        }
    }

    /// The error code, of `RST_STREAM` and of `GOAWAY`.
    pub fn code(&self) -> Option<u32> {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

/// Three digits, as they are or in Huffman coding, where 0 to 2 take five bits and the others six.
fn digits(text: &[u8]) -> Option<u16> {
    let (&length, rest) = text.split_first()?;
    let bytes = rest.get(..usize::from(length & 0x7f))?;
    if length & 0x80 == 0 {
        return std::str::from_utf8(bytes).ok()?.parse().ok();
    }
    let mut bits: VecDeque<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let mut number = 0;
    for _ in 0..3 {
        let mut take =
            |count: usize| bits.drain(..count.min(bits.len())).fold(0_u16, |n, bit| n << 1 | u16::from(bit));
        let five = take(5);
        // 3 is 011001.
        number = number * 10 + if five <= 2 { five } else { (five << 1 | take(1)) - 0b01_1001 + 3 };
    }
    Some(number)
}

/// Room for one read.
const READ_BYTES: usize = 16 << 10;
/// How long a client waits for a frame.
const FRAME_MAX: Duration = Duration::from_secs(10);

/// A connection of such a client. SETTINGS and PING of the other side are acknowledged.
pub struct Peer {
    input: OwnedReadHalf,
    output: OwnedWriteHalf,
    bytes: Vec<u8>,
}

impl Peer {
    /// With the preface, and these settings.
    pub async fn connect(address: SocketAddr, pairs: &[(u16, u32)]) -> Self {
        let mut peer = Self::bare(address).await;
        peer.send(&[PREFACE, &settings(pairs)].concat()).await.expect("a new connection takes it");
        peer
    }

    /// With nothing sent.
    pub async fn bare(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("what is under test listens");
        stream.set_nodelay(true).expect("an option of every socket");
        let (input, output) = stream.into_split();
        Self { input, output, bytes: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes).await
    }

    /// Sends, and reads and drops what comes meanwhile, so that neither side waits for the other; an error once the
    /// other side has closed.
    pub async fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.bytes.reserve(READ_BYTES);
            tokio::select! {
                biased;
                read = self.input.read_buf(&mut self.bytes) => if read? == 0 {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                },
                written = self.output.write(bytes) => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }

    /// The next frame; `None`: the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.raw().await?;
            let answer = match (frame.kind, frame.flags & flag::ACK) {
                (kind::SETTINGS, 0) => self::frame(kind::SETTINGS, flag::ACK, 0, &[]),
                (kind::PING, 0) => self::frame(kind::PING, flag::ACK, 0, &frame.payload),
                (kind::SETTINGS | kind::PING, _) => continue,
                _ => return Some(frame),
            };
            // It may be closed already: the next read tells.
            let _ = self.send(&answer).await;
        }
    }

    async fn raw(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            self.bytes.reserve(READ_BYTES);
            let read = tokio::time::timeout(FRAME_MAX, self.input.read_buf(&mut self.bytes)).await;
            match read.expect("a frame, or the end of the connection, comes within 10 s") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (head, rest) = self.bytes.split_first_chunk::<9>()?;
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let length = usize::try_from(number(0) >> 8).expect("24 bits");
        let payload = rest.get(..length)?.to_vec();
        let frame = Frame { kind: head[3], flags: head[4], stream: number(5) & 0x7fff_ffff, payload };
        self.bytes.drain(..9 + length);
        Some(frame)
    }

    /// Up to what becomes of a stream: the first frame that says it.
    pub async fn fate(&mut self, stream: u32) -> Fate {
        loop {
            let Some(frame) = self.next().await else { return Fate::Closed };
            let code = frame.code().unwrap_or(u32::MAX);
            match frame.kind {
                kind::GOAWAY if code != code::NO_ERROR => return Fate::GoAway(code),
                kind::RST_STREAM if frame.stream == stream => return Fate::Reset(code),
                kind::HEADERS if frame.stream == stream => {
                    let status = frame.status().unwrap_or_default();
                    if status >= 200 || status == 0 {
                        return Fate::Answered(status);
                    }
                }
                _ => {}
            }
        }
    }
}

/// What becomes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// With this status; 0: with one that is written in another way.
    Answered(u16),
    Reset(u32),
    GoAway(u32),
    /// The connection ended without a word.
    Closed,
}
