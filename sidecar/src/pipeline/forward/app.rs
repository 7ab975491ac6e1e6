//! To the own app, in the protocol that it is declared to speak.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use actix_rt::time::{Sleep, sleep};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body as _;
use outrider_shared::snapshot::AppProtocol;

use super::{
    Answered, Deadline, Failure, Forwarded, Outgoing, RequestBody, Underway, after_head, commit, http1_head,
    http2_uri, over_h2, within,
};
use crate::contexts::Kept;
use crate::leg::body::Body;
use crate::leg::h1::client::{H1Error, H1Pool};
use crate::leg::interim::Interim;
use crate::leg::pump::{Pump, Waits};
use crate::mesh::{CONNECT_MAX, ConnectError};
use crate::pipeline::accept::{Form, HOPS, WAY, XFCC};
use crate::pipeline::admit::AdmittedToApp;
use crate::pipeline::find::FoundPort;
use crate::pipeline::identify::{InboundConnection, WayIn};
use crate::pipeline::record::Record;
use crate::pipeline::refused::Refused;
use crate::pipeline::rejection::Rejection;
use crate::pipeline::upgrade::{self, Handshake, Tunnel};
use crate::pipeline::urgency::{self, CONTEXT, RETRIED, Urgency};
use crate::pipeline::{headers, way};
use crate::shard::AppPort;
use crate::upstream::connect::NoConnection;
use crate::upstream::digest::Load;
use crate::upstream::share::{OpenTunnel, Permit, Share};
use crate::upstream::supply::WAY_BACK;

/// How long a request's body may come for while it holds a permit of a limit that is learned. 100 ms: a megabyte from a
/// caller nearby, and less than those behind it may wait.
const UPLOAD_MAX: Duration = Duration::from_millis(100);

/// Who goes away with so little of its time left, as a share of what it has waited, has given up by its own clock. A twentieth:
/// what a way through two sidecars takes of 100 ms on a busy machine.
const GAVE_UP: f64 = 0.05;

