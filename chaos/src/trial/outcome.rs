//! What an experiment found: for each system its bars, its figures and its lines in the plot.

use std::time::Duration;

use serde::Serialize;

use super::Trial;
use super::plot::Panel;
use super::system::System;

/// The generator's own lateness, beyond which a run shows nothing: a fifth of the shortest objective here.
pub const LAG_P99_MAX: Duration = Duration::from_millis(20);

/// A goal, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bar {
    pub what: String,
    pub goal: String,
    pub got: String,
    pub met: bool,
}

impl Bar {
    pub fn new(what: impl Into<String>, goal: impl Into<String>, got: impl Into<String>, met: bool) -> Self {
        Self { what: what.into(), goal: goal.into(), got: got.into(), met }
    }

    /// A time that must not be exceeded; `None`: it never came.
    pub fn within(what: impl Into<String>, max: Duration, took: Option<Duration>) -> Self {
        let got = took.map_or_else(|| "never".to_owned(), time);
        Self::new(what, format!("within {}", time(max)), got, took.is_some_and(|took| took <= max))
    }

    /// A share that must be reached; `None`: nothing was due.
    pub fn at_least(what: impl Into<String>, min: f64, share: Option<f64>) -> Self {
        let got = share.map_or_else(|| "nothing".to_owned(), percent);
        Self::new(what, format!("at least {}", percent(min)), got, share.is_some_and(|share| share >= min))
    }
}

/// One system's run.
#[derive(Debug, Clone)]
pub struct Run {
    pub system: System,
    pub bars: Vec<Bar>,
    /// What was measured beside: name and value. The names of one experiment are the same for every system.
    pub figures: Vec<(String, String)>,
    /// Points of this system's line in each panel of the plot.
    pub lines: Vec<Vec<(f64, f64)>>,
    /// Of all requests, how late they were sent; `None`: there were none.
    pub lag_p99: Option<Duration>,
}

impl Run {
    pub fn is_valid(&self) -> bool {
        self.lag_p99.is_some_and(|lag| lag <= LAG_P99_MAX)
    }

    pub fn meets_its_bars(&self) -> bool {
        self.bars.iter().all(|bar| bar.met)
    }
}

/// All systems of one experiment.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub trial: Trial,
    pub seed: u64,
    /// How it was run, where that was not in full.
    pub shortened: Option<String>,
    pub runs: Vec<Run>,
    /// Systems that were not run, and why.
    pub skipped: Vec<(System, String)>,
    /// The release of the Envoy that was compared.
    pub envoy: Option<String>,
    pub panels: Vec<Panel>,
    pub made: String,
    pub cores: usize,
}

/// A line of JSON for one system.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    name: &'static str,
    system: System,
    seed: u64,
    /// Whether the generator kept its schedule.
    valid: bool,
    bars: &'a [Bar],
}

impl Outcome {
    /// Every system's line, ours last.
    pub fn lines(&self) -> Vec<Line<'_>> {
        let mut runs: Vec<&Run> = self.runs.iter().collect();
        runs.sort_by_key(|run| run.system);
        runs.into_iter()
            .map(|run| Line {
                name: self.trial.name(),
                system: run.system,
                seed: self.seed,
                valid: run.is_valid(),
                bars: &run.bars,
            })
            .collect()
    }

    /// Why this outcome is no success: a run that shows nothing, a bar that ours misses, or an unprotected run without
    /// the trouble that is to be prevented.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        for run in &self.runs {
            let system = run.system;
            if !run.is_valid() {
                let lag = run.lag_p99.map_or_else(|| "without any request".to_owned(), time);
                troubles.push(format!("{system}: not valid, since requests were sent late (99 %: {lag})"));
            }
            if [System::Ours, System::Unprotected].contains(&system) {
                let missed = run.bars.iter().filter(|bar| !bar.met);
                troubles.extend(
                    missed.map(|Bar { what, goal, got, .. }| format!("{system}: {what}: {got}, not {goal}")),
                );
            }
        }
        troubles
    }
}

/// As people read it: `0.3 s`, or `12 ms` below a tenth of a second.
pub fn time(duration: Duration) -> String {
    if duration < Duration::from_millis(100) && !duration.is_zero() {
        format!("{:.1} ms", duration.as_secs_f64() * 1_000.0)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

pub fn percent(share: f64) -> String {
    // Rounded down: 99.96 % is not 100.0 %.
    format!("{:.1} %", (share * 1_000.0 + 1e-9).floor() / 10.0)
}

#[cfg(test)]
mod tests;
