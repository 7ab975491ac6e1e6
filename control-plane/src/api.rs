//! The API for operators, and a page that shows the same: plain HTTP, on loopback unless configured.
//!
//! Everything but `/live`, `/ready`, `/metrics`, `/v1/version` and the page's own files needs a credential. Changes are
//! POST with JSON's content type, which a form on a foreign page cannot send, or DELETE; `Host` and `Origin` must be ours,
//! so that no page in the operator's browser reaches this port by a name of its own. Probes by an address of the machine
//! are let through to `/live` and `/ready`, which tell nothing.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Service as _;
use actix_web::http::header::{self, ContentType};
use actix_web::web::{self, Data, Json, Path, Query};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use outrider_shared::ServiceId;
use outrider_shared::api::{MintRequest, PolicyAnswer, QuotaAnswer, Role, SidecarsAnswer, UpstreamsAnswer};
use ractor::call_t;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use crate::authority::Mint;
use crate::authority::actor::Message as AuthorityMessage;
use crate::authority::records::{Digest, digest};
use crate::parts::Parts;
use crate::problem::{Failed, json_config, no_such_way, only, query_config};
use crate::quota;
use crate::registry::Message as RegistryMessage;
use crate::session::ANSWER_MAX_MS;

/// People and scrapers.
const CONNECTIONS_MAX: usize = 256;
const BODY_BYTES_MAX: usize = 16 << 10;

/// What the port needs beside the parts.
pub struct Access {
    /// Of the credentials, and what each allows.
    pub credentials: Vec<(Digest, Role)>,
    /// `Host` values that are ours, as `127.0.0.1:14100`.
    pub hosts: Vec<String>,
}

/// Serves the port; the future ends when the server is stopped by its handle.
pub fn start(
    parts: &Arc<Parts>,
    access: Access,
    listener: std::net::TcpListener,
) -> std::io::Result<actix_web::dev::Server> {
    let (parts, access) = (Data::from(Arc::clone(parts)), Data::new(access));
    let server = HttpServer::new(move || {
        let hosts = access.clone();
        App::new()
            .app_data(parts.clone())
            .app_data(access.clone())
            .app_data(json_config(BODY_BYTES_MAX))
            .app_data(query_config())
            .wrap_fn(move |request, service| {
                let refused = foreign(request.request(), &hosts.hosts);
                let answer = if refused.is_none() { Some(service.call(request)) } else { None };
                async move {
                    match (answer, refused) {
                        (Some(answer), _) => answer.await,
                        (None, refused) => Err(refused.expect("refused, or called").into()),
                    }
                }
            })
            .configure(routes)
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .shutdown_timeout(1)
    .client_request_timeout(Duration::from_secs(5))
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}

fn routes(config: &mut web::ServiceConfig) {
    let ways = [
        ("/", web::get().to(page)),
        ("/page.js", web::get().to(page_script)),
        ("/page.css", web::get().to(page_style)),
        ("/live", web::get().to(async || HttpResponse::Ok().body("live\n"))),
        ("/ready", web::get().to(ready)),
        ("/metrics", web::get().to(metrics)),
        ("/v1/version", web::get().to(version)),
        ("/v1/stat", web::get().to(stat)),
        ("/v1/sidecars", web::get().to(sidecars)),
        ("/v1/upstreams", web::get().to(upstreams)),
        ("/v1/quota", web::get().to(quota_rows)),
        ("/v1/policy", web::get().to(policy)),
        ("/v1/audit", web::get().to(audit)),
        ("/v1/tokens", web::post().to(mint_token)),
        ("/v1/join-secrets", web::post().to(mint_join_secret)),
        ("/v1/tokens/{id}", web::delete().to(revoke)),
        ("/v1/join-secrets/{id}", web::delete().to(revoke)),
    ];
    for (path, way) in ways {
        config.service(only(path, way));
    }
    config.default_service(web::to(no_such_way));
}

/// Why a request is not from where it may be.
fn foreign(request: &HttpRequest, hosts: &[String]) -> Option<Failed> {
    let field = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let ours = |host: &str| hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let probe = matches!(request.path(), "/live" | "/ready");
    if !probe && !field(header::HOST).is_some_and(ours) {
        let detail = format!("this port answers to {}; add another name with --api-host", hosts.join(", "));
        return Some(Failed::new(421, "Wrong host", detail));
    }
    let origin = field(header::ORIGIN)?;
    let own = origin.strip_prefix("http://").is_some_and(ours);
    (!own).then(|| Failed::new(403, "Foreign origin", format!("{origin} may not use this API")))
}

/// Lets through whoever shows a credential of at least `role`.
fn allow(request: &HttpRequest, access: &Access, role: Role) -> Result<(), Failed> {
    let shown = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let shown = shown.ok_or_else(|| {
        Failed::new(
            401,
            "No credential",
            "send Authorization: Bearer with the content of <data-dir>/operator-token",
        )
    })?;
    let shown = digest(shown.trim().as_bytes());
    let is_shown = |known: &Digest| bool::from(shown.as_bytes().ct_eq(known.as_bytes()));
    match access.credentials.iter().find(|(known, _)| is_shown(known)) {
        Some((_, held)) if *held >= role => Ok(()),
        Some(_) => Err(Failed::new(
            403,
            "Not allowed",
            "this credential only reads; send the content of <data-dir>/operator-token",
        )),
        None => Err(Failed::new(
            401,
            "Credential refused",
            "this is no credential of this control plane; send the content of <data-dir>/operator-token",
        )),
    }
}

async fn ready(parts: Data<Parts>) -> HttpResponse {
    if parts.authority().is_some() && parts.registry().is_some() {
        HttpResponse::Ok().body("ready\n")
    } else {
        HttpResponse::ServiceUnavailable().body("starting\n")
    }
}

async fn metrics(parts: Data<Parts>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(parts.metrics.encode())
}

async fn version() -> HttpResponse {
    HttpResponse::Ok()
        .json(serde_json::json!({ "name": "outrider-control-plane", "version": env!("CARGO_PKG_VERSION") }))
}

/// Asks the registry.
async fn ask<T: Send + 'static>(
    parts: &Parts,
    question: impl FnOnce(ractor::RpcReplyPort<T>) -> RegistryMessage,
) -> Result<T, Failed> {
    let registry =
        parts.registry().ok_or_else(|| Failed::unavailable("the registry is being started anew"))?;
    call_t!(registry, question, ANSWER_MAX_MS).map_err(|error| Failed::unavailable(error.to_string()))
}

async fn stat(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Read)?;
    Ok(HttpResponse::Ok().json(ask(&parts, RegistryMessage::Stat).await?))
}

