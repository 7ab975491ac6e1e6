//! What a load generator is told, and what it tells: streams with schedules, and a sample for each request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::random::Random;
use super::schedule::{Arrivals, Phase, dues};

/// Callers of one kind at one place: a peer's, or a peer's of one class.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stream {
    /// Where its requests go: the port of its own sidecar, or the backend's itself.
    pub target: SocketAddr,
    pub host: String,
    pub fields: BTreeMap<String, String>,
    pub arrivals: Arrivals,
    pub phases: Vec<Phase>,
    /// How long each attempt is waited for.
    pub patience: Duration,
    /// Further attempts, each begun when the one before it has been waited for, however early that failed.
    pub retries: u32,
}

/// The whole of a generator's work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadPlan {
    pub seed: u64,
    /// When it begins, by the system's clock: generators and whoever breaks something begin together.
    pub begin_unix_us: u64,
    pub streams: Vec<Stream>,
    /// Where the samples go.
    pub out: PathBuf,
}

impl LoadPlan {
    /// Every request as (due, stream), ascending.
    pub fn dues(&self) -> Vec<(Duration, usize)> {
        let mut all: Vec<(Duration, usize)> = Vec::new();
        for (index, stream) in self.streams.iter().enumerate() {
            let random = Random::of(self.seed, u64::try_from(index).unwrap_or(u64::MAX));
            all.extend(dues(stream.arrivals, &stream.phases, random).into_iter().map(|due| (due, index)));
        }
        all.sort();
        all
    }
}

/// How a request ended for its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Answered(u16),
    /// The last attempt was waited for in vain.
    TimedOut,
    /// Its connection failed.
    Broke,
    /// The generator's own bound of requests under way.
    NotSent,
}

impl Ended {
    /// As a number: a status, or one that no status has.
    fn code(self) -> u16 {
        match self {
            Self::Answered(status) => status,
            Self::TimedOut => 0,
            Self::Broke => 1,
            Self::NotSent => 2,
        }
    }

    fn of(code: u16) -> Self {
        match code {
            0 => Self::TimedOut,
            1 => Self::Broke,
            2 => Self::NotSent,
            status => Self::Answered(status),
        }
    }
}

/// One request, however often it was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// From the load's beginning.
    pub due: Duration,
    /// How much later than due it was sent: the generator's own fault.
    pub lag: Duration,
    /// From when it was due to the end of its last attempt.
    pub took: Duration,
    pub stream: usize,
    pub attempts: u32,
    pub ended: Ended,
}

impl Sample {
    /// Answered with a 2xx.
    pub fn is_ok(&self) -> bool {
        matches!(self.ended, Ended::Answered(200..=299))
    }

    /// Answered well and in time.
    pub fn is_good(&self, objective: Duration) -> bool {
        self.is_ok() && self.took <= objective
    }

    /// As a line of the generator's file.
    pub fn line(&self) -> String {
        let Self { due, lag, took, stream, attempts, ended } = self;
        let (due, lag, took) = (due.as_micros(), lag.as_micros(), took.as_micros());
        format!("{due} {lag} {took} {stream} {attempts} {}\n", ended.code())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next()?.parse::<u64>().ok();
        let sample = Self {
            due: Duration::from_micros(next()?),
            lag: Duration::from_micros(next()?),
            took: Duration::from_micros(next()?),
            stream: usize::try_from(next()?).ok()?,
            attempts: u32::try_from(next()?).ok()?,
            ended: Ended::of(u16::try_from(next()?).ok()?),
        };
        words.next().is_none().then_some(sample)
    }
}

/// The generator's file, by due time.
pub fn samples(text: &str) -> anyhow::Result<Vec<Sample>> {
    let parsed = text.lines().map(|line| Sample::parse(line).with_context(|| format!("no sample: {line:?}")));
    let mut samples = parsed.collect::<anyhow::Result<Vec<_>>>()?;
    samples.sort_by_key(|sample| sample.due);
    Ok(samples)
}

#[cfg(test)]
mod tests;
