//! An app's listener: HTTP/1.1 and HTTP/2 with prior knowledge, until SIGTERM.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// Connections at once. 1,024: the sidecar's own limit for requests to an app.
const CONNECTIONS_MAX: usize = 1_024;
/// How long requests under way may take after SIGTERM. The longest planted delay is below a second.
const GRACE: Duration = Duration::from_secs(3);
/// After a failed accept (no file descriptor left), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every answer is made of: tonic's, so that a gRPC answer keeps its trailers.
pub use tonic::body::Body;

/// One app: a request becomes an answer, whatever goes wrong.
pub trait App: Send + Sync + 'static {
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

pub async fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(listen).await.with_context(|| format!("listening at {listen}"))
}

/// Serves `app` until SIGTERM, then finishes what is under way.
pub async fn serve<A: App>(listener: TcpListener, app: A) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let app = Arc::new(app);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let permit = Arc::clone(&connections).acquire_owned().await.expect("the semaphore is never closed");
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    eprintln!("accepting a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            _ = terminate.recv() => break,
        };
        // Small answers are not to wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let app = Arc::clone(&app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        let watcher = graceful.watcher();
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            // A peer that goes away in the middle is the mesh's daily bread, not a fault of the shop.
            let _ = watcher.watch(connection).await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    Ok(())
}