async fn sidecars(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Read)?;
    let sidecars = ask(&parts, RegistryMessage::Sidecars).await?;
    Ok(HttpResponse::Ok().json(SidecarsAnswer { sidecars }))
}

#[derive(Deserialize)]
struct OfService {
    service: Option<ServiceId>,
}

async fn upstreams(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
    of: Query<OfService>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Read)?;
    let mut sidecars = ask(&parts, RegistryMessage::Upstreams).await?;
    sidecars.retain(|sidecar| of.service.as_ref().is_none_or(|service| sidecar.service == *service));
    Ok(HttpResponse::Ok().json(UpstreamsAnswer { sidecars }))
}

async fn quota_rows(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
    of: Query<OfService>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Read)?;
    let live = ask(&parts, RegistryMessage::Quota).await?;
    let mut rows = quota::stored(&parts).map_err(|error| Failed::unavailable(error.to_string()))?;
    // A ledger that runs knows more than the disk.
    rows.retain(|row| !live.iter().any(|(service, _)| *service == row.service));
    rows.extend(live.into_iter().flat_map(|(_, rows)| rows));
    rows.retain(|row| of.service.as_ref().is_none_or(|service| row.service == *service));
    rows.sort_by(|a, b| (&a.service, &a.peer).cmp(&(&b.service, &b.peer)));
    Ok(HttpResponse::Ok().json(QuotaAnswer { rows }))
}

async fn policy(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Read)?;
    let in_force = parts.policy.load();
    Ok(HttpResponse::Ok().json(PolicyAnswer {
        revision: in_force.revision,
        hash: in_force.hash.clone(),
        loaded_unix_s: in_force.loaded_unix_s,
        problems: parts.problems.load().to_vec(),
    }))
}

async fn audit(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Read)?;
    let records = ask_authority(&parts, AuthorityMessage::Audited).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "records": records })))
}

async fn ask_authority<T: Send + 'static>(
    parts: &Parts,
    question: impl FnOnce(ractor::RpcReplyPort<Result<T, crate::authority::Refused>>) -> AuthorityMessage,
) -> Result<T, Failed> {
    let authority =
        parts.authority().ok_or_else(|| Failed::unavailable("the authority is being started anew"))?;
    let answer = call_t!(authority, question, ANSWER_MAX_MS);
    Ok(answer.map_err(|error| Failed::unavailable(error.to_string()))??)
}

async fn mint_token(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
    asked: Json<MintRequest>,
) -> Result<HttpResponse, Failed> {
    mint(&request, &parts, &access, Mint::Token, asked.into_inner()).await
}

async fn mint_join_secret(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
    asked: Json<MintRequest>,
) -> Result<HttpResponse, Failed> {
    mint(&request, &parts, &access, Mint::JoinSecret, asked.into_inner()).await
}

async fn mint(
    request: &HttpRequest,
    parts: &Parts,
    access: &Access,
    kind: Mint,
    asked: MintRequest,
) -> Result<HttpResponse, Failed> {
    allow(request, access, Role::Mint)?;
    let minted = ask_authority(parts, |reply| AuthorityMessage::Mint(kind, asked, reply)).await?;
    Ok(HttpResponse::Created()
        .insert_header(header::CacheControl(vec![header::CacheDirective::NoStore]))
        .json(minted))
}

async fn revoke(
    request: HttpRequest,
    parts: Data<Parts>,
    access: Data<Access>,
    id: Path<String>,
) -> Result<HttpResponse, Failed> {
    allow(&request, &access, Role::Mint)?;
    ask_authority(&parts, |reply| AuthorityMessage::Revoke(id.into_inner(), reply)).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Nothing on the page comes from elsewhere, nothing runs but its own script, and no text that gets into it can style it.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(include_str!("page/page.html"))
}

async fn page_style() -> HttpResponse {
    HttpResponse::Ok().content_type("text/css; charset=utf-8").body(include_str!("page/page.css"))
}

async fn page_script() -> HttpResponse {
    HttpResponse::Ok().content_type("text/javascript; charset=utf-8").body(include_str!("page/page.js"))
}
