//! One HTTP/2 connection as a server: from another sidecar over TLS, or from an app or a client in plaintext.

use std::cell::{Cell, RefCell};
use std::future::{self, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Body, BodyError};
use super::coalesce::{Broken, coalescing};
use super::h2_client::{
    CONNECTION_WINDOW_BYTES, RESET_STREAMS_MAX, SEND_BUFFER_BYTES_MAX, SMALL_FRAMES_MAX, STREAM_WINDOW_BYTES,
};
use super::interim::Interim;
use super::patience::Patience;
use super::pump::{Pump, PumpError};
use super::service::Service;
use crate::limits::{OfConnection, ResetMeter};
use crate::pipeline::answer::Answer;

/// Streams that a peer may have open on one connection. 1,024: a sidecar opens another connection past that.
pub const STREAMS_MAX: u32 = 1_024;
/// Streams reset by a client from outside that were not looked at yet; past that the connection ends (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 64;
/// The preface and SETTINGS must come within this time.
const PREFACE_MAX: Duration = Duration::from_secs(5);
/// After a connection has ended, its last frames may take this long to be written.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Serves a connection to its end. Each request runs in a task of its own, which a reset of its stream cancels.
///
/// `finish` ends at a drain, or when a certificate is about to end: GOAWAY.
pub async fn serve<T, S>(
    io: T,
    finish: impl Future<Output = ()>,
    limits: OfConnection,
    service: S,
) -> Result<(), Broken>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service,
{
    let (io, mut flusher) = coalescing(io);
    let mut builder = h2::server::Builder::new();
    if limits.resets_per_second.is_none() {
        // Another sidecar, or the own app: what is an attack by others is an overload here, which must not take all else with it.
        builder
            .max_pending_accept_reset_streams(RESET_STREAMS_MAX)
            .max_concurrent_reset_streams(RESET_STREAMS_MAX)
            .max_local_error_reset_streams(None)
            .data_frame_budget(SMALL_FRAMES_MAX);
    } else {
        builder.max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    }
    let handshake = builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(limits.head_bytes)
        .max_concurrent_streams(limits.streams)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .enable_connect_protocol()
        .handshake::<_, Bytes>(io);
    let mut handshake = std::pin::pin!(handshake);
    // The server's SETTINGS are gathered too, so the handshake must be followed by a flush at each step.
    let handshake = poll_fn(|cx| {
        let polled = handshake.as_mut().poll(cx);
        if let Poll::Ready(error) = flusher.turn(false, cx) {
            return Poll::Ready(Err(Broken::Write(error)));
        }
        polled.map_err(Broken::Http2)
    });
    let Ok(connection) = actix_rt::time::timeout(PREFACE_MAX, handshake).await else {
        return Ok(());
    };
    let mut connection = connection?;

    let active = Rc::new(Cell::new(0_u32));
    let resets = Rc::new(ResetMeter::new(limits.resets_per_second, Instant::now()));
    let mut patience = Patience::new(limits.idle_time);
    let mut finishing = false;
    let mut flooded = false;
    let mut told = std::pin::pin!(finish);
    let outcome = poll_fn(|cx| {
        if !finishing && told.as_mut().poll(cx).is_ready() {
            finishing = true;
            connection.graceful_shutdown();
        }
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let request = request.map(Body::from_h2);
                    let respond = Rc::new(RefCell::new(respond));
                    let (guard, resets) = (Guard::new(&active), Rc::clone(&resets));
                    // Boxed: as an argument it would lie in the task twice.
                    match limits.judge(&request) {
                        Ok(()) => {
                            let interim =
                                Interim::H2 { stream: Rc::clone(&respond), hinted: Cell::default() };
                            let handled = Box::pin(service.serve(request, interim));
                            actix_rt::spawn(answer(handled, respond, guard, resets));
                        }
                        Err(malformed) => {
                            let handled = Box::pin(future::ready(service.refuse_malformed(malformed)));
                            actix_rt::spawn(answer(handled, respond, guard, resets));
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Http2(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        if resets.is_over() && !std::mem::replace(&mut flooded, true) {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            cx.waker().wake_by_ref();
        }
        while patience.poll(cx).is_ready() {
            if active.get() == 0 && !std::mem::replace(&mut finishing, true) {
                connection.graceful_shutdown();
                cx.waker().wake_by_ref();
            }
            patience.until(Instant::now() + limits.idle_time);
        }
        match flusher.turn(active.get() > 1, cx) {
            Poll::Ready(error) => Poll::Ready(Err(Broken::Write(error))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let rest = poll_fn(|cx| flusher.poll_finish(cx));
    if let Ok(Err(error)) = actix_rt::time::timeout(FINISH_MAX, rest).await {
        tracing::trace!(%error, "the peer had closed already");
    }
    if flooded { Err(Broken::ResetFlood) } else { outcome }
}

/// Counts a request as under way while it lives.
struct Guard(Rc<Cell<u32>>);

impl Guard {
    fn new(active: &Rc<Cell<u32>>) -> Self {
        active.set(active.get() + 1);
        Self(Rc::clone(active))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// One request, from its head to the last byte of its answer. Cancelled where the client resets the stream: the answer
/// is dropped, and with it everything that it holds.
async fn answer<F>(
    mut handled: Pin<Box<F>>,
    respond: Rc<RefCell<SendResponse<Bytes>>>,
    _guard: Guard,
    resets: Rc<ResetMeter>,
) where
    F: Future<Output = Response<Answer>>,
{
    let answered = poll_fn(|cx| match handled.as_mut().poll(cx) {
        Poll::Ready(answered) => Poll::Ready(Some(answered)),
        Poll::Pending => respond.borrow_mut().poll_reset(cx).map(|_| None),
    })
    .await;
    let Some(answered) = answered else {
        resets.count(Instant::now());
        return;
    };
    let (head, body) = answered.into_parts();
    let end = body.is_end_stream();
    let sent = respond.borrow_mut().send_response(Response::from_parts(head, ()), end);
    let mut stream = match sent {
        Ok(stream) => stream,
        Err(error) => {
            // Its content broke off first, and that was the answer.
            resets.count(Instant::now());
            tracing::trace!(%error, "the client had gone");
            return;
        }
    };
    if end {
        return;
    }
    let mut pump = Pump::new(body);
    let pumped = poll_fn(|cx| {
        if let Poll::Ready(pumped) = pump.poll(&mut stream, cx) {
            return Poll::Ready(pumped);
        }
        // A client that does not read stops the pump, but not the clock.
        ready!(pump.body_mut().poll_deadline(cx));
        stream.send_reset(Reason::CANCEL);
        Poll::Ready(Err(PumpError::Source(BodyError::Timeout)))
    })
    .await;
    match pumped {
        Err(PumpError::Source(error)) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "an answer broke off");
        }
        Err(PumpError::Reset(_)) => resets.count(Instant::now()),
        Ok(()) | Err(PumpError::Sink(_)) => {}
    }
}
