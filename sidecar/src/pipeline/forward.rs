//! Sends a request on, and waits for the head of its answer.
//!
//! Cancelled by: the client's going away (the future is dropped) and the route's timeouts. Dropping it resets the stream
//! or closes the connection, and gives back what the request holds.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use bytes::Bytes;
use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Body as _;
use outrider_shared::snapshot::AppProtocol;

use super::accept::{HOPS, REFUSED, WAY, XFCC};
use super::admit::AdmittedToApp;
use super::answer::Answer;
use super::choose::{Chosen, Tried};
use super::find::FoundPort;
use super::identify::InboundConnection;
use super::record::{Held, Record};
use super::refused::Refused;
use super::rejection::Rejection;
use super::route::Routed;
use super::{headers, way};
use crate::leg::body::Body;
use crate::leg::h1::client::{H1Answer, H1Error, H1Pool};
use crate::leg::h1::sink::H1Sink;
use crate::leg::h2_client::{H2Connection, poll_answer};
use crate::leg::interim::Interim;
use crate::leg::pump::{Pump, PumpError, Sink};
use crate::mesh::{CONNECT_MAX, ConnectError};
use crate::shard::{AppPort, Shard};
use crate::upstream::share::{NoConnection, Share};

/// The head of a request as it goes on. Kept, since a re-dispatch sends it again.
pub struct Outgoing {
    pub method: Method,
    pub uri: Uri,
    pub fields: HeaderMap,
}

impl Outgoing {
    fn head(&self) -> Request<()> {
        let mut head = Request::new(());
        *head.method_mut() = self.method.clone();
        *head.uri_mut() = self.uri.clone();
        *head.version_mut() = http::Version::HTTP_2;
        head.headers_mut().clone_from(&self.fields);
        head
    }
}

/// An answer's head and body, with what the request holds until its end.
pub struct Forwarded {
    pub(super) response: Response<Body>,
    pub(super) held: Held,
    /// When the route's patience ends.
    pub(super) deadline: Option<Instant>,
}

