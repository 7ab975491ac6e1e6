//! The control port: join, renew, and the sessions of sidecars, over TLS 1.3.

mod throttle;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use actix_web::web::{self, Data, Json};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use outrider_shared::identity::{Material, Peer, control_server_config, verified_peer};
use outrider_shared::join::{JoinRequest, RenewRequest};
use ractor::call_t;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::authority::Refused;
use crate::authority::actor::Message as AuthorityMessage;
use crate::metrics::Outcome;
use crate::parts::Parts;
use crate::problem::{Failed, json_config, no_such_way, only};
use crate::session::{self, ANSWER_MAX_MS};
use throttle::Throttle;

/// Sessions and joins at once. 10,000: as many sidecars as one control plane is meant for, and room to join.
const CONNECTIONS_MAX: usize = 10_000;
/// Requests to join and renew hold a key and a certificate request.
const BODY_BYTES_MAX: usize = 16 << 10;
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Before a refusal is answered: whoever guesses gets one answer a second from each connection, and nobody else waits.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// Who is at the other end, where a certificate was shown and held.
#[derive(Debug, Clone)]
struct Shown(Option<Peer>);

/// Gives each handshake the leaf in force, which is renewed while the port is open.
struct Rotating(Arc<Parts>);

impl std::fmt::Debug for Rotating {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rotating")
    }
}

impl ResolvesServerCert for Rotating {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.own.load().certified_key))
    }
}

/// Serves the port; the future ends when the server is stopped by its handle.
pub fn start(parts: &Arc<Parts>, listener: std::net::TcpListener) -> std::io::Result<actix_web::dev::Server> {
    let own: Arc<Material> = parts.own.load_full();
    let mut config = rustls::ServerConfig::clone(&control_server_config(&own));
    config.cert_resolver = Arc::new(Rotating(Arc::clone(parts)));
    let parts = Data::from(Arc::clone(parts));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(parts.clone())
            .app_data(Data::new(RefCell::new(Throttle::default())))
            .app_data(json_config(BODY_BYTES_MAX))
            .service(only("/v1/join", web::post().to(join)))
            .service(only("/v1/renew", web::post().to(renew)))
            .service(only("/v1/session", web::get().to(begin_session)))
            .default_service(web::to(no_such_way))
    })
    .on_connect(note_peer)
    // One, so that there is one table of who was refused.
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .tls_handshake_timeout(HANDSHAKE_MAX)
    .shutdown_timeout(1)
    .disable_signals()
    .listen_rustls_0_23(listener, config)?;
    Ok(server.run())
}

fn note_peer(connection: &dyn std::any::Any, extensions: &mut Extensions) {
    let Some(tls) = connection.downcast_ref::<TlsStream<TcpStream>>() else { return };
    let certificates = tls.get_ref().1.peer_certificates();
    extensions.insert(Shown(certificates.and_then(|chain| verified_peer(Some(chain)).ok())));
}

/// Tells the log and, after a pause, whoever asked.
async fn refuse(asked: &'static str, http: &HttpRequest, refused: Refused) -> Failed {
    tracing::warn!(asked, source = ?http.peer_addr(), because = %refused, "refused");
    tokio::time::sleep(REFUSAL_PAUSE).await;
    refused.into()
}

async fn join(
    parts: Data<Parts>,
    throttle: Data<RefCell<Throttle>>,
    http: HttpRequest,
    request: Json<JoinRequest>,
) -> Result<HttpResponse, Failed> {
    let source = http.peer_addr().map(|source| source.ip());
    let now = Instant::now();
    if let Some(wait) = source.and_then(|source| throttle.borrow().wait(source, now)) {
        parts.metrics.joins.get_or_create(&Outcome { outcome: "throttled" }).inc();
        let detail = format!("too many requests to join from this address were refused: wait {wait:.0?}");
        return Err(Failed::new(429, "Refused too often", detail));
    }
    let authority =
        parts.authority().ok_or_else(|| Failed::unavailable("the authority is being started anew"))?;
    let request = Box::new(request.into_inner());
    let joined = call_t!(authority, |reply| AuthorityMessage::Join(request, reply), ANSWER_MAX_MS);
    match joined.map_err(|error| Failed::unavailable(error.to_string()))? {
        Ok(joined) => Ok(HttpResponse::Ok().json(joined)),
        Err(refused) => {
            if let Some(source) = source {
                throttle.borrow_mut().refused(source, Instant::now());
            }
            Err(refuse("join", &http, refused).await)
        }
    }
}

async fn renew(
    parts: Data<Parts>,
    http: HttpRequest,
    request: Json<RenewRequest>,
) -> Result<HttpResponse, Failed> {
    let authority =
        parts.authority().ok_or_else(|| Failed::unavailable("the authority is being started anew"))?;
    let request = Box::new(request.into_inner());
    let renewed = call_t!(authority, |reply| AuthorityMessage::Renew(request, reply), ANSWER_MAX_MS);
    match renewed.map_err(|error| Failed::unavailable(error.to_string()))? {
        Ok(leaf) => Ok(HttpResponse::Ok().json(leaf)),
        Err(refused) => Err(refuse("renew", &http, refused).await),
    }
}

async fn begin_session(
    parts: Data<Parts>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, actix_web::Error> {
    let peer = request.conn_data::<Shown>().and_then(|peer| peer.0.clone());
    let peer =
        peer.ok_or_else(|| Failed::new(401, "No certificate", "a session needs a client certificate"))?;
    let source: SocketAddr = request
        .peer_addr()
        .ok_or_else(|| Failed::new(400, "No address", "the connection has no peer address"))?;
    let (answer, socket, stream) = actix_ws::handle(&request, body)?;
    actix_web::rt::spawn(session::serve(parts.into_inner(), socket, stream, peer, source));
    Ok(answer)
}