pub async fn to_app(
    from: &InboundConnection,
    admitted: AdmittedToApp<'_>,
    record: &mut Record,
    interim: &Interim,
) -> Result<Forwarded, Refused> {
    let AdmittedToApp { authorized, app, mut permit } = admitted;
    record.goes_to(&app.share.stats);
    let FoundPort { identified, local, .. } = authorized.found;
    let accepted = identified.accepted;
    let explain = accepted.explain;
    let sent_at = Instant::now();
    let mut fields = accepted.head.headers;
    tell_app(from, accepted.hops, &mut fields);
    let context = keep_context(from, &accepted.urgency, &mut fields);
    let deadline = accepted.urgency.deadline.map(|at| Deadline::of_caller(at, record.started()));
    let mut body = (!accepted.body.is_end_stream()).then(|| Pump::once(accepted.body));
    let (tunnel, form) = (accepted.tunnel, accepted.form);
    let upload = body.as_mut().filter(|_| permit.is_learned()).map(Pump::watch);
    let mut handshake = None;
    let app_protocol = spoken(local.app_protocol, tunnel, form);
    let mut answered = {
        // Pinned here, so that `within` has no copy of it: a future is as large as everything that it may hold.
        let attempt = std::pin::pin!(async {
            match app_protocol {
                AppProtocol::Tcp | AppProtocol::Detect => {
                    let mut opened = over_tcp(&app.h1, local.target_port).await;
                    if let (AppProtocol::Detect, Ok((answer, _)), Some(pump)) =
                        (local.app_protocol, &mut opened, &mut body)
                    {
                        pump.body_mut().watch(&local.name, answer.body_mut());
                    }
                    opened
                }
                AppProtocol::Http1 => {
                    if tunnel.is_some() {
                        handshake =
                            Some(Handshake::with_http1(&mut fields, &mut *from.shard.rng.borrow_mut()));
                    }
                    let (method, target) = (accepted.head.method, accepted.target.into_inner());
                    let head = http1_head(method, target, &accepted.authority, fields, tunnel);
                    over_h1(&app.h1, local.target_port, &head, &mut body, interim).await
                }
                AppProtocol::Http2 | AppProtocol::Grpc => {
                    if tunnel.is_some() {
                        handshake = Some(Handshake::with_http2(&mut fields));
                    }
                    let uri = http2_uri(accepted.authority, accepted.target.into_inner())
                        .map_err(Failure::Final)?;
                    let outgoing = Outgoing { method: accepted.head.method, uri, fields, tunnel };
                    over_app_h2(&app, local.target_port, &outgoing, &mut body, interim).await
                }
            }
        });
        let at = Cell::new(deadline.as_ref().map(|deadline| deadline.at).filter(|_| tunnel.is_none()));
        let patience = Patience { share: &app.share, upload: upload.clone(), sent_at, at };
        let attempt = while_uploading(&mut permit, upload, &patience, attempt);
        let answered = within(std::pin::pin!(attempt), deadline.as_ref()).await;
        patience.end();
        answered
    };
    // What it took to upload says nothing of the app.
    weigh(&app.share, &answered, sent_at, tunnel.is_none() && permit.is_held());
    if let Err(Failure::Final(Rejection::AppNotHttp { malformed: Some(malformed), .. })) = &answered {
        record.malformed_answer(*malformed);
    }
    if let Ok((_, underway)) = &mut answered {
        commit(&mut body, underway);
    }
    let refused = |rejection| Refused { rejection, rule: None, target: Some((*local.name).into()) };
    let (mut response, mut held) = answered.map_err(|failure| match failure {
        Failure::NeverRan(rejection) | Failure::Final(rejection) => refused(rejection),
    })?;
    held.held.permit = Some(after_head(permit, &response));
    let fields = response.headers_mut();
    headers::remove_hop_by_hop(fields);
    headers::strip_reserved(fields);
    if from.way_in() == WayIn::Mesh && context.as_ref().is_some_and(Kept::retried) {
        fields.insert(&RETRIED, HeaderValue::from_static("1"));
    }
    held.held.context = context;
    if explain {
        fields.insert(&WAY, way::inbound(&identified.principal, local.target_port, sent_at));
    }
    if let Some(tunnel) = tunnel {
        let opened = opens(&response, app_protocol);
        if opened {
            held.held.permit = None;
            held.held.tunnel = Some(open_tunnel(&app.share).map_err(refused)?);
        }
        settle_tunnel(&mut response, from.way_in(), (tunnel, opened), handshake, form).map_err(refused)?;
    }
    let deadline = deadline.map(|deadline| deadline.at).filter(|_| tunnel.is_none());
    Ok(Forwarded { response, held: held.held, deadline })
}

/// The caller's. Where it ends by the caller's own clock, a moment before ours, the request is cancelled, and has timed out at
/// the app all the same: an app that stands still would otherwise look like one that nobody has patience with.
struct Patience<'a> {
    share: &'a Rc<Share>,
    upload: Option<Rc<Cell<Waits>>>,
    sent_at: Instant,
    at: Cell<Option<Instant>>,
}

impl Patience<'_> {
    /// Nothing is to be learned of the app any more.
    fn end(&self) {
        self.at.set(None);
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        let Some(at) = self.at.get() else { return };
        let now = Instant::now();
        let left = at.saturating_duration_since(now);
        let is_over = left <= WAY_BACK.max(now.saturating_duration_since(self.sent_at).mul_f64(GAVE_UP));
        let is_at_app = self.upload.as_ref().is_none_or(|upload| upload.get() != Waits::Source);
        if is_over && is_at_app {
            self.share.seen(Load::Overloaded);
        }
    }
}

