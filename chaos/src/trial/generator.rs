//! The load generator's process: sends each request when it is due, whatever has become of those before it.
//!
//! A caller that waits would send less exactly when something is wrong, and measure from when it got round to sending
//! (coordinated omission). Latency here counts from when the request was due.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::caller::Caller;
use super::traffic::{Ended, LoadPlan, Sample, Stream};

/// Requests under way. Ten times an experiment's most: past it a request counts as failed, which for its caller it is.
const UNDER_WAY_MAX: usize = 20_000;

struct Source {
    caller: Caller,
    fields: HeaderMap,
    patience: Duration,
    retries: u32,
}

pub async fn run(plan: LoadPlan) -> anyhow::Result<()> {
    let sources = plan.streams.iter().map(source).collect::<anyhow::Result<Vec<_>>>()?;
    let dues = plan.dues();
    let samples = drive(sources, dues, begin(plan.begin_unix_us)).await;
    let text: String = samples.iter().map(Sample::line).collect();
    // Whole or not at all: it is read when this process has ended.
    std::fs::write(&plan.out, text).with_context(|| format!("writing {}", plan.out.display()))
}

fn source(stream: &Stream) -> anyhow::Result<Arc<Source>> {
    let mut fields = HeaderMap::new();
    for (name, value) in &stream.fields {
        let name: HeaderName = name.parse().with_context(|| format!("the field name {name:?}"))?;
        fields.insert(name, HeaderValue::from_str(value).with_context(|| format!("the value {value:?}"))?);
    }
    let caller =
        Caller::new(stream.target, &stream.host).with_context(|| format!("the host {:?}", stream.host))?;
    Ok(Arc::new(Source { caller, fields, patience: stream.patience, retries: stream.retries }))
}

/// The moment of the plan, by this process's clock. What lies in the past is now.
fn begin(unix_us: u64) -> Instant {
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(unix_us);
    Instant::now() + at.duration_since(SystemTime::now()).unwrap_or_default()
}

async fn drive(sources: Vec<Arc<Source>>, dues: Vec<(Duration, usize)>, begun: Instant) -> Vec<Sample> {
    let mut samples = Vec::with_capacity(dues.len());
    let mut under_way = JoinSet::new();
    for (due, stream) in dues {
        tokio::select! {
            biased;
            () = sleep_until(begun + due) => {}
            () = collect(&mut under_way, &mut samples) => {}
        }
        let lag = begun.elapsed().saturating_sub(due);
        if under_way.len() < UNDER_WAY_MAX {
            under_way.spawn(request(
                Arc::clone(&sources[stream]),
                begun,
                Sample { due, lag, took: lag, stream, attempts: 0, ended: Ended::NotSent },
            ));
        } else {
            samples.push(Sample { due, lag, took: lag, stream, attempts: 0, ended: Ended::NotSent });
        }
    }
    while let Some(sample) = under_way.join_next().await {
        samples.extend(sample);
    }
    samples
}

/// Takes what has ended, until it is cancelled.
async fn collect(under_way: &mut JoinSet<Sample>, samples: &mut Vec<Sample>) {
    while let Some(sample) = under_way.join_next().await {
        samples.extend(sample);
    }
    std::future::pending::<()>().await;
}

async fn request(source: Arc<Source>, begun: Instant, sample: Sample) -> Sample {
    let mut ended = Ended::NotSent;
    let mut attempts = 0;
    while attempts <= source.retries {
        let deadline = Instant::now() + source.patience;
        attempts += 1;
        ended = match timeout_at(deadline, source.caller.call(&source.fields)).await {
            Ok(Ok(status)) => Ended::Answered(status),
            Ok(Err(_)) => Ended::Broke,
            Err(_) => Ended::TimedOut,
        };
        if matches!(ended, Ended::Answered(200..=299)) || attempts > source.retries {
            break;
        }
        sleep_until(deadline).await;
    }
    Sample { took: begun.elapsed().saturating_sub(sample.due), attempts, ended, ..sample }
}
