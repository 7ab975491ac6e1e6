//! A connection of which nothing is looked at: its bytes go through as they are.

use std::future::poll_fn;

use http::uri::Authority;
use http::{Method, Request, Uri};

use super::body::{Body, BodyError};
use super::h1::conn::{Broken, Conn, Tunnel};
use super::h1::encode::Encoding;
use super::h1::framing::Framing;
use super::h1::scan::Limits;
use super::h1::sink::H1Sink;
use super::interim::Interim;
use super::pump::{Pump, PumpError};
use super::service::Service;
use super::wire::Wire;

/// Serves a connection as a CONNECT to `authority`. Nothing is waited for from the client: a server that speaks first is
/// heard at once.
pub async fn serve<S: Service>(wire: Wire, authority: Authority, service: S) -> Result<(), Broken> {
    let conn = Conn::new(wire, Limits::default());
    let incoming = conn.begin(Framing::Tunnel);
    conn.decide(Tunnel::Open);
    let mut request = Request::new(Body::from_h1(incoming));
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from(authority);
    let answered = service.serve(request, Interim::None).await;
    if !answered.status().is_success() {
        // There is no way to say why; the record does.
        return Ok(());
    }
    let mut sink = H1Sink::new(&conn, Encoding::Raw);
    let mut pump = Pump::new(answered.into_body());
    match poll_fn(|cx| pump.poll(&mut sink, cx)).await {
        Ok(()) => poll_fn(|cx| conn.poll_left(cx)).await,
        Err(PumpError::Sink(BodyError::H1(error))) => return Err(error),
        Err(error) => tracing::debug!(error = crate::error_chain(&error), "a tunnel broke off"),
    }
    Ok(())
}
