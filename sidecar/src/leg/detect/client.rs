//! Finds out what a connection of the app speaks, to an upstream whose policy does not say.
//!
//! The client's first bytes are looked at where they lie, and taken by whoever serves the connection then. While there are
//! none, a tunnel is dialled: a server that speaks first is heard as soon as it would be without looking. Whoever speaks
//! first decides; of a client that speaks HTTP before any byte of the server has come the tunnel is dropped, unused.
//!
//! Policy judges that tunnel as it judges every tunnel, before the app is connected to. Refused, it is no refusal of
//! anything that the app asked for, and is counted as none: the client's bytes are waited for, and what they turn out to be
//! is judged anew.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use actix_rt::time::{sleep, sleep_until};
use bytes::Bytes;
use http::Response;
use http::uri::Authority;
use http_body::{Body as _, Frame, SizeHint};
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

use super::judge::{BYTES_MAX, Judge, Verdict};
use crate::leg::body::{Body, BodyError};
use crate::leg::interim::Interim;
use crate::leg::later::{Giver, later};
use crate::leg::opaque;
use crate::leg::service::Service;
use crate::limits::OfConnection;
use crate::pipeline::answer::Answer;
use crate::stats::Found;

/// Bytes that may still become HTTP are waited on for so long, then pass as something else. 1 s: a first line comes in one
/// packet, and one that a person types line by line; what speaks in single letters must not wait longer for its answer.
const PARTIAL_MAX: Duration = Duration::from_secs(1);

thread_local! {
    /// Where bytes are looked at: a connection that waits holds no buffer.
    static LOOK: RefCell<Box<[u8]>> = RefCell::new(vec![0; BYTES_MAX].into_boxed_slice());
}

/// What a connection is to be served as.
pub enum Told {
    Http1,
    Http2,
    /// Nothing is looked at.
    Tunnel(Ahead),
    /// The same of a client that has nothing to say, and may still listen.
    Listener(Ahead),
    /// Nobody speaks any more.
    Nothing,
}

/// Looks at `tcp` until somebody has spoken. `ahead` serves the tunnel to `authority` that is dialled meanwhile.
pub async fn tell<S: Service>(
    tcp: &TcpStream,
    authority: Authority,
    ahead: &S,
    limits: &OfConnection,
) -> (Told, Found) {
    let mut client = std::pin::pin!(first_bytes(tcp));
    // The kernel's word of what lies there already comes with the next turn.
    tokio::task::yield_now().await;
    let at_once = poll_fn(|cx| Poll::Ready(client.as_mut().poll(cx))).await;
    if let Poll::Ready(first) = at_once {
        return told(first, || Ahead::ask(ahead, authority));
    }
    let mut tunnel = Ahead::ask(ahead, authority);
    let mut until = Instant::now() + limits.idle_time;
    loop {
        tokio::select! {
            biased;
            first = &mut client => return told(first, || tunnel),
            heard = poll_fn(|cx| tunnel.poll_hear(cx)) => match heard {
                Heard::Refused => until = until.min(Instant::now() + limits.head_time),
                Heard::Server => return (Told::Tunnel(tunnel), Found::ServerFirst),
                Heard::Closed => return (Told::Nothing, Found::Silent),
            },
            () = sleep_until(until.into()) => return (Told::Nothing, Found::Silent),
        }
    }
}

fn told(first: io::Result<First>, ahead: impl FnOnce() -> Ahead) -> (Told, Found) {
    match first.unwrap_or(First::Gone) {
        First::Http1 => (Told::Http1, Found::Http1),
        First::Http2 => (Told::Http2, Found::Http2),
        First::Opaque => (Told::Tunnel(ahead()), Found::Opaque),
        First::Ended => (Told::Listener(ahead()), Found::Silent),
        First::Gone => (Told::Nothing, Found::Silent),
    }
}

/// What a client's first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Http1,
    Http2,
    Opaque,
    /// There are none.
    Ended,
    /// Nor will anything be read.
    Gone,
}