/// An upload that still waits for bytes after [`UPLOAD_MAX`] does not wait for the app.
async fn while_uploading(
    permit: &mut Permit,
    upload: Option<Rc<Cell<Waits>>>,
    patience: &Patience<'_>,
    mut attempt: Pin<&mut impl Future<Output = Result<Answered, Failure>>>,
) -> Result<Answered, Failure> {
    // None for what comes with its head.
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(answered) = attempt.as_mut().poll(cx) {
            return Poll::Ready(answered);
        }
        let is_under_way = || upload.as_ref().is_some_and(|upload| upload.get() != Waits::Over);
        while permit.is_held() && is_under_way() {
            let timer = timer.get_or_insert_with(|| Box::pin(sleep(UPLOAD_MAX)));
            ready!(timer.as_mut().poll(cx));
            if upload.as_ref().is_some_and(|upload| upload.get() == Waits::Source) {
                permit.streams();
                if !permit.is_held() {
                    // What it took to upload says nothing of the app.
                    patience.end();
                }
            }
            timer.as_mut().reset((Instant::now() + UPLOAD_MAX).into());
        }
        Poll::Pending
    })
    .await
}

/// Nobody knows for how long it stays open: the permit is for requests.
fn open_tunnel(share: &Rc<Share>) -> Result<OpenTunnel, Rejection> {
    share.open_tunnel().ok_or_else(|| Rejection::ConcurrencyLimit { limit: share.settings().cap })
}

/// What the answer to a tunnel means to whoever asked for it.
fn settle_tunnel(
    response: &mut Response<Body>,
    way_in: WayIn,
    (tunnel, opened): (Tunnel, bool),
    handshake: Option<Handshake>,
    form: Form,
) -> Result<(), Rejection> {
    if let (true, Some(handshake)) = (opened, handshake) {
        handshake.finish(response.headers_mut())?;
    }
    match (opened, way_in) {
        (true, WayIn::Mesh) => upgrade::mark_opened(response),
        // Its client's sidecar settles it.
        (false, WayIn::Mesh) => {}
        (_, WayIn::Edge { .. } | WayIn::Plaintext { .. }) => {
            upgrade::settle(response, tunnel, opened, form)?;
        }
    }
    Ok(())
}

/// Tells the limit of an answer. `counts`: by how long it took, too.
fn weigh(share: &Rc<Share>, answered: &Result<Answered, Failure>, sent_at: Instant, counts: bool) {
    if answered.is_ok() {
        share.heard();
    }
    if let Some(load) = load(answered, sent_at).filter(|_| counts) {
        share.seen(load);
    }
}

/// What the answer says about how loaded the app is; `None`: nothing.
fn load(answered: &Result<Answered, Failure>, sent_at: Instant) -> Option<Load> {
    match answered {
        Ok((response, _)) if response.status() == StatusCode::SERVICE_UNAVAILABLE => Some(Load::Overloaded),
        Ok(_) => Some(Load::Answered(sent_at.elapsed())),
        Err(Failure::Final(Rejection::AppReset { .. } | Rejection::RequestTimeout { .. })) => {
            Some(Load::Overloaded)
        }
        Err(_) => None,
    }
}

/// Who calls, and how far the request has come.
fn tell_app(from: &InboundConnection, hops: u8, fields: &mut HeaderMap) {
    if hops > 0 {
        // An app that passes it on lets its own sidecar see a circle.
        fields.insert(&HOPS, HeaderValue::from(u16::from(hops)));
    }
    if let Some(certificate) = &from.certificate {
        fields.insert(&XFCC, certificate.clone());
    }
}

/// Keeps what the request brought, for the calls that the app makes because of it, and names it to the app.
fn keep_context(from: &InboundConnection, urgency: &Urgency, fields: &mut HeaderMap) -> Option<Kept> {
    let contexts = &from.shard.node.contexts;
    let key = urgency::trace_key(fields)?;
    let kept = contexts.keep(key, urgency.context(contexts))?;
    fields.insert(&CONTEXT, key.header());
    Some(kept)
}

