//! A connection of which nothing is looked at: its bytes go through as they are.

use std::future::poll_fn;
use std::rc::Rc;

use http::uri::Authority;
use http::{Method, Request, Uri};

use super::body::{Body, BodyError};
use super::h1::conn::{Broken, Conn, Incoming, Tunnel};
use super::h1::encode::Encoding;
use super::h1::framing::Framing;
use super::h1::scan::Limits;
use super::h1::sink::H1Sink;
use super::interim::Interim;
use super::later::Giver;
use super::pump::{Pump, PumpError, Source};
use super::service::Service;
use super::wire::Wire;

/// Serves a connection as a CONNECT to `authority`. Nothing is waited for from the client: a server that speaks first is
/// heard at once.
pub async fn serve<S: Service>(wire: Wire, authority: Authority, service: S) -> Result<(), Broken> {
    let (conn, incoming) = tunnel(wire);
    let answered = service.serve(connect(authority, Body::from_h1(incoming)), Interim::None).await;
    if !answered.status().is_success() {
        // There is no way to say why; the record does.
        return Ok(());
    }
    carry(&conn, answered.into_body()).await
}

/// Joins a connection to a tunnel that was asked for ahead: `answer` is what comes back through it.
pub async fn join<B: Source>(wire: Wire, giver: Giver, answer: B) -> Result<(), Broken> {
    let (conn, incoming) = tunnel(wire);
    giver.give(incoming.expect("a tunnel has content"));
    carry(&conn, answer).await
}

/// What asks for a tunnel to `authority`.
pub fn connect(authority: Authority, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from(authority);
    request
}

fn tunnel(wire: Wire) -> (Rc<Conn>, Option<Incoming>) {
    let conn = Conn::new(wire, Limits::default());
    let incoming = conn.begin(Framing::Tunnel);
    conn.decide(Tunnel::Open);
    (conn, incoming)
}

/// What comes back, up to the end of both directions.
async fn carry<B: Source>(conn: &Rc<Conn>, body: B) -> Result<(), Broken> {
    let mut sink = H1Sink::new(conn, Encoding::Raw);
    let mut pump = Pump::new(body);
    match poll_fn(|cx| pump.poll(&mut sink, cx)).await {
        Ok(()) => poll_fn(|cx| conn.poll_left(cx)).await,
        Err(PumpError::Sink(BodyError::H1(error))) => return Err(error),
        Err(error) => tracing::debug!(error = crate::error_chain(&error), "a tunnel broke off"),
    }
    Ok(())
}
