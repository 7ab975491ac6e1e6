//! The backend's process: an app with a stated capacity, no bound on what it accepts, and a port from which it is broken.
//!
//! It does what most apps do when their caller has gone: it works on, since it does not notice. That work is counted.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::random::Random;
use work::{Message, work};

mod work;

/// Jobs and orders between the connections and the worker. The generator's bound of requests under way, twice: nothing
/// waits here, since the worker takes everything into its own line.
const MESSAGES_MAX: usize = 40_000;
/// After a failed accept (no file descriptor left), before the next one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How it works.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Capacity {
    /// So many workers, each busy with a request for `service`, which costs no CPU.
    Rate { workers: usize, service: Duration },
    /// One worker that spends `service` of CPU time on each request.
    Cpu { service: Duration },
    /// Answers at once.
    Unbounded,
}

impl Capacity {
    /// What it can do in a second.
    pub fn per_second(self) -> f64 {
        match self {
            Self::Rate { workers, service } => {
                f64::from(u32::try_from(workers).unwrap_or(u32::MAX)) / service.as_secs_f64()
            }
            Self::Cpu { service } => 1.0 / service.as_secs_f64(),
            Self::Unbounded => f64::INFINITY,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BackendPlan {
    pub listen: SocketAddr,
    pub control: SocketAddr,
    pub capacity: Capacity,
    pub seed: u64,
}

/// What is wrong with it, from its control port.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    /// A share of its capacity is somebody else's.
    TakeAway(f64),
    /// A share of requests is answered 503, at once.
    Fail(f64),
    /// It begins nothing, and answers nothing.
    Hang,
    /// It works again.
    Resume,
    /// It forgets everybody in its line, as a restart does.
    Clear,
}

impl Order {
    /// The path that gives the order.
    pub fn path(self) -> String {
        match self {
            Self::TakeAway(share) => format!("/take-away/{share}"),
            Self::Fail(share) => format!("/fail/{share}"),
            Self::Hang => "/hang".to_owned(),
            Self::Resume => "/resume".to_owned(),
            Self::Clear => "/clear".to_owned(),
        }
    }

    fn parse(path: &str) -> Option<Self> {
        let share = |given: &str| given.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        match path.strip_prefix('/')?.split_once('/') {
            Some(("take-away", given)) => share(given).map(Self::TakeAway),
            Some(("fail", given)) => share(given).map(Self::Fail),
            Some(_) => None,
            None => match path {
                "/hang" => Some(Self::Hang),
                "/resume" => Some(Self::Resume),
                "/clear" => Some(Self::Clear),
                _ => None,
            },
        }
    }
}

/// Since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Requests that came in.
    pub arrived: u64,
    /// Those that were worked on to the end.
    pub served: u64,
    /// Those of them whose caller had gone: work for nobody.
    pub wasted: u64,
    /// Those that it was told to fail.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    arrived: AtomicU64,
    served: AtomicU64,
    wasted: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    fn read(&self) -> Count {
        let Self { arrived, served, wasted, failed } = self;
        let [arrived, served, wasted, failed] =
            [arrived, served, wasted, failed].map(|counter| counter.load(Relaxed));
        Count { arrived, served, wasted, failed }
    }
}

struct Backend {
    worker: Option<mpsc::SyncSender<Message>>,
    counters: Arc<Counters>,
    failing: Mutex<Failing>,
}

struct Failing {
    share: f64,
    random: Random,
}

/// Serves until it is killed.
pub async fn run(plan: BackendPlan) -> anyhow::Result<()> {
    let counters = Arc::new(Counters::default());
    let worker = match plan.capacity {
        Capacity::Unbounded => None,
        capacity => {
            let (send, receive) = mpsc::sync_channel(MESSAGES_MAX);
            let counters = Arc::clone(&counters);
            std::thread::Builder::new()
                .name("worker".to_owned())
                .spawn(move || work(capacity, &receive, &counters))
                .context("starting the worker")?;
            Some(send)
        }
    };
    let failing = Mutex::new(Failing { share: 0.0, random: Random::new(plan.seed) });
    let backend = Arc::new(Backend { worker, counters, failing });
    let orders = Arc::clone(&backend);
    tokio::try_join!(
        serve(plan.listen, move |_| Arc::clone(&backend).answer()),
        serve(plan.control, move |request| {
            let orders = Arc::clone(&orders);
            async move { orders.obey(request.uri().path()) }
        }),
    )?;
    Ok(())
}

impl Backend {
    async fn answer(self: Arc<Self>) -> Response<Full<Bytes>> {
        self.counters.arrived.fetch_add(1, Relaxed);
        if self.fails() {
            self.counters.failed.fetch_add(1, Relaxed);
            return plain(StatusCode::SERVICE_UNAVAILABLE, "told to fail");
        }
        let Some(worker) = &self.worker else {
            self.counters.served.fetch_add(1, Relaxed);
            return plain(StatusCode::OK, "done");
        };
        let (done, wait) = oneshot::channel();
        if worker.try_send(Message::Job(done)).is_err() {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the worker has ended");
        }
        match wait.await {
            Ok(()) => plain(StatusCode::OK, "done"),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "forgotten"),
        }
    }

    fn fails(&self) -> bool {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let share = failing.share;
        share > 0.0 && failing.random.unit() < share
    }

    fn obey(&self, path: &str) -> Response<Full<Bytes>> {
        if path == "/count" {
            let count = serde_json::to_vec(&self.counters.read()).expect("a count is plain numbers");
            return Response::new(Full::new(count.into()));
        }
        let Some(order) = Order::parse(path) else {
            return plain(StatusCode::NOT_FOUND, "no such order");
        };
        if let Order::Fail(share) = order {
            self.failing.lock().unwrap_or_else(PoisonError::into_inner).share = share;
            return plain(StatusCode::OK, "done");
        }
        match self.worker.as_ref().map(|worker| worker.try_send(Message::Order(order))) {
            Some(Ok(())) => plain(StatusCode::OK, "done"),
            _ => plain(StatusCode::CONFLICT, "there is no worker"),
        }
    }
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

/// Accepts whatever comes. A caller that goes away drops the future of its request.
pub(super) async fn serve<F, A>(listen: SocketAddr, answer: F) -> anyhow::Result<()>
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening at {listen}"))?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers are not to wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(answer(request));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        tokio::spawn(async move {
            // A caller that goes away in the middle is what these experiments are about.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

#[cfg(test)]
mod tests;