/// Looks at what a client sends, and takes nothing. Cancelling it loses nothing.
async fn first_bytes(tcp: &TcpStream) -> io::Result<First> {
    let mut patience = None;
    let (mut judge, mut judged) = (Judge::default(), 0);
    loop {
        let ready = tcp.ready(Interest::READABLE);
        let ready = match &mut patience {
            None => ready.await?,
            Some(patience) => tokio::select! {
                ready = ready => ready?,
                () = patience => return Ok(First::Opaque),
            },
        };
        let verdict = poll_fn(|cx| {
            poll_look(tcp, cx, |bytes| {
                let fresh = bytes.get(judged..).unwrap_or_default();
                judged += fresh.len();
                judge.see(fresh)
            })
        });
        match verdict.await? {
            Verdict::Http1 => return Ok(First::Http1),
            Verdict::Http2 => return Ok(First::Http2),
            Verdict::Opaque => return Ok(First::Opaque),
            Verdict::More if judged == 0 => return Ok(First::Ended),
            Verdict::More if ready.is_read_closed() => return Ok(First::Opaque),
            Verdict::More => {}
        }
        if patience.is_none() {
            patience = Some(Box::pin(sleep(PARTIAL_MAX)));
        }
        // These bytes are known: the next ones make it ready again. An error is what is told to the runtime.
        let _ = tcp.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// Shows what lies there, from its beginning.
fn poll_look<T>(tcp: &TcpStream, cx: &mut Context<'_>, look: impl FnOnce(&[u8]) -> T) -> Poll<io::Result<T>> {
    LOOK.with_borrow_mut(|buffer| {
        let mut seen = ReadBuf::new(buffer);
        ready!(tcp.poll_peek(cx, &mut seen))?;
        Poll::Ready(Ok(look(seen.filled())))
    })
}

/// A tunnel that is asked for before anybody knows whether it is wanted. Its drop takes the wish back.
pub struct Ahead {
    state: State,
    giver: Giver,
}

enum State {
    Asked(Pin<Box<dyn Future<Output = Response<Answer>>>>),
    Open(Box<Resumed>),
    Refused,
}

/// What came of it.
enum Heard {
    Refused,
    /// The server has spoken.
    Server,
    /// It has closed, without a word.
    Closed,
}

impl Ahead {
    fn ask<S: Service>(service: &S, authority: Authority) -> Self {
        let (later, giver) = later();
        let asked = service.serve(opaque::connect(authority, Body::from_later(later)), Interim::None);
        Self { state: State::Asked(Box::pin(asked)), giver }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Asked(asked) = &mut self.state {
            let answered = ready!(asked.as_mut().poll(cx));
            self.state = if answered.status().is_success() {
                State::Open(Box::new(Resumed { first: None, rest: answered.into_body() }))
            } else {
                State::Refused
            };
        }
        Poll::Ready(())
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        let was_asked = matches!(self.state, State::Asked(_));
        ready!(self.poll_open(cx));
        match &mut self.state {
            State::Open(open) => match ready!(Pin::new(&mut open.rest).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    open.first = Some(frame);
                    Poll::Ready(Heard::Server)
                }
                None | Some(Err(_)) => Poll::Ready(Heard::Closed),
            },
            State::Refused if was_asked => Poll::Ready(Heard::Refused),
            State::Asked(_) | State::Refused => Poll::Pending,
        }
    }

    /// Its two directions; `None`: it was refused.
    pub async fn opened(mut self) -> Option<(Giver, Resumed)> {
        poll_fn(|cx| self.poll_open(cx)).await;
        match self.state {
            State::Open(open) => Some((self.giver, *open)),
            State::Asked(_) | State::Refused => None,
        }
    }
}

/// An answer of which the first frame was taken already.
pub struct Resumed {
    first: Option<Frame<Bytes>>,
    rest: Answer,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
