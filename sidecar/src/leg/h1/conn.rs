//! A connection that two sides of a task tree share: whoever reads a body, and whoever reads heads and writes.
//!
//! A body reads the socket itself. There is no task for a connection and no channel for a body, so a chunk passes from
//! the kernel to the next leg in one poll. At any time one of them reads: the body while it lasts, the owner before and
//! after it; each leaves its waker where the other finds it.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Frame;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::chunked::{Chunked, Part};
use super::framing::Framing;
use super::malformed::Malformed;
use super::scan::{Limits, Scanner};
use crate::leg::wire::Wire;

mod incoming;

pub use self::incoming::Incoming;

/// One read, in bytes. 16 KiB: a TLS record; a head and a small body come in one. The buffer is the thread's, so an idle
/// connection has none.
const READ_BYTES: usize = 16 << 10;
/// Reads of a body that has at least so much to come go into a buffer of their own, and are not copied. 64 KiB: four TLS
/// records.
const BODY_READ_BYTES: usize = 64 << 10;
/// A written buffer larger than this is given back.
const KEPT_BYTES_MAX: usize = 4 << 10;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// How a connection, or a message on it, broke off.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("the message is malformed")]
    Malformed(#[from] Malformed),
    #[error("the connection was closed in the middle of a message")]
    Truncated,
    #[error("the content is longer or shorter than was announced")]
    Length,
}

/// What is being read.
enum Reading {
    /// Nothing, or a head: the owner reads.
    Owner,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    /// What follows is nobody's before the answer: a tunnel's bytes, or the next request.
    Undecided,
    Failed,
}

pub struct Conn {
    wire: RefCell<Wire>,
    input: RefCell<BytesMut>,
    pub(super) output: RefCell<BytesMut>,
    reading: RefCell<Reading>,
    /// Counts messages, so that a body that outlives its own cannot read the next.
    message: Cell<u32>,
    /// Nobody reads the body any more.
    orphaned: Cell<bool>,
    /// What was wrong with the body.
    malformed: Cell<Option<Malformed>>,
    /// A tunnel could not be written to: what is read of it now ends by that, not as if it were whole.
    pub(super) broken: Cell<bool>,
    /// Our message has been written to its end.
    whole: Cell<bool>,
    /// Waits for the body's end.
    owner: Cell<Option<Waker>>,
    /// Waits for the decision about a tunnel.
    reader: Cell<Option<Waker>>,
    pub(super) limits: Limits,
}

