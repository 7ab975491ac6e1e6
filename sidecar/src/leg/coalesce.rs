//! A writer that gathers what many streams write into few records and system calls.
//!
//! `h2` asks for a flush after each frame that it queues. With many streams on one connection that is one TLS record and
//! one system call a request, the largest single cost between two sidecars. So `poll_flush` writes nothing here: bytes
//! gather in a buffer, and [`Flusher::turn`], called at the end of each poll of the connection, writes them once all
//! tasks that were ready have had their turn.
//!
//! A forgotten write would hang the connection, and an ignored error would lose data, hence the two rules: every poll of
//! a connection ends in `turn`, and an error is kept and returned to `h2` by its next call.
//!
//! A connection that gathers much does so in a buffer that all connections of its thread pass on to each other: each drains it
//! in its turn, so that one, which is there already, is enough, and an idle connection holds none.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Past this many gathered bytes a write goes through at once, so a peer that does not read stops `h2` as if it wrote
/// itself. 64 KiB: four full TLS records.
const GATHERED_BYTES_MAX: usize = 64 << 10;
/// A drained buffer larger than this is passed on. 4 KiB: two small answers; an idle connection should hold no more.
const KEPT_BYTES_MAX: usize = 4 << 10;
/// The largest that waits for the next connection: all that may be gathered, and the write that went past it.
const SPARE_BYTES_MAX: usize = 2 * GATHERED_BYTES_MAX;
/// From so many on, a buffer is made as large as any may become. 32 KiB: two full frames.
const MUCH_BYTES: usize = 32 << 10;

thread_local! {
    /// What the last connection that gathered much has left. At most [`SPARE_BYTES_MAX`] a thread.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes that wait to be written.
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Of them, how many have been.
    written: usize,
}

impl Gathered {
    fn waiting(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    fn add(&mut self, more: &[u8]) {
        if !self.has_room(more.len()) {
            // A peer that always reads a little, and never all, would have what it has read kept for ever.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        if !self.has_room(more.len()) {
            let spare = SPARE.take();
            if spare.capacity() > self.bytes.capacity() {
                let small = std::mem::replace(&mut self.bytes, spare);
                self.bytes.extend_from_slice(&small);
            } else {
                SPARE.set(spare);
            }
        }
        if !self.has_room(more.len()) && self.bytes.len() + more.len() > MUCH_BYTES {
            // At once what may come: doubled from some sizes it would be larger than any that is passed on.
            self.bytes.reserve_exact(SPARE_BYTES_MAX.saturating_sub(self.bytes.len()).max(more.len()));
        }
        self.bytes.extend_from_slice(more);
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= bytes
    }

    /// All of them have been written.
    fn clear(&mut self) {
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() <= KEPT_BYTES_MAX {
            return;
        }
        let large = std::mem::take(&mut self.bytes);
        let spare = SPARE.take();
        SPARE.set(if spare.capacity() < large.capacity() && large.capacity() <= SPARE_BYTES_MAX {
            large
        } else {
            spare
        });
    }
}

/// How a connection broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("HTTP/2")]
    Http2(#[from] h2::Error),
    #[error("the peer does not answer")]
    Gone,
    /// It was ended for it.
    #[error("the client reset more streams than it may")]
    ResetFlood,
    #[error("writing what was gathered")]
    Write(#[source] io::Error),
}

struct Inner<T> {
    io: RefCell<T>,
    gathered: RefCell<Gathered>,
    /// TLS takes more than the socket does: what it has taken and not written yet has to be flushed by a later turn.
    unflushed: Cell<bool>,
    failed: Cell<Option<io::ErrorKind>>,
}

/// What `h2` reads from and writes to.
pub struct Coalescing<T>(Rc<Inner<T>>);

/// Writes what was gathered. Held by the task that polls the connection.
pub struct Flusher<T> {
    inner: Rc<Inner<T>>,
    /// Whether the gathered bytes have already waited for the other ready tasks.
    waited: bool,
}

/// Splits `io` into the end for `h2` and the end for its task.
pub fn coalescing<T>(io: T) -> (Coalescing<T>, Flusher<T>) {
    let inner = Rc::new(Inner {
        io: RefCell::new(io),
        gathered: RefCell::default(),
        unflushed: Cell::new(false),
        failed: Cell::new(None),
    });
    (Coalescing(Rc::clone(&inner)), Flusher { inner, waited: false })
}

impl<T: AsyncWrite + Unpin> Inner<T> {
    /// Writes all that was gathered, and flushes.
    fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed.get() {
            return Poll::Ready(Err(kind.into()));
        }
        let drained = self.poll_drain_unkept(cx);
        if let Poll::Ready(Err(error)) = &drained {
            self.failed.set(Some(error.kind()));
        }
        drained
    }

    fn poll_drain_unkept(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        let mut gathered = self.gathered.borrow_mut();
        while !gathered.waiting().is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, gathered.waiting()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            gathered.written += written;
            self.unflushed.set(true);
        }
        gathered.clear();
        let flushed = Pin::new(&mut *io).poll_flush(cx);
        self.unflushed.set(flushed.is_pending());
        flushed
    }
}

impl<T: AsyncWrite + Unpin> Flusher<T> {
    /// Ends a poll of the connection: writes what was gathered, or, where `others` may add to it in this round of the
    /// executor, asks to be polled once more after them. Ready with an error only.
    pub fn turn(&mut self, others: bool, cx: &mut Context<'_>) -> Poll<io::Error> {
        let has_new = !self.inner.gathered.borrow().waiting().is_empty();
        if !has_new && !self.inner.unflushed.get() {
            self.waited = false;
            return Poll::Pending;
        }
        if has_new && others && !self.waited {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        match self.inner.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(error),
            // Where the socket is full, it wakes us; otherwise the next frame does.
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }

    /// Writes the rest and closes the writing half.
    pub fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.inner.poll_drain(cx))?;
        Pin::new(&mut *self.inner.io.borrow_mut()).poll_shutdown(cx)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalescing<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalescing<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.0.failed.get() {
            return Poll::Ready(Err(kind.into()));
        }
        if self.0.gathered.borrow().waiting().len() >= GATHERED_BYTES_MAX {
            ready!(self.0.poll_drain(cx))?;
        }
        self.0.gathered.borrow_mut().add(buf);
        Poll::Ready(Ok(buf.len()))
    }

    /// Writes nothing: [`Flusher::turn`] does.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.failed.get() {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_drain(cx))?;
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
