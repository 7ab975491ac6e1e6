//! `outrider get URL`: one request through the mesh, and the way that it took.
//!
//! The request goes to a sidecar's outbound port, as an app's would, with a trace of its own and the question for the
//! way (`outrider-explain`), which only a sidecar's own app may ask.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use outrider_shared::names;
use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::fetch::{Bounds, FetchError, Fetcher};
use crate::screen::{Output, Screen};
use crate::table::{microseconds, principal};

/// Longer than any route's timeout in the shop: the mesh is to answer first.
const TIME_MAX: Duration = Duration::from_secs(30);
/// An answer that is printed.
const BODY_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Args)]
pub struct GetArgs {
    /// What to ask for, by the service's name.
    #[arg(value_name = "URL", value_parser = url)]
    url: Uri,
    /// The outbound port of the sidecar to go through: the request is made with its identity.
    #[arg(long, env = "OUTRIDER_VIA", value_name = "IP:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], names::port::OUTBOUND)))]
    via: SocketAddr,
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// The mesh adds TLS by itself, so what an app writes is `http://` always.
fn url(given: &str) -> Result<Uri, String> {
    let wrong = || format!("{given:?} is not of the form http://SERVICE/PATH, as http://orders/api/orders");
    let url: Uri = given.parse().map_err(|_| wrong())?;
    if url.scheme_str() == Some("https") {
        return Err("write http://: the sidecars speak TLS between them by themselves".to_owned());
    }
    if url.scheme_str() == Some("http") && url.authority().is_some() { Ok(url) } else { Err(wrong()) }
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    #[error("{given} cannot be asked for")]
    Url { given: Uri, source: http::Error },
    #[error("no sidecar answers at {via}: say with --via where one listens for its app (its --outbound)")]
    Unreachable { via: SocketAddr, source: FetchError },
}

/// What the sidecar tells about the way (header `outrider-way`). What a later version adds is passed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Way {
    Through(Through),
    Stopped(Box<Stopped>),
}

/// A request that the outbound side sent on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Through {
    pub service: String,
    pub port: u16,
    /// `Kind/name#rule@revision` of the route.
    #[serde(default)]
    pub rule: Option<String>,
    /// The inbound port of the sidecar that answered, and who it proved to be.
    pub endpoint: String,
    pub identity: String,
    /// Endpoints that turned out not to be there.
    #[serde(default)]
    pub redispatched_from: Vec<String>,
    /// To the head of its answer.
    pub upstream_us: u64,
    #[serde(default)]
    pub inbound: Option<InboundWay>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InboundWay {
    Through(InboundThrough),
    Stopped(Box<Stopped>),
}

/// A request that the inbound side handed to its app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InboundThrough {
    /// Whom it saw.
    pub peer: String,
    pub app_port: u16,
    /// The app's own time, to the head of its answer.
    pub app_us: u64,
}

/// A request that a sidecar refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// The stage's name: `accept`, `find`, `authorize`, `route`, `admit`, `choose`, `forward` or `egress`.
    #[serde(rename = "stopped_at")]
    pub stage: String,
    /// The reason's label, as in the reference of refusals.
    pub refusal: String,
    /// `namespace/name:port`, as far as it was found.
    #[serde(default)]
    pub target: Option<String>,
    #[serde(default)]
    pub rule: Option<String>,
    #[serde(default)]
    pub looked_at: LookedAt,
}

/// What that stage looked at, as far as it is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LookedAt {
    pub host: Option<String>,
    pub method: Option<String>,
    pub path: Option<String>,
    pub peer: Option<String>,
    pub services: Vec<String>,
    pub more_services: usize,
    pub rules: Vec<Miss>,
    pub more_rules: usize,
    pub policies: Vec<String>,
    pub more_policies: usize,
}

/// A match of a route's rule that does not match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Miss {
    #[serde(default)]
    pub rule: Option<String>,
    pub differs_in: String,
}

/// A refusal as a sidecar writes it into the answer's body (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    pub title: String,
    pub status: u16,
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// Everything that is known of one request.
#[derive(Debug, Serialize)]
pub struct Got {
    pub url: String,
    pub via: SocketAddr,
    pub trace: String,
    pub status: u16,
    pub took_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    pub way: Option<Way>,
    pub body: String,
}

pub async fn run(args: GetArgs) -> anyhow::Result<()> {
    let got = get(&args).await?;
    let mut screen = Screen::stdout();
    match args.output {
        Output::Json => screen.json(&got)?,
        Output::Table => screen.line(text(&got).trim_end())?,
    }
    let status = StatusCode::from_u16(got.status).context("a status of 100 to 999 was received")?;
    anyhow::ensure!(!status.is_client_error() && !status.is_server_error(), "answered with {status}");
    Ok(())
}

async fn get(args: &GetArgs) -> Result<Got, GetError> {
    let unusable = |source| GetError::Url { given: args.url.clone(), source };
    let service = args.url.authority().map_or("", |authority| authority.as_str());
    let path = args.url.path_and_query().map_or("/", |path| path.as_str());
    let to = Uri::builder().scheme("http").authority(args.via.to_string()).path_and_query(path).build();
    let mut random = rand::rng();
    // An id of zeros is none (W3C Trace Context, section 3.2.2.3).
    let (trace, parent) = (random.random_range(1..=u128::MAX), random.random_range(1..=u64::MAX));
    let request = Request::get(to.map_err(unusable)?)
        .header(header::HOST, service)
        .header("traceparent", format!("00-{trace:032x}-{parent:016x}-01"))
        .header(names::header::EXPLAIN, "way")
        .body(Full::default())
        .map_err(unusable)?;
    let fetcher = Fetcher::new(Bounds { time_max: TIME_MAX, body_bytes_max: BODY_BYTES_MAX });
    let begun = Instant::now();
    let answer =
        fetcher.fetch(request).await.map_err(|source| GetError::Unreachable { via: args.via, source })?;
    Ok(understood(args, format!("{trace:032x}"), begun.elapsed(), &answer))
}

