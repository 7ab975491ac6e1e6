//! One HTTP/1.1 connection as a server: from an app, or from outside.
//!
//! One task a connection. It reads a head, lets the service answer, writes the answer, and begins again; the content of
//! the request is read by whoever passes it on.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::watch;

use super::conn::{Broken, Conn, Tunnel};
use super::encode::{self, Encoding};
use super::framing::Framing;
use super::head::{self, Shape, Version};
use super::malformed::Malformed;
use super::scan::Scanner;
use super::sink::H1Sink;
use crate::leg::body::{Body, BodyError};
use crate::leg::interim::Interim;
use crate::leg::patience::Patience;
use crate::leg::pump::{Pump, PumpError};
use crate::leg::service::Service;
use crate::leg::wire::Wire;
use crate::limits::OfConnection;
use crate::listen::turned;
use crate::pipeline::answer::Answer;
use crate::pipeline::upgrade;

/// What is read of a request whose answer is out, so that the connection can be kept: time and bytes. More is cheaper to
/// send on a new connection.
const DRAIN_MAX: Duration = Duration::from_secs(1);
const DRAIN_BYTES_MAX: usize = 256 << 10;
/// A client that is still sending is read from for so long after the last answer, so that it comes to read that. 5 s: what
/// nginx waits for the next byte.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Serves a connection to its end; at `finish`, up to the end of the request that is under way.
pub async fn serve<S: Service>(
    wire: Wire,
    finish: watch::Receiver<bool>,
    limits: OfConnection,
    service: S,
) -> Result<(), Broken> {
    let conn = Conn::new(wire, limits.head);
    let told = finish.clone();
    let mut patience = Patience::new(limits.idle_time);
    let mut finish = std::pin::pin!(turned(finish));
    let mut finishing = false;
    loop {
        let head = tokio::select! {
            biased;
            head = next_head(&conn, &mut patience, &limits) => head?,
            () = &mut finish, if !finishing => {
                finishing = true;
                if conn.has_unread() {
                    continue;
                }
                None
            }
        };
        let Some(head) = head else { return close(&conn).await };
        let after = match head.and_then(|head| head::request(&head, &conn.limits)) {
            // Boxed for their size: a connection without a request holds nothing of one.
            Ok((request, shape)) => Box::pin(answer(&conn, &service, request, shape, &told)).await?,
            Err(malformed) => Box::pin(refuse(&conn, &service, malformed)).await?,
        };
        match after {
            After::Next => {}
            After::Close => return close(&conn).await,
            After::Break => return Ok(()),
            After::Linger => return linger(&conn).await,
        }
    }
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Next,
    Close,
    /// The answer broke off, and only a reset says so.
    Break,
    /// Close, but let the client read the answer first: it may still be sending.
    Linger,
}

/// What the answer must know of its request.
struct Exchange {
    method: Method,
    version: Version,
    upgrade: Option<HeaderValue>,
    /// As a tunnel the connection has no next request.
    tunnel: bool,
}

impl Exchange {
    /// Of what is no request.
    const REFUSED: Self =
        Self { method: Method::GET, version: Version::Http11, upgrade: None, tunnel: false };
}

