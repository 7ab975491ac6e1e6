//! Steady load from outside: requests go out at their time, whether or not the earlier ones are back.
//!
//! A closed loop would send less exactly when the shop is slow, and hide it. For the same reason a request's latency
//! counts from when it was due.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Full;
use outrider_shared::session::{latency_bucket, latency_quantile_us};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::fetch::{Bounds, Fetcher};
use crate::table::{microseconds, percent};

/// Requests under way; past that one is counted as not sent. Half a second of the highest rate.
const UNDER_WAY_MAX: usize = 1_000;
/// How long the last requests may take at the end.
const FINISH_MAX: Duration = Duration::from_secs(2);
/// Above every timeout in the shop.
const ANSWER_BOUNDS: Bounds = Bounds { time_max: Duration::from_secs(10), body_bytes_max: 1 << 20 };
/// Of so many requests, the first few place an order and the others read.
const MIX: (u64, u64) = (2, 5);

/// What the load has seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadView {
    pub answered: u64,
    pub succeeded: u64,
    /// Due while too many were under way.
    pub not_sent: u64,
    /// By bucket of [`latency_bucket`].
    latency: BTreeMap<u16, u64>,
    pub elapsed: Duration,
}

impl LoadView {
    fn record(&mut self, done: &Done) {
        self.answered += 1;
        self.succeeded += u64::from(done.outcome == Outcome::Succeeded);
        let us = u64::try_from(done.latency.as_micros()).unwrap_or(u64::MAX);
        *self.latency.entry(latency_bucket(us)).or_default() += 1;
    }

    // Counts of a demo are exact in 52 bits.
    #[allow(clippy::cast_precision_loss)]
    pub fn success(&self) -> Option<f64> {
        (self.answered > 0).then(|| self.succeeded as f64 / self.answered as f64)
    }

    #[allow(clippy::cast_precision_loss)]
    fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    pub fn quantile_us(&self, q: f64) -> u64 {
        let buckets: Vec<(u16, u64)> = self.latency.iter().map(|(bucket, count)| (*bucket, *count)).collect();
        latency_quantile_us(&buckets, q)
    }
}

impl fmt::Display for LoadView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Load: {} requests in {:.1} s ({:.1}/s), {} succeeded, p50 {}, p95 {}, p99 {}",
            self.answered,
            self.elapsed.as_secs_f64(),
            self.rate(),
            percent(self.success()),
            microseconds(self.quantile_us(0.5)),
            microseconds(self.quantile_us(0.95)),
            microseconds(self.quantile_us(0.99)),
        )?;
        if self.not_sent > 0 {
            write!(f, "; {} not sent, since {UNDER_WAY_MAX} were under way", self.not_sent)?;
        }
        f.write_str(".")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    Failed,
}

struct Done {
    outcome: Outcome,
    latency: Duration,
}

pub struct Load {
    view: watch::Receiver<LoadView>,
    stop: oneshot::Sender<()>,
    driver: JoinHandle<()>,
}

impl Load {
    /// Begins at once. A rate of 0 sends nothing.
    pub fn start(edge: &str, rate_per_second: u32) -> Result<Self, http::uri::InvalidUri> {
        let uri: Uri = format!("{edge}/api/orders").parse()?;
        let (publish, view) = watch::channel(LoadView::default());
        let (stop, stopped) = oneshot::channel();
        let driver = Driver { uri, fetcher: Fetcher::new(ANSWER_BOUNDS), publish, begun: Instant::now() };
        Ok(Self { view, stop, driver: tokio::spawn(driver.drive(rate_per_second, stopped)) })
    }

    pub fn view(&self) -> LoadView {
        self.view.borrow().clone()
    }

    /// Sends nothing more, waits a little for what is under way, and tells what was seen.
    pub async fn stop(self) -> LoadView {
        // It is gone only if it has ended.
        let _ = self.stop.send(());
        // It ends within its own bound, and a panic in it has been printed.
        let _ = self.driver.await;
        self.view.borrow().clone()
    }
}

struct Driver {
    uri: Uri,
    fetcher: Fetcher,
    publish: watch::Sender<LoadView>,
    begun: Instant,
}

impl Driver {
    async fn drive(self, rate_per_second: u32, mut stopped: oneshot::Receiver<()>) {
        let mut under_way = JoinSet::new();
        // With a rate of 0 the first tick would still come at once.
        let period = Duration::from_secs(1).checked_div(rate_per_second);
        let mut ticks = tokio::time::interval(period.unwrap_or(Duration::from_secs(1)));
        // What was missed is sent late, and counts as late.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut sent = 0;
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                due = ticks.tick(), if period.is_some() => {
                    if under_way.len() < UNDER_WAY_MAX {
                        under_way.spawn(request(self.fetcher.clone(), self.uri.clone(), method(sent), due.into_std()));
                    } else {
                        self.change(|view| view.not_sent += 1);
                    }
                    sent += 1;
                }
                Some(done) = under_way.join_next() => self.record(done),
            }
        }
        let _ = tokio::time::timeout(FINISH_MAX, async {
            while let Some(done) = under_way.join_next().await {
                self.record(done);
            }
        })
        .await;
    }

    /// A request that panicked is a bug that has been printed; it is no answer.
    fn record(&self, done: Result<Done, tokio::task::JoinError>) {
        if let Ok(done) = done {
            self.change(|view| view.record(&done));
        }
    }

    fn change(&self, change: impl FnOnce(&mut LoadView)) {
        self.publish.send_modify(|view| {
            view.elapsed = self.begun.elapsed();
            change(view);
        });
    }
}

fn method(sent: u64) -> Method {
    if sent % MIX.1 < MIX.0 { Method::POST } else { Method::GET }
}

async fn request(fetcher: Fetcher, uri: Uri, method: Method, due: Instant) -> Done {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = uri;
    *request.method_mut() = method;
    let outcome = match fetcher.fetch(request).await {
        Ok(answer) if answer.status().is_success() => Outcome::Succeeded,
        Ok(_) | Err(_) => Outcome::Failed,
    };
    Done { outcome, latency: due.elapsed() }
}

#[cfg(test)]
mod tests;
