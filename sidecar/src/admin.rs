//! The sidecar's own HTTP: admin on loopback, and a read-only port for orchestrators and Prometheus.
//!
//! | port | path | what |
//! |---|---|---|
//! | admin | `GET /snapshot` | the snapshot in force, and the session's state |
//! | admin | `GET /upstreams` | each upstream as its actor last published it, with the shards' counters; with `?watch=1` one line of JSON for each that has changed |
//! | admin | `GET /events` | what happened to upstreams, the latest 1,024, one line of JSON each; with `?watch=1` what comes, too |
//! | admin | `GET /plaintext` | who has sent plaintext to the mesh's port, where policy permits it, by address |
//! | admin | `POST /drain` | begins a drain; a second one ends it at once |
//! | admin | `POST /faults/panic?upstream=NAME` | makes that upstream's actor panic; only with `--allow-faults` |
//! | admin | `GET /version` | what this binary is |
//! | health | `GET /live`, `/ready`, `/metrics` | |

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service as _;
use actix_web::http::header::ContentType;
use actix_web::web::{self, Data};
use actix_web::{App, HttpResponse, HttpResponseBuilder, HttpServer};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use crate::drain::Phase;
use crate::node::Node;
use crate::session::{Session, SessionStatus};
use crate::telemetry::metrics;
use crate::upstream::Unheard;
use crate::view;

mod live;

use live::Watchers;

/// Connections to each of both ports. 64: a handful of probes, scrapes and people.
const CONNECTIONS_MAX: usize = 64;
/// How old the session's state in an answer may be.
const STATUS_PERIOD: Duration = Duration::from_millis(100);

/// What both servers have in common; a macro, since their types have no names that can be written.
macro_rules! configured {
    ($server:expr) => {
        $server.workers(1).max_connections(CONNECTIONS_MAX).disable_signals().shutdown_timeout(1)
    };
}

/// Serves both ports until the process ends.
pub fn start(node: &Arc<Node>, session: &Rc<Session>) -> anyhow::Result<()> {
    let status = publish_status(session);
    let config = &node.config;
    let admin_listener = std_listener(config.admin, "--admin")?;
    let health_listener = std_listener(config.health, "--health")?;
    let own_hosts = [config.admin.to_string(), format!("localhost:{}", config.admin.port())];
    let allow_faults = config.allow_faults;
    if allow_faults {
        tracing::warn!("--allow-faults: whoever reaches the admin port can make actors panic");
    }
    let watchers = Watchers::default();
    let (node, admin_status) = (Data::from(Arc::clone(node)), Data::new(status));
    let (health_node, health_status) = (node.clone(), admin_status.clone());
    let admin = HttpServer::new(move || {
        let own_hosts = own_hosts.clone();
        App::new()
            .app_data(node.clone())
            .app_data(admin_status.clone())
            .app_data(Data::new(watchers.clone()))
            .wrap_fn(move |request, service| {
                // A page in the operator's browser may name this port by a name of its own (DNS rebinding), or post to it.
                let host = request.headers().get("host").and_then(|host| host.to_str().ok());
                let foreign = host.is_none_or(|host| !own_hosts.iter().any(|own| own == host))
                    || request.headers().contains_key("origin");
                let answer = (!foreign).then(|| service.call(request));
                async move {
                    match answer {
                        Some(answer) => answer.await,
                        None => Err(actix_web::error::ErrorForbidden(
                            "this port answers to its own address only\n",
                        )),
                    }
                }
            })
            .route("/snapshot", web::get().to(snapshot))
            .route("/upstreams", web::get().to(upstreams))
            .route("/events", web::get().to(events))
            .route("/plaintext", web::get().to(plaintext))
            .route("/version", web::get().to(version))
            .route("/drain", web::post().to(drain))
            .configure(|app| {
                if allow_faults {
                    app.route("/faults/panic", web::post().to(make_panic));
                }
            })
    });
    actix_rt::spawn(configured!(admin).listen(admin_listener)?.run());
    let health = HttpServer::new(move || {
        App::new()
            .app_data(health_node.clone())
            .app_data(health_status.clone())
            .route("/live", web::get().to(async || HttpResponse::Ok().body("live\n")))
            .route("/ready", web::get().to(ready))
            .route("/metrics", web::get().to(metrics_page))
    });
    actix_rt::spawn(configured!(health).listen(health_listener)?.run());
    Ok(())
}

fn std_listener(address: SocketAddr, flag: &str) -> std::io::Result<std::net::TcpListener> {
    crate::listen::bind(address, flag)?.into_std()
}

type Status = watch::Receiver<SessionStatus>;