/// The next head; `None`: the client has closed, or was idle for too long.
async fn next_head(
    conn: &Conn,
    patience: &mut Patience,
    limits: &OfConnection,
) -> Result<Option<Result<Bytes, Malformed>>, Broken> {
    let mut scanner = Scanner::of_request();
    let mut began = false;
    let mut empty_lines = 0;
    patience.until(Instant::now() + limits.idle_time);
    poll_fn(|cx| {
        loop {
            match conn.poll_head(&mut scanner, cx) {
                // An empty line before a request is read over, once (RFC 9112, section 2.2).
                Poll::Ready(Ok(Some(head))) if head.len() == 2 && empty_lines == 0 => {
                    empty_lines = 1;
                    scanner = Scanner::of_request();
                }
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head.map(Ok))),
                Poll::Ready(Err(Broken::Malformed(malformed))) => {
                    return Poll::Ready(Ok(Some(Err(malformed))));
                }
                // Half a head, and gone: nobody waits for an answer.
                Poll::Ready(Err(Broken::Truncated)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if conn.has_unread() && !std::mem::replace(&mut began, true) {
            patience.until(Instant::now() + limits.head_time);
        } else if !began {
            conn.rest();
        }
        patience.poll(cx).map(|()| Ok(began.then_some(Err(Malformed::TooSlow { limit: limits.head_time }))))
    })
    .await
}

async fn refuse<S: Service>(conn: &Rc<Conn>, service: &S, malformed: Malformed) -> Result<After, Broken> {
    write(conn, service.refuse_malformed(malformed), &Exchange::REFUSED, After::Linger).await
}

async fn answer<S: Service>(
    conn: &Rc<Conn>,
    service: &S,
    mut request: Request<()>,
    shape: Shape,
    told: &watch::Receiver<bool>,
) -> Result<After, Broken> {
    let upgrade = asked_upgrade(&mut request, &shape);
    let exchange = Exchange {
        method: request.method().clone(),
        version: shape.version,
        tunnel: upgrade.is_some() || shape.framing == Framing::Tunnel,
        upgrade,
    };
    let framing = if exchange.tunnel { Framing::Tunnel } else { shape.framing };
    let go_on = shape.expects_continue.then(|| Rc::new(Cell::new(false)));
    let interim = go_on.as_ref().map_or(Interim::None, |go_on| Interim::Continue(Rc::clone(go_on)));
    let request = request.map(|()| Body::from_h1(conn.begin(framing)));
    let answered = {
        let mut handling = std::pin::pin!(service.serve(request, interim));
        poll_fn(|cx| {
            if let Poll::Ready(answered) = handling.as_mut().poll(cx) {
                return Poll::Ready(Ok::<_, Broken>(Some(answered)));
            }
            if let Some(go_on) = &go_on
                && go_on.replace(false)
            {
                conn.output.borrow_mut().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if conn.unwritten() > 0
                && let Poll::Ready(Err(error)) = conn.poll_flush(cx)
            {
                return Poll::Ready(Err(error.into()));
            }
            conn.poll_gone(cx).map(|()| Ok(None))
        })
        .await?
    };
    let Some(answered) = answered else { return Ok(After::Close) };
    if let Some(malformed) = conn.malformed() {
        service.content_was(malformed);
    }
    // A client that waits for 100 and was never told to send may send its content or not: nobody can tell what follows.
    let unclear = go_on.is_some() && !conn.is_read();
    let after = match (shape.keep_alive && !*told.borrow() && !unclear, conn.malformed()) {
        (true, None) => After::Next,
        _ if conn.is_read() => After::Close,
        _ => After::Linger,
    };
    let after = write(conn, answered, &exchange, after).await?;
    if after == After::Next && !conn.is_read() { drain(conn).await } else { Ok(after) }
}

/// The protocol that a request asks to go over to, in the shape in which HTTP/2 asks for it; anything else in `Upgrade`
/// may be ignored (RFC 9110, section 7.8).
fn asked_upgrade(request: &mut Request<()>, shape: &Shape) -> Option<HeaderValue> {
    if !shape.upgrade || shape.framing != Framing::None || *request.method() != Method::GET {
        return None;
    }
    let protocol = request.headers().get(UPGRADE)?.clone();
    let name = upgrade::allowed(protocol.to_str().ok()?)?;
    request.extensions_mut().insert(h2::ext::Protocol::from_static(name));
    Some(protocol)
}

/// Writes an answer to its end.
async fn write(
    conn: &Rc<Conn>,
    answered: Response<Answer>,
    exchange: &Exchange,
    mut after: After,
) -> Result<After, Broken> {
    let (parts, body) = answered.into_parts();
    let mut head = Response::from_parts(parts, ());
    let open = exchange.tunnel
        && (head.status() == StatusCode::SWITCHING_PROTOCOLS
            || exchange.method == Method::CONNECT && head.status().is_success());
    conn.decide(if open { Tunnel::Open } else { Tunnel::Refused });
    let content = !body.is_end_stream();
    let fields = head.headers();
    let encoding = if open {
        Encoding::Raw
    } else {
        encode::of_answer(&exchange.method, exchange.version, head.status(), fields, content)
    };
    if encoding == Encoding::Raw {
        after = After::Close;
    }
    let bodiless = open || head.status() == StatusCode::NO_CONTENT || head.status().is_informational();
    if bodiless {
        head.headers_mut().remove(CONTENT_LENGTH);
    }
    let says_zero =
        !bodiless && !content && exchange.method != Method::HEAD && head.status() != StatusCode::NOT_MODIFIED;
    let connection = match (&exchange.upgrade, after, exchange.version) {
        (Some(protocol), ..) if open => {
            head.headers_mut().insert(UPGRADE, protocol.clone());
            Some("upgrade")
        }
        _ if open => None,
        (_, After::Next, Version::Http10) => Some("keep-alive"),
        (_, After::Next, Version::Http11) => None,
        (_, After::Close | After::Break | After::Linger, _) => Some("close"),
    };
    encode::answer(&mut conn.output.borrow_mut(), &head, encoding, says_zero, connection);
    drop(head);
    match content_of(conn, body, encoding, open).await {
        Ok(()) => {}
        Err(PumpError::Sink(BodyError::H1(error))) => return Err(error),
        Err(error) => {
            tracing::debug!(error = crate::error_chain(&error), "an answer broke off");
            if encoding == Encoding::Raw {
                conn.break_off();
                return Ok(After::Break);
            }
            return Ok(After::Close);
        }
    }
    if open {
        poll_fn(|cx| conn.poll_left(cx)).await;
    }
    Ok(after)
}

async fn content_of(conn: &Rc<Conn>, body: Answer, encoding: Encoding, open: bool) -> Result<(), PumpError> {
    let mut sink = H1Sink::new(conn, encoding);
    if encoding == Encoding::None && !body.is_end_stream() {
        // An app that sends content where there is none: it goes nowhere.
        drop(body);
        let flushed = poll_fn(|cx| conn.poll_flush(cx)).await;
        return flushed.map_err(|error| PumpError::Sink(BodyError::H1(error.into())));
    }
    let mut pump = Pump::new(body);
    poll_fn(|cx| {
        if let Poll::Ready(pumped) = pump.poll(&mut sink, cx) {
            return Poll::Ready(pumped);
        }
        // A client that does not read stops the pump, but not the clock.
        if pump.body_mut().poll_deadline(cx).is_ready() {
            return Poll::Ready(Err(PumpError::Source(BodyError::Timeout)));
        }
        if !open && conn.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(PumpError::Sink(BodyError::H1(Broken::Truncated))));
        }
        Poll::Pending
    })
    .await
}