impl Forwarded {
    /// Hands the answer to the client; the record ends with it.
    pub fn deliver(self, mut record: Record) -> Response<Answer> {
        record.answered(&self.response, self.held);
        let deadline = self.deadline;
        self.response.map(|body| Answer::stream(body, record, deadline))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// It provably never ran: another endpoint may have it, whatever its method.
    NeverRan(Rejection),
    /// It may have run.
    Final(Rejection),
}

/// A request's body on its way, across attempts; `None`: there is none.
pub type RequestBody = Option<Pump<Body>>;

/// To an endpoint of another service. An answer of its sidecar that says "never reached the app" counts as never ran
/// only where the request can still go elsewhere: otherwise it is the answer.
pub async fn to_peer(
    shard: &Shard,
    routed: &mut Routed<'_>,
    chosen: Chosen,
    tried: &Tried,
    interim: &Interim,
) -> Result<Forwarded, Failure> {
    let began_at = Instant::now();
    let deadline = routed.deadline(began_at);
    let share = Rc::clone(&routed.share);
    let attempt = async {
        let connection = share.connection(&chosen.endpoint).await;
        let connection = connection.map_err(|error| Failure::NeverRan(rejection_of(&error, &share)))?;
        let reset = Rejection::UpstreamReset { endpoint: chosen.address() };
        // What a first connection takes says nothing about the next request.
        let sent_at = Instant::now();
        let answered = over_h2(&connection, &routed.outgoing, &mut routed.body, reset, interim).await?;
        Ok((answered, sent_at))
    };
    let answered = within(attempt, deadline.as_ref()).await;
    let now = Instant::now();
    let ((mut response, mut held), sent_at) = match answered {
        Ok(answered) => answered,
        Err(failure) => {
            chosen.endpoint.failed();
            if matches!(failure, Failure::Final(_)) {
                // It took at least so long, and gave nothing.
                chosen.endpoint.observe(now.saturating_duration_since(began_at), now);
            }
            return Err(failure);
        }
    };
    chosen.endpoint.observe(now.saturating_duration_since(sent_at), now);
    if never_reached_app(response.headers()) && may_go_elsewhere(shard, routed, &chosen, tried) {
        chosen.endpoint.failed();
        return Err(Failure::NeverRan(Rejection::UpstreamReset { endpoint: chosen.address() }));
    }
    commit(&mut routed.body, &mut held);
    let fields = response.headers_mut();
    let inner_way = fields.remove(&WAY);
    headers::remove_hop_by_hop(fields);
    headers::strip_reserved(fields);
    routed.rule.response_headers.apply(fields);
    routed.backend.response_headers.apply(fields);
    if routed.explain {
        fields.insert(&WAY, way::outbound(routed, &chosen, tried, sent_at, inner_way.as_ref()));
    }
    held.held.permit = Some(chosen.permit);
    held.held.in_flight = Some(chosen.in_flight);
    Ok(Forwarded { response, held: held.held, deadline: deadline.map(|deadline| deadline.at) })
}

fn may_go_elsewhere(shard: &Shard, routed: &Routed<'_>, chosen: &Chosen, tried: &Tried) -> bool {
    let mut tried = tried.clone();
    tried.push(chosen.address());
    routed.can_go_elsewhere(shard, &tried)
}

fn rejection_of(error: &NoConnection, share: &Share) -> Rejection {
    let NoConnection::Connect(error) = error else {
        return Rejection::ConcurrencyLimit { limit: share.upstream.leases.limit() };
    };
    match &**error {
        ConnectError::NoIdentity => Rejection::NotReady,
        ConnectError::Tcp { address, .. } => Rejection::ConnectFailed { endpoint: *address },
        ConnectError::TcpTimeout { address } => {
            Rejection::ConnectTimeout { endpoint: *address, limit: CONNECT_MAX }
        }
        ConnectError::Peer { address, source } => {
            Rejection::PeerIdentity { endpoint: *address, refusal: Box::new(source.clone()) }
        }
        ConnectError::Tls { address, .. }
        | ConnectError::HandshakeTimeout { address }
        | ConnectError::Http2 { address, .. } => Rejection::TlsFailed { endpoint: *address },
    }
}

/// To the own app, in the protocol that it is declared to speak.
pub async fn to_app(
    from: &InboundConnection,
    admitted: AdmittedToApp<'_>,
    record: &mut Record,
    interim: &Interim,
) -> Result<Forwarded, Refused> {
    let AdmittedToApp { authorized, app, permit } = admitted;
    record.goes_to(&app.share.stats);
    let FoundPort { identified, local, .. } = authorized.found;
    let accepted = identified.accepted;
    let explain = accepted.explain;
    let sent_at = Instant::now();
    let mut fields = accepted.head.headers;
    if accepted.hops > 0 {
        // An app that passes it on lets its own sidecar see a circle.
        fields.insert(&HOPS, HeaderValue::from(u16::from(accepted.hops)));
    }
    if let Some(certificate) = &from.certificate {
        fields.insert(&XFCC, certificate.clone());
    }
    let mut body = (!accepted.body.is_end_stream()).then(|| Pump::keeping(accepted.body, 0));
    let mut answered = match local.app_protocol {
        AppProtocol::Http1 => {
            let mut head = Request::new(());
            *head.method_mut() = accepted.head.method;
            *head.uri_mut() = Uri::from(accepted.target.into_inner());
            let host = HeaderValue::from_maybe_shared(Bytes::from(accepted.authority.to_string()));
            fields.insert(HOST, host.expect("an authority is a legal field value"));
            *head.headers_mut() = fields;
            over_h1(&app.h1, local.target_port, &head, &mut body, interim).await
        }
        AppProtocol::Http2 | AppProtocol::Grpc => {
            let uri = Uri::builder()
                .scheme(Scheme::HTTP)
                .authority(accepted.authority)
                .path_and_query(accepted.target.into_inner())
                .build()
                .map_err(|_| Rejection::MalformedRequest { why: "its target is no URI" })?;
            let outgoing = Outgoing { method: accepted.head.method, uri, fields };
            over_app_h2(&app, local.target_port, &outgoing, &mut body, interim).await
        }
    };
    match &mut answered {
        Ok((_, underway)) => commit(&mut body, underway),
        Err(Failure::Final(Rejection::AppNotHttp { malformed: Some(malformed), .. })) => {
            record.malformed_answer(*malformed);
        }
        Err(_) => {}
    }
    let (mut response, mut held) = answered.map_err(|failure| Refused {
        rejection: match failure {
            Failure::NeverRan(rejection) | Failure::Final(rejection) => rejection,
        },
        rule: None,
        target: Some((*local.name).into()),
    })?;
    held.held.permit = Some(permit);
    let fields = response.headers_mut();
    headers::remove_hop_by_hop(fields);
    headers::strip_reserved(fields);
    if explain {
        fields.insert(&WAY, way::inbound(&identified.principal, local.target_port, sent_at));
    }
    Ok(Forwarded { response, held: held.held, deadline: None })
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
    let connection = app.share.connection(&endpoint).await.map_err(|error| {
        Failure::NeverRan(match error {
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
    })?;
    over_h2(&connection, outgoing, body, Rejection::AppReset { target_port }, interim).await
}

/// An answer whose request body may still be under way.
pub(super) type Answered = (Response<Body>, Underway);

pub(super) struct Underway {
    pub(super) held: Held,
    /// Where the rest of the request's body goes.
    rest: Option<Rest>,
}

enum Rest {
    H2(h2::SendStream<Bytes>),
    H1(H1Sink),
}

impl Underway {
    pub(super) fn of_h1(answer: H1Answer) -> Answered {
        let held = Held { reuse: Some(answer.reuse), ..Held::default() };
        (answer.response, Self { held, rest: Some(Rest::H1(answer.sink)) })
    }
}

/// There is no way back: what is left of the request's body goes on by itself.
pub(super) fn commit(body: &mut RequestBody, underway: &mut Underway) {
    let Some(rest) = underway.rest.take() else { return };
    if let Some(mut pump) = body.take_if(|pump| !pump.is_done()) {
        pump.commit();
        match rest {
            Rest::H2(stream) => actix_rt::spawn(send_rest(pump, stream)),
            Rest::H1(sink) => actix_rt::spawn(send_rest(pump, sink)),
        };
    }
}

async fn send_rest<S: Sink>(mut pump: Pump<Body>, mut sink: S) {
    if let Err(error) = poll_fn(|cx| pump.poll(&mut sink, cx)).await {
        tracing::trace!(error = crate::error_chain(&error), "the rest of a request's body was not sent");
    }
}

/// Over HTTP/2, to another sidecar or to the app. `reset`: what a stream that broke means here.
pub(super) async fn over_h2(
    connection: &H2Connection,
    outgoing: &Outgoing,
    body: &mut RequestBody,
    reset: Rejection,
    interim: &Interim,
) -> Result<Answered, Failure> {
    let sent = connection.send(outgoing.head(), body.is_none()).await;
    let mut sent = sent.map_err(|error| {
        tracing::debug!(%error, "a connection took no request");
        Failure::NeverRan(reset.clone())
    })?;
    let answered = poll_fn(|cx| {
        if let Some(pump) = body.as_mut()
            && let Poll::Ready(Err(error)) = pump.poll(&mut sent.body, cx)
        {
            match error {
                // The client broke off, so nobody waits for an answer.
                PumpError::Source(_) => return Poll::Ready(None),
                // The answer, or its reset, tells why no more is taken.
                PumpError::Sink(_) | PumpError::Reset(_) => {}
            }
        }
        poll_answer(&mut sent, interim, cx).map(Some)
    })
    .await;
    match answered {
        None => Err(Failure::Final(Rejection::MalformedRequest { why: "its body broke off" })),
        Some(Err(error)) => Err(judge(&error, reset)),
        Some(Ok(response)) => {
            let held = Held { slot: Some(sent.slot), ..Held::default() };
            Ok((response.map(Body::from_h2), Underway { held, rest: Some(Rest::H2(sent.body)) }))
        }
    }
}

/// Whether a stream that failed provably never ran: refused by the peer, or above the last stream of its GOAWAY. `h2`
/// gives a remote GOAWAY as the error of those streams alone; streams below it end with what ended the connection.
fn judge(error: &h2::Error, reset: Rejection) -> Failure {
    let refused = error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    if refused || (error.is_go_away() && error.is_remote()) {
        return Failure::NeverRan(reset);
    }
    tracing::debug!(%error, "a stream to an upstream failed");
    Failure::Final(reset)
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
        Err(error) => {
            tracing::debug!(error = crate::error_chain(&error), "the app gave no answer");
            Err(match error {
                H1Error::Connect { .. } => Failure::NeverRan(Rejection::AppRefused { target_port }),
                H1Error::ConnectTimeout { .. } => {
                    Failure::NeverRan(Rejection::AppConnectTimeout { target_port, limit: CONNECT_MAX })
                }
                H1Error::Malformed(malformed) => {
                    Failure::Final(Rejection::AppNotHttp { target_port, malformed: Some(malformed) })
                }
                H1Error::Broken(_) => Failure::Final(Rejection::AppReset { target_port }),
                H1Error::Source => Failure::Final(Rejection::MalformedRequest { why: "its body broke off" }),
            })
        }
    }
}

/// Ends `attempt` at the route's deadline.
async fn within<T>(
    attempt: impl Future<Output = Result<T, Failure>>,
    deadline: Option<&Deadline>,
) -> Result<T, Failure> {
    match deadline {
        None => attempt.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.at.into(), attempt).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Final(deadline.rejection.clone())),
        },
    }
}

/// When a route's patience ends, and what is said then.
#[derive(Debug, Clone)]
pub struct Deadline {
    pub at: Instant,
    pub rejection: Rejection,
}

/// Whether the far sidecar says that its app never saw the request.
fn never_reached_app(fields: &HeaderMap) -> bool {
    fields.get(&REFUSED).is_some_and(|mark| mark.as_bytes() == b"never-reached-app")
}
