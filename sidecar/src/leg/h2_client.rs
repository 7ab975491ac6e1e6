//! One HTTP/2 connection as a client: to another sidecar over TLS, or to an app in plaintext.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use rand::Rng as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::coalesce::{Broken, Flusher, coalescing};
use super::interim::{INTERIM_MAX, Interim};
use super::keepalive::{Far, Keepalive, Peer};

/// Room for each stream of a client, in bytes. 256 KiB: 1 Gbit/s at 2 ms.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Room for each answer, by how far away the peer is: what a stream of 1 Gbit/s has on its way. What lies in it of a large body
/// is read in one go and kept for whoever does not read it, so no more than that, and 1 MiB at most: 8 ms.
const ANSWER_WINDOW_BYTES: std::ops::RangeInclusive<u32> = 128 << 10..=1 << 20;
const ANSWER_BYTES_PER_SECOND: f64 = 125e6;
/// Room for all streams of a connection: sixty-four streams that nobody reads do not stop the next.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest list of header fields that we take, by HTTP/2's count. 64 KiB: what Envoy takes by default is 60.
pub const HEADER_BYTES_MAX: u32 = 64 << 10;
/// What one stream may have queued inside `h2`, in bytes; the pump waits past that.
pub const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;
/// What unread frames of less than 256 bytes may cost, by `h2`'s count: 256 less their length each. 64 MiB: 300,000 of them, which
/// hold some 30 MiB, and dozens of streams of small messages that nobody reads. By `h2`'s own default a dozen end the connection.
pub const SMALL_FRAMES_MAX: usize = 64 << 20;
/// Streams that were reset here, and whose peer may not have heard of it. As many as there may be: past that, what is still on its
/// way of them would end the connection.
pub const RESET_STREAMS_MAX: usize = 1_024;
/// After the last stream of a retired connection, its GOAWAY may take this long to be written.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// What everyone who holds the connection may know of it.
#[derive(Default)]
pub struct Load {
    /// Requests that have not ended.
    active: Cell<u32>,
    closed: Cell<bool>,
    /// No new requests: it is about to be closed.
    retired: Cell<bool>,
    /// No new requests while the peer does not answer.
    stalled: Cell<bool>,
    /// Requests that were sent on it so far.
    sent: Cell<u64>,
    waker: Cell<Option<std::task::Waker>>,
}

/// A request on the connection; its drop ends it.
pub struct Slot(Rc<Load>);

impl Drop for Slot {
    fn drop(&mut self) {
        let left = self.0.active.get() - 1;
        self.0.active.set(left);
        if left == 0 && self.0.retired.get() {
            self.0.wake();
        }
    }
}

impl Load {
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A connection that requests can be sent on.
#[derive(Clone)]
pub struct H2Connection {
    send: SendRequest<Bytes>,
    load: Rc<Load>,
    lane: Lane,
    /// When it must not take new requests any more: before a certificate of either side ends, and at a certain age.
    pub retire_at: Instant,
    /// Requests sent when it was last looked at, and since when there were no others.
    idle: Rc<Cell<(u64, Instant)>>,
}

/// What a connection is for. Frames of one connection wait for each other, so what may take long has connections of its
/// own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Requests that are over soon.
    Short,
    /// Tunnels, and content of [`LARGE_BYTES`] and more.
    Long,
}

/// Content from this size on takes the long lane. 1 MiB: four times what a stream has room for.
pub const LARGE_BYTES: u64 = 1 << 20;
/// A connection is replaced after this time, less up to a fifth: rebalanced peers and rotated keys are seen. 1 h.
const AGE_MAX: Duration = Duration::from_hours(1);
/// A connection that no request was sent on for so long is closed. 5 minutes, as HTTP/1.1 clients of ours get.
const IDLE_MAX: Duration = Duration::from_mins(5);

/// A request that was sent; the answer is to come.
pub struct Sent {
    answer: ResponseFuture,
    pub body: SendStream<Bytes>,
    pub slot: Slot,
    interims: u32,
}