fn understood(args: &GetArgs, trace: String, took: Duration, answer: &Response<Bytes>) -> Got {
    let headers = answer.headers();
    let kind = text_of(headers, header::CONTENT_TYPE.as_str());
    let problem = kind
        .filter(|kind| kind.starts_with("application/problem+json"))
        .and_then(|_| serde_json::from_slice(answer.body()).ok());
    Got {
        url: args.url.to_string(),
        via: args.via,
        trace,
        status: answer.status().as_u16(),
        took_ms: took.as_secs_f64() * 1e3,
        proxy_status: text_of(headers, "proxy-status").map(str::to_owned),
        problem,
        way: text_of(headers, names::header::WAY).and_then(|way| serde_json::from_str(way).ok()),
        body: String::from_utf8_lossy(answer.body()).into_owned(),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The way as a small tree, from the caller to the app, and then the answer.
fn text(got: &Got) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(text, "GET {}  {} in {:.1} ms", got.url, got.status, got.took_ms);
    let _ = writeln!(text, "└─ sidecar {}", got.via);
    match &got.way {
        Some(Way::Through(way)) => through(&mut text, way),
        Some(Way::Stopped(stopped)) => stop(&mut text, "   ", stopped),
        None => {
            let _ = writeln!(text, "   └─ it does not tell the way: is this a sidecar's outbound port?");
        }
    }
    let _ = writeln!(text, "trace {}", got.trace);
    if let Some(status) = &got.proxy_status {
        let _ = writeln!(text, "proxy-status {status}");
    }
    match &got.problem {
        Some(problem) => refusal(&mut text, problem),
        None => {
            let _ = write!(text, "\n{}", got.body);
        }
    }
    text
}

fn refusal(text: &mut String, problem: &Problem) {
    let _ = writeln!(text, "refused: {}", problem.title);
    for (key, shown) in [("detail", ""), ("refused_by", "by "), ("rule", "rule "), ("next_step", "→ ")] {
        if let Some(told) = problem.more.get(key).and_then(serde_json::Value::as_str) {
            let _ = writeln!(text, "         {shown}{told}");
        }
    }
}

fn through(text: &mut String, way: &Through) {
    let rule = way.rule.as_deref().unwrap_or("none is attached to this port: straight to the service");
    let _ = writeln!(text, "   ├─ route {rule}");
    for gone in &way.redispatched_from {
        let _ = writeln!(text, "   ├─ {gone} was not there, so the request went elsewhere");
    }
    let (endpoint, identity) = (&way.endpoint, &way.identity);
    let (service, port, took) = (&way.service, way.port, microseconds(way.upstream_us));
    let _ = writeln!(text, "   └─ {service}:{port} at {endpoint} in {took}, over mTLS as {identity}");
    match &way.inbound {
        None => {}
        Some(InboundWay::Stopped(stopped)) => stop(text, "      ", stopped),
        Some(InboundWay::Through(inbound)) => {
            let (seen, app_port, took) =
                (principal(&inbound.peer), inbound.app_port, microseconds(inbound.app_us));
            let _ = writeln!(text, "      └─ app on port {app_port} in {took}, called by {seen}");
        }
    }
}

/// Where it stopped, and below it what was looked at.
fn stop(text: &mut String, indent: &str, stopped: &Stopped) {
    let _ = writeln!(text, "{indent}└─ stopped at {}: {}", stopped.stage, stopped.refusal);
    let lines = looked_at(stopped);
    for (position, line) in lines.iter().enumerate() {
        let branch = if position + 1 == lines.len() { "└─" } else { "├─" };
        let _ = writeln!(text, "{indent}   {branch} {line}");
    }
}

fn looked_at(stopped: &Stopped) -> Vec<String> {
    let seen = &stopped.looked_at;
    let mut lines = Vec::new();
    if let (Some(method), Some(path)) = (&seen.method, &seen.path) {
        let of = match (&stopped.target, &seen.host) {
            (Some(target), _) => format!(" of {target}"),
            (None, Some(host)) => format!(" of host {host}"),
            (None, None) => String::new(),
        };
        let by = seen.peer.as_ref().map(|peer| format!(", called by {}", principal(peer)));
        lines.push(format!("{method} {path}{of}{}", by.unwrap_or_default()));
    }
    if let Some(rule) = &stopped.rule {
        lines.push(format!("decided by {rule}"));
    }
    lines.extend(
        seen.rules.iter().map(|miss| {
            format!("{} differs in {}", miss.rule.as_deref().unwrap_or("a rule"), miss.differs_in)
        }),
    );
    lines.extend(seen.policies.iter().map(|policy| format!("{policy} was asked")));
    if !seen.services.is_empty() {
        lines.push(format!("known are {}", seen.services.join(", ")));
    }
    let more = seen.more_rules + seen.more_policies + seen.more_services;
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests;
