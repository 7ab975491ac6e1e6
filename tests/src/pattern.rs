//! Bodies of any length in constant memory, whose every byte can be checked: byte `i` is `i % 251`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A prime, so that a lost or doubled chunk of any usual size shows.
const PERIOD: u64 = 251;
/// One frame of a body. 64 KiB: larger than any frame between sidecars, smaller than any window.
pub const CHUNK_BYTES: u64 = 64 << 10;

fn bytes_at(offset: u64, length: u64) -> Bytes {
    static LONG: OnceLock<Bytes> = OnceLock::new();
    let long = LONG.get_or_init(|| (0..PERIOD + CHUNK_BYTES).map(|at| byte(at % PERIOD)).collect());
    let start = index(offset % PERIOD);
    long.slice(start..start + index(length))
}

fn byte(value: u64) -> u8 {
    u8::try_from(value).expect("a remainder of 251")
}

fn index(value: u64) -> usize {
    usize::try_from(value).expect("less than a chunk and a period")
}

/// The first `length` bytes.
pub fn bytes(length: usize) -> Vec<u8> {
    (0..PERIOD).map(byte).cycle().take(length).collect()
}

/// The first `length` bytes as a body.
#[derive(Debug)]
pub struct Pattern {
    at: u64,
    length: u64,
    produced: Arc<AtomicU64>,
}

impl Pattern {
    pub fn new(length: u64) -> Self {
        Self { at: 0, length, produced: Arc::default() }
    }

    /// How many bytes have been asked for so far, while the body is on its way.
    pub fn produced(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.produced)
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = CHUNK_BYTES.min(self.length - self.at);
        if length == 0 {
            return Poll::Ready(None);
        }
        let data = bytes_at(self.at, length);
        self.at += length;
        self.produced.store(self.at, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.length
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length - self.at)
    }
}

/// Reads bytes and remembers whether they were the pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reader {
    pub length: u64,
    pub differs: bool,
}

impl Reader {
    pub fn read(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let part = data.len().min(index(CHUNK_BYTES));
            let expected = bytes_at(self.length, part as u64);
            self.differs |= expected != data[..part];
            self.length += part as u64;
            data = &data[part..];
        }
    }
}