impl Conn {
    pub fn new(wire: Wire, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            wire: RefCell::new(wire),
            input: RefCell::default(),
            output: RefCell::default(),
            reading: RefCell::new(Reading::Owner),
            message: Cell::new(0),
            orphaned: Cell::new(false),
            malformed: Cell::new(None),
            broken: Cell::new(false),
            whole: Cell::new(true),
            owner: Cell::new(None),
            reader: Cell::new(None),
            limits,
        })
    }

    /// Reads once; 0 is the end. `expected`: bytes of a body that are known to come.
    fn poll_fill(&self, expected: u64, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut wire = self.wire.borrow_mut();
        let mut input = self.input.borrow_mut();
        if expected >= READ_BYTES as u64 {
            let room = usize::try_from(expected).unwrap_or(BODY_READ_BYTES).min(BODY_READ_BYTES);
            input.reserve(room);
            return tokio_util::io::poll_read_buf(Pin::new(&mut *wire), cx, &mut *input);
        }
        READ.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *wire).poll_read(cx, &mut read))?;
            input.extend_from_slice(read.filled());
            Poll::Ready(Ok(read.filled().len()))
        })
    }

    /// The next head, whole; `None`: the peer has closed before it.
    pub fn poll_head(
        &self,
        scanner: &mut Scanner,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            {
                let mut input = self.input.borrow_mut();
                if let Some(length) = scanner.scan(&input, &self.limits)? {
                    let head = if length == input.len() {
                        std::mem::take(&mut *input)
                    } else {
                        input.split_to(length)
                    };
                    return Poll::Ready(Ok(Some(head.freeze())));
                }
            }
            if ready!(self.poll_fill(0, cx))? == 0 {
                let nothing = self.input.borrow().is_empty();
                return Poll::Ready(if nothing { Ok(None) } else { Err(Broken::Truncated) });
            }
        }
    }

    /// Whether bytes lie here that no message has claimed.
    pub fn has_unread(&self) -> bool {
        !self.input.borrow().is_empty()
    }

    /// Reads once, and forgets what came; 0 is the end.
    pub fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.take();
        self.poll_fill(0, cx)
    }

    /// Ready once the peer is gone. Reads ahead what comes meanwhile, up to a read's worth: past that it is not looked at
    /// any more, since a client that sends that much is there.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Before its answer nobody reads a tunnel's bytes: what is read here it finds in the buffer.
        if !matches!(*self.reading.borrow(), Reading::Owner | Reading::Undecided) {
            return Poll::Pending;
        }
        while self.input.borrow().len() < READ_BYTES {
            match ready!(self.poll_fill(0, cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    /// A head was read: its content is the body's to read.
    pub fn begin(self: &Rc<Self>, framing: Framing) -> Option<Incoming> {
        let reading = match framing {
            Framing::None => return None,
            Framing::Length(bytes) => Reading::Length(bytes),
            Framing::Chunked => Reading::Chunked(Chunked::new(self.limits)),
            Framing::UntilClose => Reading::UntilClose,
            Framing::Tunnel => Reading::Undecided,
        };
        self.reading.replace(reading);
        self.message.set(self.message.get().wrapping_add(1));
        self.orphaned.set(false);
        Some(Incoming::new(self))
    }

    /// The other side has agreed to a tunnel, or has not: then what follows is the next message.
    pub fn decide(&self, tunnel: Tunnel) {
        let mut reading = self.reading.borrow_mut();
        if matches!(*reading, Reading::Undecided) {
            *reading = match tunnel {
                Tunnel::Open => Reading::UntilClose,
                Tunnel::Refused => Reading::Owner,
            };
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
    }

    /// Whether the body was read to its end, or there was none.
    pub fn is_read(&self) -> bool {
        matches!(*self.reading.borrow(), Reading::Owner)
    }

    /// What was wrong with a body.
    pub fn malformed(&self) -> Option<Malformed> {
        self.malformed.get()
    }

    /// Waits until nobody else reads the body: it has ended, or was dropped.
    pub fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.orphaned.get() || matches!(*self.reading.borrow(), Reading::Owner | Reading::Failed) {
            return Poll::Ready(());
        }
        self.owner.set(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// The next part of the body.
    pub fn poll_body(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.poll_part(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
            Poll::Ready(None) => self.ended(Reading::Owner),
            Poll::Ready(Some(Err(error))) => {
                if let Broken::Malformed(malformed) = error {
                    self.malformed.set(Some(*malformed));
                }
                self.ended(Reading::Failed);
            }
        }
        polled
    }

    fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let mut reading = self.reading.borrow_mut();
            let expected = match &mut *reading {
                Reading::Owner => return Poll::Ready(None),
                Reading::Failed => return Poll::Ready(Some(Err(Broken::Truncated))),
                Reading::Undecided => {
                    self.reader.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Reading::Length(left) => {
                    if let Some(data) = self.take(*left) {
                        *left -= data.len() as u64;
                        if *left == 0 {
                            drop(reading);
                            self.ended(Reading::Owner);
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    *left
                }
                Reading::Chunked(chunked) => match chunked.next(&mut self.input.borrow_mut()) {
                    Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
                    Ok(Part::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Part::End(None)) => return Poll::Ready(None),
                    Ok(Part::End(Some(trailers))) => {
                        drop(reading);
                        self.ended(Reading::Owner);
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Ok(Part::More) => chunked.expected(),
                },
                Reading::UntilClose => {
                    if let Some(data) = self.take(u64::MAX) {
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    READ_BYTES as u64
                }
            };
            let until_close = matches!(*reading, Reading::UntilClose);
            drop(reading);
            match ready!(self.poll_fill(expected, cx)) {
                Ok(0) if until_close && !self.broken.get() => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(Broken::Truncated))),
                Ok(_) => {}
                // A browser that is closed says nothing over TLS before its connection ends.
                Err(error) if until_close && error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(None);
                }
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Up to `most` bytes of what lies here; `None`: nothing.
    fn take(&self, most: u64) -> Option<Bytes> {
        let mut input = self.input.borrow_mut();
        if input.is_empty() {
            return None;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let data = if input.len() <= most { std::mem::take(&mut *input) } else { input.split_to(most) };
        Some(data.freeze())
    }

    fn ended(&self, how: Reading) {
        self.reading.replace(how);
        if let Some(owner) = self.owner.take() {
            owner.wake();
        }
    }

    /// A message of ours begins, with content to come or without.
    pub fn begin_writing(&self, content: bool) {
        self.whole.set(!content);
    }

    /// Its end lies in the buffer, at the latest.
    pub(super) fn written(&self) {
        self.whole.set(true);
    }

    /// Whether our last message has gone out as a whole.
    pub fn is_written(&self) -> bool {
        self.whole.get() && self.unwritten() == 0
    }

    /// Bytes that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.output.borrow().len()
    }

    /// Writes what waits, and of `data` what the socket takes with it. Ready when none waits; of `data` some may be left.
    pub fn poll_write(&self, data: &mut Bytes, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut output = self.output.borrow_mut();
        let mut wire = self.wire.borrow_mut();
        while !output.is_empty() || !data.is_empty() {
            let written = if data.is_empty() {
                ready!(Pin::new(&mut *wire).poll_write(cx, &output))?
            } else {
                let both = [IoSlice::new(&output), IoSlice::new(data)];
                ready!(Pin::new(&mut *wire).poll_write_vectored(cx, &both))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_output = written.min(output.len());
            output.advance(of_output);
            data.advance(written - of_output);
        }
        if output.capacity() > KEPT_BYTES_MAX {
            *output = BytesMut::new();
        } else {
            output.clear();
        }
        Pin::new(&mut *wire).poll_flush(cx)
    }

    /// Writes what waits.
    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write(&mut Bytes::new(), cx)
    }

    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.wire.borrow_mut()).poll_shutdown(cx)
    }

    /// Its end, by drop, is a reset: what was written so far is not all, and nothing else would say so.
    pub fn break_off(&self) {
        self.wire.borrow().break_off();
    }

    /// Gives back what an idle connection does not need.
    pub fn rest(&self) {
        let mut output = self.output.borrow_mut();
        if output.is_empty() {
            *output = BytesMut::new();
        }
    }
}

/// The answer to the wish for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    Open,
    Refused,
}