/// How the app is spoken to: where nothing is declared, as the caller spoke.
fn spoken(declared: AppProtocol, tunnel: Option<Tunnel>, form: Form) -> AppProtocol {
    match (declared, tunnel, form) {
        (AppProtocol::Detect, Some(Tunnel::Connect), _) => AppProtocol::Detect,
        (AppProtocol::Detect, _, Form::Http10 | Form::Http11) => AppProtocol::Http1,
        (AppProtocol::Detect, _, Form::Http2) => AppProtocol::Http2,
        (AppProtocol::Http1 | AppProtocol::Http2 | AppProtocol::Grpc | AppProtocol::Tcp, ..) => declared,
    }
}

/// Whether the app's answer to an upgrade makes the connection a tunnel.
fn opens(response: &Response<Body>, app_protocol: AppProtocol) -> bool {
    match app_protocol {
        AppProtocol::Tcp | AppProtocol::Detect => true,
        AppProtocol::Http1 => response.status() == StatusCode::SWITCHING_PROTOCOLS,
        AppProtocol::Http2 | AppProtocol::Grpc => response.status().is_success(),
    }
}

async fn over_app_h2(
    app: &AppPort,
    target_port: u16,
    outgoing: &Outgoing,
    body: &mut RequestBody,
    interim: &Interim,
) -> Result<Answered, Failure> {
    let endpoint =
        app.share.endpoints().first().map(Rc::clone).expect("the app's share has its one endpoint");
    let connect = async || {
        let connection = app.share.connection(&endpoint, outgoing.lane()).await;
        connection.map_err(|error| match error {
            NoConnection::Full => Rejection::ConcurrencyLimit { limit: app.share.upstream.leases.limit() },
            NoConnection::Connect(error) => match *error {
                ConnectError::TcpTimeout { .. } => {
                    Rejection::AppConnectTimeout { target_port, limit: CONNECT_MAX }
                }
                ConnectError::Http2 { .. } | ConnectError::HandshakeTimeout { .. } => {
                    Rejection::AppNotHttp { target_port, malformed: None }
                }
                ConnectError::NoIdentity
                | ConnectError::Tcp { .. }
                | ConnectError::Peer { .. }
                | ConnectError::Tls { .. } => Rejection::AppRefused { target_port },
            },
        })
    };
    over_h2(connect, outgoing, body, Rejection::AppReset { target_port }, interim).await
}

/// To an app of which nothing is looked at.
async fn over_tcp(app: &Rc<H1Pool>, target_port: u16) -> Result<Answered, Failure> {
    let opened = app.open().await.map_err(|error| app_failure(&error, target_port))?;
    Ok(Underway::of_h1(opened))
}

/// Over HTTP/1.1, to the app.
async fn over_h1(
    app: &Rc<H1Pool>,
    target_port: u16,
    head: &Request<()>,
    body: &mut RequestBody,
    interim: &Interim,
) -> Result<Answered, Failure> {
    match app.send(head, body, interim).await {
        Ok(answer) => Ok(Underway::of_h1(answer)),
        Err(error) => Err(app_failure(&error, target_port)),
    }
}

fn app_failure(error: &H1Error, target_port: u16) -> Failure {
    tracing::debug!(error = crate::error_chain(error), "the app gave no answer");
    match error {
        H1Error::Connect { .. } => Failure::NeverRan(Rejection::AppRefused { target_port }),
        H1Error::ConnectTimeout { .. } => {
            Failure::NeverRan(Rejection::AppConnectTimeout { target_port, limit: CONNECT_MAX })
        }
        H1Error::Malformed(malformed) => {
            Failure::Final(Rejection::AppNotHttp { target_port, malformed: Some(*malformed) })
        }
        H1Error::Broken(_) => Failure::Final(Rejection::AppReset { target_port }),
        H1Error::Source => Failure::Final(Rejection::MalformedRequest { why: "its body broke off" }),
    }
}
