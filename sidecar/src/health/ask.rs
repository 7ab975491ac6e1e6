//! One check: a connection to the exact endpoint, a request on it, and what the answer means.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use outrider_shared::snapshot::AppProtocol;
use outrider_shared::traffic::HealthCheckKind;
use outrider_shared::{ServiceId, SpiffeId};
use sfv::Parser;

use super::checker::Kept;
use super::grpc;
use super::machine::Verdict;
use crate::leg::h2_client::{H2Connection, Lane, poll_answer};
use crate::leg::interim::Interim;
use crate::mesh::{self, ConnectError, Dialer, Tls};
use crate::pipeline::accept::{FORM, HOPS, REFUSED, TARGET};
use crate::pipeline::judge::{self, Trailers};
use crate::pipeline::urgency::TIMEOUT;

/// What is read of an answer over HTTP, so that its connection can be used again; the rest is reset. 64 KiB: health pages
/// are small.
const READ_BYTES_MAX: usize = 64 << 10;
/// Of a reason, in characters: a `Proxy-Status` may be long, and one line is enough.
const WHY_MAX: usize = 200;
const AGENT: HeaderValue = HeaderValue::from_static("outrider-health-check");
const PROXY_STATUS: &str = "proxy-status";
/// Errors of `Proxy-Status` with which a sidecar refuses for its own sake (see the table of refusals): of its limits, its
/// load, its policy, and the caller's time.
const FOR_ITS_OWN_SAKE: [&str; 4] =
    ["connection_limit_reached", "proxy_internal_response", "http_request_denied", "http_response_timeout"];

/// What is asked of whom.
pub(super) struct Asked {
    pub tls: Arc<ArcSwapOption<Tls>>,
    pub address: SocketAddr,
    pub identity: Option<SpiffeId>,
    /// `None`: the service has no port for such a check.
    pub target: Option<Target>,
    pub kind: HealthCheckKind,
    pub timeout: Duration,
}

/// The port that is asked for.
pub(super) struct Target {
    /// `namespace/name:port`.
    header: HeaderValue,
    /// `name.namespace:port`, as apps call it.
    authority: String,
}

impl Target {
    /// `None`: never, names of services are DNS labels.
    pub fn new(service: &ServiceId, port: u16) -> Option<Self> {
        let header = HeaderValue::try_from(format!("{service}:{port}")).ok()?;
        Some(Self { header, authority: format!("{}.{}:{port}", service.name(), service.namespace()) })
    }
}

/// Whether a port of this protocol can be asked so.
pub(super) fn is_for(kind: &HealthCheckKind, protocol: AppProtocol) -> bool {
    match kind {
        HealthCheckKind::Http { .. } => protocol != AppProtocol::Tcp,
        HealthCheckKind::Grpc { .. } => matches!(protocol, AppProtocol::Http2 | AppProtocol::Grpc),
        HealthCheckKind::Tcp => true,
    }
}

/// Asks once. Cancelled by its timeout and by the end of the upstream: the stream is reset, and the connection is given up.
pub(super) async fn ask(asked: &Asked, kept: &Kept) -> Verdict {
    match actix_rt::time::timeout(asked.timeout, answered(asked, kept)).await {
        Ok(Ok(())) => Verdict::Well,
        Ok(Err(verdict)) => verdict,
        Err(_) => Verdict::Unwell(format!("no answer within {:?}", asked.timeout)),
    }
}

/// `Err`: anything but well.
async fn answered(asked: &Asked, kept: &Kept) -> Result<(), Verdict> {
    let (head, content) = match &asked.kind {
        HealthCheckKind::Http { path } => (request(asked, Method::GET, path)?, None),
        HealthCheckKind::Grpc { service } => {
            let mut head = request(asked, Method::POST, grpc::PATH)?;
            head.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT));
            head.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
            (head, Some(grpc::request(service)))
        }
        HealthCheckKind::Tcp => {
            connect(asked).await?.retire();
            return Ok(());
        }
    };
    let connection = match kept.take() {
        Some(connection) if connection.has_room() && !connection.is_due(Instant::now()) => connection,
        _ => connect(asked).await?,
    };
    let broke = |error: h2::Error| Verdict::Unwell(cut(&format!("the connection broke: {error}")));
    let mut sent = connection.send(head, content.is_none()).await.map_err(broke)?;
    if let Some(content) = content {
        sent.body.send_data(content, true).map_err(broke)?;
    }
    let answer = poll_fn(|cx| poll_answer(&mut sent, &Interim::None, cx)).await.map_err(broke)?;
    let (head, body) = answer.into_parts();
    let (content, trailers) = collect(body).await.map_err(broke)?;
    // Whatever it says, the connection is good.
    kept.set(Some(connection));
    if head.headers.contains_key(&REFUSED) {
        return Err(refused(&head.headers));
    }
    match &asked.kind {
        HealthCheckKind::Http { path } => of_http(path, head.status),
        HealthCheckKind::Grpc { .. } => of_grpc(head.status, &head.headers, trailers.as_ref(), &content),
        HealthCheckKind::Tcp => Ok(()),
    }
}

