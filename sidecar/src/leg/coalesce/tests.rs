//! The two rules: nothing that was written is forgotten, and no error is lost.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

use super::*;

/// Counts writes, and fails after a number of them.
struct Sink {
    writes: Rc<Cell<usize>>,
    fails_after: usize,
    /// So many flushes find the socket full, as under TLS, which takes more than the socket does.
    full: Rc<Cell<usize>>,
}

impl AsyncRead for Sink {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.writes.get() == self.fails_after {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.writes.set(self.writes.get() + 1);
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(left) = self.full.get().checked_sub(1) else { return Poll::Ready(Ok(())) };
        self.full.set(left);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn sink(fails_after: usize) -> (Coalescing<Sink>, Flusher<Sink>, Rc<Cell<usize>>) {
    let writes = Rc::new(Cell::new(0));
    let (io, flusher) = coalescing(Sink { writes: Rc::clone(&writes), fails_after, full: Rc::default() });
    (io, flusher, writes)
}

async fn write(io: &mut Coalescing<Sink>, bytes: &[u8]) -> io::Result<usize> {
    poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, bytes)).await
}

/// One turn; `Some` is its error.
async fn turn(flusher: &mut Flusher<Sink>, others: bool) -> Option<io::Error> {
    poll_fn(|cx| {
        Poll::Ready(match flusher.turn(others, cx) {
            Poll::Ready(error) => Some(error),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn many_frames_and_flushes_become_one_write() {
    let (mut io, mut flusher, writes) = sink(usize::MAX);
    for _ in 0..20 {
        write(&mut io, b"frame").await.expect("gathers");
        poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await.expect("writes nothing");
    }
    assert_eq!(writes.get(), 0);
    assert!(turn(&mut flusher, false).await.is_none());
    assert_eq!(writes.get(), 1);
}

#[tokio::test]
async fn where_others_may_add_the_write_waits_for_exactly_one_more_turn() {
    let (mut io, mut flusher, writes) = sink(usize::MAX);
    write(&mut io, b"frame").await.expect("gathers");
    assert!(turn(&mut flusher, true).await.is_none());
    assert_eq!(writes.get(), 0);
    assert!(turn(&mut flusher, true).await.is_none());
    assert_eq!(writes.get(), 1, "a second turn writes, whoever is ready");
}

#[tokio::test]
async fn what_was_taken_and_found_no_way_out_is_flushed_by_the_turns_that_follow() {
    let full = Rc::new(Cell::new(2));
    let (mut io, mut flusher) =
        coalescing(Sink { writes: Rc::default(), fails_after: 9, full: Rc::clone(&full) });
    write(&mut io, b"frame").await.expect("gathers");
    for left in [1, 0] {
        assert!(turn(&mut flusher, false).await.is_none());
        assert_eq!(full.get(), left, "nothing new was gathered, and yet it is flushed");
    }
    assert!(turn(&mut flusher, false).await.is_none());
    assert!(!flusher.inner.unflushed.get());
}

#[tokio::test]
async fn who_always_reads_a_little_and_never_all_has_no_more_gathered_than_may_be() {
    let (near, mut far) = tokio::io::duplex(20 << 10);
    let (mut io, _flusher) = coalescing(near);
    let (mut sent, mut read) = (Vec::new(), Vec::new());
    for turn in 0..1_000_u32 {
        tokio::task::yield_now().await;
        let chunk = vec![u8::try_from(turn % 251).expect("small"); 16 << 10];
        let wrote = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_write(cx, &chunk))).await;
        if let Poll::Ready(wrote) = wrote {
            sent.extend_from_slice(&chunk[..wrote.expect("the pipe is open")]);
        }
        let mut some = [0; 12 << 10];
        let mut some = ReadBuf::new(&mut some);
        // Nothing may be there to be read.
        let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut far).poll_read(cx, &mut some))).await;
        read.extend_from_slice(some.filled());
        let capacity = io.0.gathered.borrow().bytes.capacity();
        assert!(
            capacity <= 2 * SPARE_BYTES_MAX,
            "{capacity} after {turn} writes, of which {} bytes are read",
            read.len()
        );
    }
    assert!(read.len() > 8 * SPARE_BYTES_MAX, "{}", read.len());
    assert!(sent.starts_with(&read), "in order, and none twice");
}

#[tokio::test]
async fn what_one_connection_gathered_in_the_next_one_takes_and_an_idle_one_holds_nothing() {
    let much = vec![7_u8; 32 << 10];
    let (mut first, mut first_flusher, _) = sink(usize::MAX);
    write(&mut first, &much).await.expect("gathers");
    assert!(turn(&mut first_flusher, false).await.is_none());
    assert_eq!(first.0.gathered.borrow().bytes.capacity(), 0);
    let (mut second, mut second_flusher, _) = sink(usize::MAX);
    write(&mut second, b"a little").await.expect("gathers");
    write(&mut second, &much).await.expect("gathers");
    let expected = [b"a little".as_slice(), &much].concat();
    assert_eq!(second.0.gathered.borrow().waiting(), expected);
    assert!(turn(&mut second_flusher, false).await.is_none());
    assert_eq!(second.0.gathered.borrow().bytes.capacity(), 0);
    assert!(SPARE.take().capacity() >= much.len(), "the larger buffer waits for the next");
}

#[tokio::test]
async fn a_failed_write_is_told_to_the_task_and_to_every_later_call() {
    let (mut io, mut flusher, _) = sink(0);
    write(&mut io, b"frame").await.expect("gathers");
    let error = turn(&mut flusher, false).await.expect("the write failed");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(write(&mut io, b"more").await.expect_err("kept").kind(), io::ErrorKind::ConnectionReset);
    let flushed = poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await;
    assert_eq!(flushed.expect_err("kept").kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn past_its_bound_it_writes_at_once_so_that_a_slow_reader_stops_the_writer() {
    let (near, mut far) = tokio::io::duplex(1 << 10);
    let (mut io, mut flusher) = coalescing(near);
    let chunk = vec![7_u8; 16 << 10];
    let mut gathered = 0;
    loop {
        let wrote = poll_fn(|cx| match Pin::new(&mut io).poll_write(cx, &chunk) {
            Poll::Ready(wrote) => Poll::Ready(Some(wrote.expect("the pipe is open"))),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        match wrote {
            Some(n) => gathered += n,
            None => break,
        }
        assert!(
            gathered <= GATHERED_BYTES_MAX + 2 * chunk.len(),
            "{gathered} bytes gathered for a peer that does not read"
        );
    }
    assert!(far.read(&mut [0; 16]).await.expect("something was written") == 16);
    let reader = async move {
        let mut all = Vec::new();
        far.read_to_end(&mut all).await.map(|n| n + 16)
    };
    let finish = async move {
        poll_fn(|cx| flusher.poll_finish(cx)).await.expect("the reader reads");
        drop((io, flusher));
    };
    let (read, ()) = tokio::join!(reader, finish);
    assert_eq!(read.expect("the writer closed"), gathered, "every byte arrives, and none twice");
}