/// The session lives on the control arbiter; its state is copied for the workers of these ports.
fn publish_status(session: &Rc<Session>) -> Status {
    let (send, receive) = watch::channel(session.status());
    let session = Rc::clone(session);
    actix_rt::spawn(async move {
        loop {
            actix_rt::time::sleep(STATUS_PERIOD).await;
            if send.send(session.status()).is_err() {
                return;
            }
        }
    });
    receive
}

/// Why the sidecar is not ready, if it is not.
fn unready(node: &Node) -> Option<&'static str> {
    if node.tls.load().is_none() {
        return Some("no certificate yet: the control plane has not been reached");
    }
    if node.published.load().is_none() {
        return Some("no snapshot yet: the control plane has not sent one");
    }
    match *node.phase.borrow() {
        Phase::Serving => None,
        Phase::Withdrawing { .. } | Phase::Finishing { .. } | Phase::Done => Some("draining"),
    }
}

async fn ready(node: Data<Node>) -> HttpResponse {
    match unready(&node) {
        None => HttpResponse::Ok().body("ready\n"),
        Some(why) => HttpResponse::ServiceUnavailable().body(format!("{why}\n")),
    }
}

async fn metrics_page(node: Data<Node>, status: Data<Status>) -> HttpResponse {
    let text = metrics::encode(&view::scrape(&node, &status.borrow()));
    HttpResponse::Ok().content_type(metrics::CONTENT_TYPE).body(text)
}

async fn snapshot(node: Data<Node>, status: Data<Status>) -> HttpResponse {
    let snapshot = node.snapshot.load_full();
    let session = status.borrow().clone();
    HttpResponse::Ok().json(json!({
        "service": node.config.service,
        "session": session,
        "draining": *node.phase.borrow() != Phase::Serving,
        "unready": unready(&node),
        "overload": view::overload(&node),
        "snapshot": snapshot.as_deref(),
    }))
}

/// `?watch=1`: what comes, too.
#[derive(Debug, Deserialize)]
struct Watch {
    watch: Option<u8>,
}

impl Watch {
    fn is_asked(&self) -> bool {
        self.watch.is_some_and(|watch| watch != 0)
    }
}

async fn upstreams(node: Data<Node>, watchers: Data<Watchers>, query: web::Query<Watch>) -> HttpResponse {
    if query.is_asked() {
        return live::upstreams(node, &watchers);
    }
    HttpResponse::Ok().json(json!({ "upstreams": view::upstreams(&node) }))
}

async fn events(node: Data<Node>, watchers: Data<Watchers>, query: web::Query<Watch>) -> HttpResponse {
    if query.is_asked() {
        return live::events(&node, &watchers);
    }
    let kept: Vec<Bytes> = node.events.listen().0.iter().map(live::line).collect();
    HttpResponse::Ok().content_type(live::CONTENT_TYPE).body(kept.concat())
}

#[derive(Debug, Deserialize)]
struct Fault {
    /// By its name in `/upstreams`.
    upstream: String,
}

async fn make_panic(node: Data<Node>, query: web::Query<Fault>) -> HttpResponse {
    let plain =
        |mut answer: HttpResponseBuilder, text| answer.content_type(ContentType::plaintext()).body(text);
    let map = node.upstreams.load();
    let Some(upstream) = map.values().find(|upstream| upstream.key.to_string() == query.upstream) else {
        return plain(HttpResponse::NotFound(), "no upstream of this name is in use: see /upstreams\n");
    };
    tracing::warn!(upstream = %upstream.key, "the admin port was asked for a panic of its actor");
    match upstream.make_panic() {
        Ok(()) => plain(HttpResponse::Accepted(), "it panics\n"),
        Err(Unheard) => plain(HttpResponse::ServiceUnavailable(), "it is being started anew\n"),
    }
}

async fn plaintext(node: Data<Node>) -> HttpResponse {
    let sources = node.stats.shard_totals().plaintext_sources;
    let sources = sources.into_iter().map(|of| json!({ "address": of.label, "requests": of.count }));
    HttpResponse::Ok().json(json!({ "sources": sources.collect::<Vec<_>>() }))
}

async fn version() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "name": "outrider-sidecar", "version": env!("CARGO_PKG_VERSION") }))
}

async fn drain(node: Data<Node>) -> HttpResponse {
    match node.ask.try_send(()) {
        Ok(()) => HttpResponse::Accepted().content_type(ContentType::plaintext()).body("draining\n"),
        Err(_) => HttpResponse::Conflict().content_type(ContentType::plaintext()).body("already asked\n"),
    }
}