impl H2Connection {
    /// Speaks HTTP/2 over `io`, from a task of its own. Ends when the peer closes, or once retired and idle.
    ///
    /// Waits for the answer to a first PING: in TLS 1.3 a client is done before the server has judged its certificate, and
    /// a request sent into a connection that is about to be refused could not be told from one that ran.
    pub async fn start<T>(io: T, far: Far, lane: Lane, retire_at: Option<Instant>) -> Result<Self, h2::Error>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (io, flusher) = coalescing(io);
        let (send, mut connection) = h2::client::Builder::new()
            .initial_window_size(*ANSWER_WINDOW_BYTES.start())
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_local_error_reset_streams(None)
            .data_frame_budget(SMALL_FRAMES_MAX)
            .enable_push(false)
            .handshake::<_, Bytes>(io)
            .await?;
        let mut keepalive = Keepalive::new(connection.ping_pong().expect("asked for once"), far);
        keepalive.ask()?;
        let load = Rc::new(Load::default());
        let (answered, first) = oneshot::channel();
        actix_rt::spawn(drive(connection, keepalive, flusher, Rc::clone(&load), answered));
        first.await.unwrap_or_else(|_| Err(h2::Reason::CANCEL.into()))?;
        let now = Instant::now();
        let aged = now + AGE_MAX.mul_f64(rand::rng().random_range(0.8..1.0));
        let retire_at = retire_at.map_or(aged, |at| at.min(aged));
        Ok(Self { send, load, lane, retire_at, idle: Rc::new(Cell::new((0, now))) })
    }

    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Whether it is too old, or has not been used for too long. Looked at each second.
    pub fn is_due(&self, now: Instant) -> bool {
        let (sent, since) = self.idle.get();
        if sent != self.load.sent.get() || self.load.active.get() > 0 {
            self.idle.set((self.load.sent.get(), now));
            return self.retire_at <= now;
        }
        self.retire_at <= now || now.saturating_duration_since(since) > IDLE_MAX
    }

    /// Whether a request sent now would go out at once.
    pub fn has_room(&self) -> bool {
        self.is_open()
            && !self.load.stalled.get()
            && (self.load.active.get() as usize) < self.send.current_max_send_streams()
    }

    /// Whether the peer takes extended CONNECT (RFC 8441).
    pub fn takes_upgrades(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    pub fn is_open(&self) -> bool {
        !self.load.closed.get() && !self.load.retired.get()
    }

    pub fn active(&self) -> u32 {
        self.load.active.get()
    }

    /// Takes no new requests; closes when those under way have ended.
    pub fn retire(&self) {
        if !self.load.retired.replace(true) {
            self.load.wake();
        }
    }

    /// Sends the head. An error means that nothing of it was written.
    pub async fn send(&self, head: Request<()>, end: bool) -> Result<Sent, h2::Error> {
        let mut send = self.send.clone();
        self.load.active.set(self.load.active.get() + 1);
        self.load.sent.set(self.load.sent.get() + 1);
        let slot = Slot(Rc::clone(&self.load));
        poll_fn(|cx| send.poll_ready(cx)).await?;
        let (answer, body) = send.send_request(head, end)?;
        Ok(Sent { answer, body, slot, interims: 0 })
    }
}

/// The answer's head, with its body; interim answers go to the client as they come.
pub fn poll_answer(
    sent: &mut Sent,
    interim: &Interim,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<RecvStream>, h2::Error>> {
    while let Some(told) = ready!(sent.answer.poll_informational(cx)) {
        sent.interims += 1;
        if sent.interims > INTERIM_MAX {
            sent.body.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
            return Poll::Ready(Err(h2::Reason::ENHANCE_YOUR_CALM.into()));
        }
        interim.send(told?);
    }
    std::pin::Pin::new(&mut sent.answer).poll(cx)
}

/// A power of two, so that a round trip that is found to be a little shorter changes nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
fn answer_window(round_trip: Duration) -> u32 {
    let bytes = (round_trip.as_secs_f64() * ANSWER_BYTES_PER_SECOND) as u32;
    let (least, most) = (*ANSWER_WINDOW_BYTES.start(), *ANSWER_WINDOW_BYTES.end());
    bytes.clamp(least, most).next_power_of_two()
}

/// `answered` is told of the first PING's answer, or of the connection's end before it.
async fn drive<T>(
    connection: h2::client::Connection<super::coalesce::Coalescing<T>, Bytes>,
    mut keepalive: Keepalive,
    mut flusher: Flusher<T>,
    load: Rc<Load>,
    answered: oneshot::Sender<Result<(), h2::Error>>,
) where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut connection = Some(connection);
    let mut answered = Some(answered);
    let mut window = *ANSWER_WINDOW_BYTES.start();
    let outcome = poll_fn(|cx| {
        let Some(open) = connection.as_mut() else { return Poll::Ready(None) };
        if let Poll::Ready(ended) = std::pin::Pin::new(&mut *open).poll(cx) {
            return Poll::Ready(ended.err().map(Broken::Http2));
        }
        match keepalive.poll(load.active.get() > 0, cx) {
            Ok(Peer::Gone) => return Poll::Ready(Some(Broken::Gone)),
            Ok(peer) => load.stalled.set(peer == Peer::Stalled),
            Err(error) => return Poll::Ready(Some(Broken::Http2(error))),
        }
        let wanted = keepalive.nearest().map_or(window, answer_window);
        // Less only where nobody reads: `h2` tells a peer of room that was read once that is half a window, so a stream whose
        // window shrinks below what it has not told would get nothing ever after. And while the peer has not confirmed the change
        // before, there can be no other.
        let may = wanted > window || (wanted < window && load.active.get() == 0);
        if may && open.set_initial_window_size(wanted).is_ok() {
            window = wanted;
            cx.waker().wake_by_ref();
        }
        if keepalive.has_answered()
            && let Some(first) = answered.take()
        {
            // Whoever asked may have gone.
            let _ = first.send(Ok(()));
        }
        if load.retired.get() && load.active.get() == 0 {
            return Poll::Ready(None);
        }
        load.waker.set(Some(cx.waker().clone()));
        match flusher.turn(load.active.get() > 1, cx) {
            Poll::Ready(error) => Poll::Ready(Some(Broken::Write(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    load.closed.set(true);
    if let Some(error) = outcome {
        tracing::debug!(error = crate::error_chain(&error), "a connection to an upstream ended");
        if let (Some(first), Broken::Http2(error)) = (answered, error) {
            let _ = first.send(Err(error));
        }
    }
    // The last frames of a connection that ended well (GOAWAY) may still be gathered.
    let finish = poll_fn(|cx| flusher.poll_finish(cx));
    if let Ok(Err(error)) = actix_rt::time::timeout(FINISH_MAX, finish).await {
        tracing::trace!(%error, "the peer had closed already");
    }
}

use std::future::Future as _;

#[cfg(test)]
mod tests;
