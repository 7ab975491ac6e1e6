//! A writer that gathers what many streams write into few records and system calls.
//!
//! `h2` asks for a flush after each frame that it queues. With many streams on one connection that is one TLS record and
//! one system call a request, the largest single cost between two sidecars. So `poll_flush` writes nothing here: bytes
//! gather in a buffer, and [`Flusher::turn`], called at the end of each poll of the connection, writes them once all
//! tasks that were ready have had their turn.
//!
//! A forgotten write would hang the connection, and an ignored error would lose data, hence the two rules: every poll of
//! a connection ends in `turn`, and an error is kept and returned to `h2` by its next call.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Past this many gathered bytes a write goes through at once, so a peer that does not read stops `h2` as if it wrote
/// itself. 64 KiB: four full TLS records.
const GATHERED_BYTES_MAX: usize = 64 << 10;
/// A drained buffer larger than this is given back. 4 KiB: two small answers; an idle connection should hold no more.
const KEPT_BYTES_MAX: usize = 4 << 10;

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
    gathered: RefCell<BytesMut>,
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
    let inner =
        Rc::new(Inner { io: RefCell::new(io), gathered: RefCell::default(), failed: Cell::new(None) });
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
        while !gathered.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, &gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            gathered.advance(written);
        }
        if gathered.capacity() > KEPT_BYTES_MAX {
            *gathered = BytesMut::new();
        } else {
            gathered.clear();
        }
        Pin::new(&mut *io).poll_flush(cx)
    }
}

impl<T: AsyncWrite + Unpin> Flusher<T> {
    /// Ends a poll of the connection: writes what was gathered, or, where `others` may add to it in this round of the
    /// executor, asks to be polled once more after them. Ready with an error only.
    pub fn turn(&mut self, others: bool, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.inner.gathered.borrow().is_empty() {
            self.waited = false;
            return Poll::Pending;
        }
        if others && !self.waited {
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
        if self.0.gathered.borrow().len() >= GATHERED_BYTES_MAX {
            ready!(self.0.poll_drain(cx))?;
        }
        self.0.gathered.borrow_mut().extend_from_slice(buf);
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
