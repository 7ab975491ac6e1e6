//! A steady load from outside, and what each request of it saw.
//!
//! Requests go out when they are due, whether or not earlier ones are back: a caller that waits would send less exactly
//! when something is wrong, and so hide it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::client::ask;

/// Above each timeout of the shop's routes, so that the mesh's own answer is seen.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Requests under way; past that one counts as failed, which it would be for its caller.
const UNDER_WAY_MAX: usize = 1_000;

/// One request, as its caller saw it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// When it was due, from the load's beginning.
    pub due: Duration,
    /// From when it was due to the end of its answer.
    pub took: Duration,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    begun: Instant,
    stop: watch::Sender<bool>,
    driver: JoinHandle<Vec<Sample>>,
}

impl Load {
    /// Places an order and reads the list in turn, each second `rate_per_second` of them together.
    pub fn start(edge: SocketAddr, rate_per_second: u32) -> Self {
        let begun = Instant::now();
        let (stop, stopped) = watch::channel(false);
        Self { begun, stop, driver: tokio::spawn(drive(edge, rate_per_second, begun, stopped)) }
    }

    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Sends nothing more, waits for what is under way (its bound is [`ANSWER_MAX`]), and gives all samples by due time.
    pub async fn stop(self) -> anyhow::Result<Vec<Sample>> {
        self.stop.send_replace(true);
        let mut samples = self.driver.await?;
        samples.sort_by_key(|sample| sample.due);
        Ok(samples)
    }
}

async fn drive(
    edge: SocketAddr,
    rate_per_second: u32,
    begun: Instant,
    mut stopped: watch::Receiver<bool>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut under_way = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate_per_second.max(1));
    // What was missed is sent late, and counts as late.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut place = true;
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            tick = ticks.tick() => {
                let due = tick.into_std().saturating_duration_since(begun);
                let method = if place { "POST" } else { "GET" };
                place = !place;
                if under_way.len() < UNDER_WAY_MAX {
                    under_way.spawn(request(edge, method, begun, due));
                } else {
                    samples.push(Sample { due, took: Duration::ZERO, failure: Some("not sent: too many under way".to_owned()) });
                }
            }
            Some(sample) = under_way.join_next() => samples.extend(sample),
        }
    }
    while let Some(sample) = under_way.join_next().await {
        samples.extend(sample);
    }
    samples
}

async fn request(edge: SocketAddr, method: &'static str, begun: Instant, due: Duration) -> Sample {
    let failure = match tokio::time::timeout(ANSWER_MAX, ask(edge, method, "/api/orders")).await {
        Ok(Ok(answer)) if (200..300).contains(&answer.status) => None,
        Ok(Ok(answer)) => {
            let why = answer.proxy_status.unwrap_or_else(|| "by an app".to_owned());
            Some(format!("{method}: {} ({why})", answer.status))
        }
        Ok(Err(error)) => Some(format!("{method}: {error}")),
        Err(_) => Some(format!("{method}: no answer within {} s", ANSWER_MAX.as_secs())),
    };
    Sample { due, took: begun.elapsed().saturating_sub(due), failure }
}

#[cfg(test)]
mod tests;
