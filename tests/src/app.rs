//! Apps under test: each records what reached it and answers as the request's `x-app` header asks ([`Plan`]).

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::call::Call;
use crate::pattern::Reader;

mod plan;
mod reply;

pub use plan::{Onward, Plan, Way};
use reply::Reply;

/// The request header that holds a [`Plan`].
pub const PLAN: &str = "x-app";
/// A body up to this length is kept as it was.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What an app speaks; nothing else is understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    /// With prior knowledge.
    Http2,
}

/// A request as it reached the app.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub uri: http::Uri,
    pub version: Version,
    pub headers: HeaderMap,
    /// Its first 64 KiB.
    pub body: Bytes,
    /// The whole of it, against the pattern.
    pub pattern: Reader,
    pub trailers: HeaderMap,
    /// Its body broke off.
    pub broken: bool,
}

impl Seen {
    /// A header's only value; `None` where it is absent.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<String> {
        let all: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(all.len() <= 1, "{name} came {} times", all.len());
        all.first().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

/// Shared by an app's connections.
struct Shared {
    name: String,
    /// What requests without a plan of their own get.
    plan: Mutex<Plan>,
    seen: Mutex<Vec<Seen>>,
    /// Requests whose head came, answered or not.
    begun: AtomicUsize,
    /// Connections accepted so far.
    connections: AtomicUsize,
    /// Bytes of answers that the transport has taken so far.
    sent: Arc<AtomicU64>,
    open: watch::Sender<bool>,
}

/// A server on the current runtime; it ends, connections and all, when it is dropped.
pub struct App {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl App {
    /// `name` comes back in every answer's header `x-app-name`.
    pub fn start(name: &str, address: SocketAddr, speaks: Speaks) -> io::Result<Self> {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            plan: Mutex::default(),
            seen: Mutex::default(),
            begun: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            sent: Arc::default(),
            open: watch::Sender::new(false),
        });
        let server = tokio::spawn(accept(listener, speaks, Arc::clone(&shared)));
        Ok(Self { address, shared, server })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for requests that bring no plan.
    pub fn plan(&self, plan: &str) {
        let plan = plan.parse().unwrap_or_else(|error| panic!("{error}"));
        *self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner) = plan;
    }

    /// Every request that was read to its end, or broke off, so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The only request that came.
    #[track_caller]
    pub fn seen_one(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "requests that reached {}", self.shared.name);
        seen.remove(0)
    }

    /// Requests that began, whether or not they ended.
    pub fn begun(&self) -> usize {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// Bytes of answers' bodies that it has handed on so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Lets every request go on that `hold` or `stall` keeps, now and until [`App::close_gate`].
    pub fn open_gate(&self) {
        self.shared.open.send_replace(true);
    }

    /// Keeps requests again that come from now on.
    pub fn close_gate(&self) {
        self.shared.open.send_replace(false);
    }

    /// Closes the listener and every connection.
    pub async fn stop(self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, speaks: Speaks, shared: Arc<Shared>) {
    // Dropped with the task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        while connections.try_join_next().is_some() {}
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(stream, speaks, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, speaks: Speaks, shared: Arc<Shared>) {
    let (close, mut closed) = watch::channel(false);
    let (retire, mut retired) = watch::channel(false);
    let service = service_fn(|request| answer(request, Arc::clone(&shared), close.clone(), retire.clone()));
    let io = TokioIo::new(stream);
    // A connection that ends badly is the client's to notice.
    let served = async {
        match speaks {
            Speaks::Http1 => hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await
                .is_ok(),
            Speaks::Http2 => {
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .serve_connection(io, service);
                let mut connection = std::pin::pin!(connection);
                tokio::select! {
                    served = &mut connection => return served.is_ok(),
                    _ = retired.wait_for(|retired| *retired) => {}
                }
                connection.as_mut().graceful_shutdown();
                connection.await.is_ok()
            }
        }
    };
    tokio::select! {
        _ = served => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    close: watch::Sender<bool>,
    retire: watch::Sender<bool>,
) -> Result<Response<Reply>, String> {
    shared.begun.fetch_add(1, Ordering::Relaxed);
    let plan = match request.headers().get(PLAN) {
        Some(plan) => plan.to_str().map_err(|_| "x-app is ASCII".to_owned())?.parse()?,
        None => shared.plan.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    };
    let mut open = shared.open.subscribe();
    if plan.way == Way::Stall {
        // The sender lives as long as the app does.
        let _ = open.wait_for(|open| *open).await;
    }
    let (head, body) = request.into_parts();
    let head_only = head.method == Method::HEAD;
    let mut seen = Seen {
        method: head.method,
        uri: head.uri,
        version: head.version,
        headers: head.headers,
        body: Bytes::new(),
        pattern: Reader::default(),
        trailers: HeaderMap::new(),
        broken: false,
    };
    if matches!(plan.way, Way::Echo | Way::Early) {
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
        return Ok(Reply::as_it_comes(&plan, &shared.name, body).map(|reply| reply.counted(&shared.sent)));
    }
    read(body, &mut seen).await;
    let mut plan = plan;
    if let Some(onward) = &plan.onward {
        plan.status = call(onward, &seen).await?;
    }
    let kept = plan.content.clone().unwrap_or_else(|| seen.body.clone());
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    if plan.goaway {
        retire.send_replace(true);
    }
    if plan.way == Way::Hold {
        let _ = open.wait_for(|open| *open).await;
    }
    if plan.delay > Duration::ZERO {
        tokio::time::sleep(plan.delay).await;
    }
    if plan.way == Way::Close {
        close.send_replace(true);
        std::future::pending::<()>().await;
    }
    if head_only {
        return Ok(Reply::head(&plan, &shared.name));
    }
    Ok(Reply::whole(&plan, &shared.name, kept).map(|reply| reply.counted(&shared.sent)))
}

/// What every app of a mesh that traces does: the context of the request goes on with the calls that it causes.
async fn call(onward: &Onward, seen: &Seen) -> Result<u16, String> {
    let mut call = Call::post(&onward.host, seen.uri.path(), "").speaks(onward.speaks);
    if onward.speaks == Speaks::Http2 {
        call = call.header("content-type", "application/grpc").header("te", "trailers");
    }
    for name in ["traceparent", "tracestate"] {
        if let Some(value) = seen.header(name) {
            call = call.header(name, &value);
        }
    }
    let answer = call.send(onward.via).await.map_err(|error| format!("{}: {error:?}", onward.host))?;
    Ok(answer.status.as_u16())
}

async fn read(mut body: Incoming, seen: &mut Seen) {
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => {
                seen.pattern.read(&data);
                let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(&data[..data.len().min(room)]);
            }
            Ok(Err(frame)) => seen.trailers = frame.into_trailers().unwrap_or_default(),
            Err(_) => {
                seen.broken = true;
                break;
            }
        }
    }
    seen.body = kept.into();
}
