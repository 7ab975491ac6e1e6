//! What callers saw, by tenths of a second in which requests were due, and what is judged of it.

use std::time::Duration;

use super::traffic::Sample;

/// A tenth of a second: the finest that a bar of these experiments speaks of.
pub const BIN: Duration = Duration::from_millis(100);
/// A window in which a level is judged: at a few hundred requests a second a tenth holds too few of them.
const WINDOW: usize = 10;
/// Of what was due: the level at which callers count as served again.
pub const RECOVERED: f64 = 0.95;

/// A tenth of a second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bin {
    pub due: u32,
    /// Answered well within the objective.
    pub good: u32,
    /// Of those that were answered well, in time or not.
    pub latencies: Vec<Duration>,
}

/// A time line from the load's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bins(pub Vec<Bin>);

impl Bins {
    /// Of these samples, with as many tenths as the load was long, whatever was due in them.
    pub fn of<'s>(
        samples: impl IntoIterator<Item = &'s Sample>,
        objective: Duration,
        length: Duration,
    ) -> Self {
        let mut bins = vec![Bin::default(); index(length)];
        for sample in samples {
            let at = index(sample.due);
            if bins.len() <= at {
                bins.resize(at + 1, Bin::default());
            }
            let bin = &mut bins[at];
            bin.due += 1;
            bin.good += u32::from(sample.is_good(objective));
            if sample.is_ok() {
                bin.latencies.push(sample.took);
            }
        }
        Self(bins)
    }

    /// The share of what was due between two times that was good; `None` where nothing was due.
    pub fn share(&self, from: Duration, to: Duration) -> Option<f64> {
        share(self.between(from, to))
    }

    /// Good answers a second between two times.
    pub fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let bins = self.between(from, to);
        if bins.is_empty() {
            return 0.0;
        }
        let good: u32 = bins.iter().map(|bin| bin.good).sum();
        f64::from(good) / (BIN.as_secs_f64() * count(bins.len()))
    }

    /// Of what was answered well between two times.
    pub fn quantile(&self, from: Duration, to: Duration, quantile: f64) -> Option<Duration> {
        let latencies = self.between(from, to).iter().flat_map(|bin| &bin.latencies).copied().collect();
        self::quantile(latencies, quantile)
    }

    /// How long after `event` callers are served again: the first tenth from which a whole window, and all that follows
    /// as far as `end`, is good to [`RECOVERED`]. `None`: not before the end.
    pub fn recovery(&self, event: Duration, end: Duration) -> Option<Duration> {
        let bins = self.between(event, end);
        let well = |bins: &[Bin]| share(bins).is_none_or(|share| share >= RECOVERED);
        let last = bins.len().checked_sub(WINDOW)?;
        let at = (0..=last).find(|at| well(&bins[*at..*at + WINDOW]) && well(&bins[*at..]))?;
        Some(BIN * u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// How long after `event` goodput stays near `level` a second: the first tenth with most of it from which the mean as
    /// far as `end` is at `share` of it.
    pub fn settled(&self, event: Duration, end: Duration, level: f64, share: f64) -> Option<Duration> {
        let bins = self.between(event, end);
        let expected = level * BIN.as_secs_f64();
        // Chance alone takes a tenth of a second of 100 answers down by a tenth.
        let most = expected * (share - 0.1);
        let mean = |bins: &[Bin]| f64::from(bins.iter().map(|bin| bin.good).sum::<u32>()) / count(bins.len());
        let at = (0..bins.len())
            .find(|at| f64::from(bins[*at].good) >= most && mean(&bins[*at..]) >= expected * share)?;
        Some(BIN * u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// For a plot: (seconds, good a second), each point over `merged` tenths.
    pub fn goodput_line(&self, merged: usize) -> Vec<(f64, f64)> {
        self.line(merged, |bins| {
            let good: u32 = bins.iter().map(|bin| bin.good).sum();
            Some(f64::from(good) / (BIN.as_secs_f64() * count(bins.len())))
        })
    }

    /// For a plot: (seconds, percent that was good).
    pub fn share_line(&self, merged: usize) -> Vec<(f64, f64)> {
        self.line(merged, |bins| share(bins).map(|share| share * 100.0))
    }

    /// For a plot: (seconds, milliseconds within which 99 % of the good answers came).
    pub fn latency_line(&self, merged: usize) -> Vec<(f64, f64)> {
        self.line(merged, |bins| {
            let latencies = bins.iter().flat_map(|bin| &bin.latencies).copied().collect();
            quantile(latencies, 0.99).map(|latency| latency.as_secs_f64() * 1_000.0)
        })
    }

    /// What is no number is not drawn.
    fn line(&self, merged: usize, of: impl Fn(&[Bin]) -> Option<f64>) -> Vec<(f64, f64)> {
        let chunks = self.0.chunks(merged.max(1)).enumerate();
        chunks
            .map(|(number, bins)| {
                let middle = count(number * merged) + count(bins.len()) / 2.0;
                (middle * BIN.as_secs_f64(), of(bins).unwrap_or(f64::NAN))
            })
            .collect()
    }

    fn between(&self, from: Duration, to: Duration) -> &[Bin] {
        let to = index(to).min(self.0.len());
        let from = index(from).min(to);
        &self.0[from..to]
    }
}

fn share(bins: &[Bin]) -> Option<f64> {
    let due: u32 = bins.iter().map(|bin| bin.due).sum();
    let good: u32 = bins.iter().map(|bin| bin.good).sum();
    (due > 0).then(|| f64::from(good) / f64::from(due))
}

fn index(at: Duration) -> usize {
    // An experiment takes minutes at most.
    usize::try_from(at.as_millis() / BIN.as_millis()).expect("tenths of a second of minutes")
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

/// The smallest of these that so many are at most; `None` of none.
pub fn quantile(mut latencies: Vec<Duration>, quantile: f64) -> Option<Duration> {
    latencies.sort_unstable();
    let wanted = (count(latencies.len()) * quantile).ceil().max(1.0);
    latencies
        .into_iter()
        .zip(1_u32..)
        .find(|(_, rank)| f64::from(*rank) >= wanted)
        .map(|(latency, _)| latency)
}

#[cfg(test)]
mod tests;