/// Reads what is left of a request whose answer is out.
async fn drain(conn: &Rc<Conn>) -> Result<After, Broken> {
    let mut bytes = 0;
    let drained = poll_fn(|cx| {
        loop {
            std::task::ready!(conn.poll_left(cx));
            if conn.is_read() {
                return Poll::Ready(true);
            }
            match std::task::ready!(conn.poll_body(cx)) {
                None => return Poll::Ready(true),
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => return Poll::Ready(false),
            }
            if bytes > DRAIN_BYTES_MAX {
                return Poll::Ready(false);
            }
        }
    });
    let drained = actix_rt::time::timeout(DRAIN_MAX, drained).await;
    Ok(if drained == Ok(true) { After::Next } else { After::Linger })
}

async fn close(conn: &Conn) -> Result<(), Broken> {
    Ok(poll_fn(|cx| conn.poll_shutdown(cx)).await?)
}

/// Closes the writing half, then reads on for a while: a reset, which unread bytes would cause, may take the answer from
/// the client before it has read it (RFC 9112, section 9.6).
async fn linger(conn: &Conn) -> Result<(), Broken> {
    poll_fn(|cx| conn.poll_shutdown(cx)).await?;
    let read = poll_fn(|cx| {
        loop {
            match std::task::ready!(conn.poll_discard(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    });
    // Past the time, the client has had it.
    let _ = actix_rt::time::timeout(LINGER_MAX, read).await;
    Ok(())
}