async fn connect(asked: &Asked) -> Result<H2Connection, Verdict> {
    let dialer = Dialer::Mesh(Arc::clone(&asked.tls));
    let connected = mesh::connect(&dialer, asked.address, asked.identity.as_ref(), Lane::Short).await;
    connected.map_err(|error| match error {
        ConnectError::NoIdentity => Verdict::Inconclusive(error.to_string()),
        error => Verdict::Unwell(cut(&crate::error_chain(&error))),
    })
}

/// As the caller's sidecar sends a request of its app.
fn request(asked: &Asked, method: Method, path: &str) -> Result<Request<()>, Verdict> {
    let target = asked.target.as_ref();
    let target = target.ok_or_else(|| Verdict::Inconclusive("the service has no port for it".to_owned()))?;
    let remaining_ms = u64::try_from(asked.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
    Request::builder()
        .method(method)
        .version(Version::HTTP_2)
        .uri(format!("http://{}{path}", target.authority))
        .header(&TARGET, target.header.clone())
        .header(&FORM, "2")
        .header(&HOPS, "1")
        .header(&TIMEOUT, remaining_ms)
        .header(USER_AGENT, AGENT)
        .body(())
        .map_err(|error| Verdict::Inconclusive(format!("it cannot be asked: {error}")))
}

fn of_http(path: &str, status: StatusCode) -> Result<(), Verdict> {
    if (200..400).contains(&status.as_u16()) {
        return Ok(());
    }
    Err(Verdict::Unwell(cut(&format!("GET {path} is answered with {}", status.as_u16()))))
}

fn of_grpc(
    status: StatusCode,
    head: &HeaderMap,
    trailers: Option<&HeaderMap>,
    message: &[u8],
) -> Result<(), Verdict> {
    match judge::grpc(status, head, Trailers::Over(trailers)) {
        Some(0) => grpc::serving(message).map_err(Verdict::Unwell),
        code => {
            let code = code.unwrap_or_default();
            Err(Verdict::Unwell(format!("{} ended with gRPC status {code}", grpc::PATH)))
        }
    }
}

/// The far sidecar made the answer: for its own sake, or since the app is not to be had.
fn refused(fields: &HeaderMap) -> Verdict {
    let status = fields.get(PROXY_STATUS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let why = cut(&format!("its sidecar refused: {status}"));
    let list = Parser::new(status).parse::<sfv::List>().unwrap_or_default();
    let error = list.iter().find_map(|member| match member {
        sfv::ListEntry::Item(item) => item.params.get("error")?.as_token().map(sfv::TokenRef::as_str),
        sfv::ListEntry::InnerList(_) => None,
    });
    if error.is_some_and(|error| FOR_ITS_OWN_SAKE.contains(&error)) {
        Verdict::Inconclusive(why)
    } else {
        Verdict::Unwell(why)
    }
}

/// The first [`READ_BYTES_MAX`] of content, and the trailers; past that the stream is reset as it is dropped.
async fn collect(mut body: h2::RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut content = Vec::new();
    while let Some(data) = body.data().await {
        let data: Bytes = data?;
        // Room for more; the stream may have ended with this.
        let _ended = body.flow_control().release_capacity(data.len());
        let room = READ_BYTES_MAX.saturating_sub(content.len());
        content.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() >= room {
            return Ok((content, None));
        }
    }
    Ok((content, body.trailers().await?))
}

fn cut(text: &str) -> String {
    text.chars().take(WHY_MAX).collect()
}
