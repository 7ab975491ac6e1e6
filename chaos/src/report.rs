//! What an experiment found: checks with a verdict each, and the time line that callers saw.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::load::Sample;
use crate::scenario::Scenario;

/// A tenth of a second: short enough to show a gap, long enough to hold several requests.
const BIN: Duration = Duration::from_millis(100);
const BINS_A_SECOND: usize = 10;
/// Kinds of failure that a report lists; the rest is a number.
const KINDS_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Held,
    Broken,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Broken => "broken",
        })
    }
}

/// One bound, and what was seen against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub what: String,
    pub bound: String,
    pub observed: String,
    pub verdict: Verdict,
}

impl Check {
    pub(crate) fn new(
        what: impl Into<String>,
        bound: impl Into<String>,
        observed: impl Into<String>,
        held: bool,
    ) -> Self {
        let verdict = if held { Verdict::Held } else { Verdict::Broken };
        Self { what: what.into(), bound: bound.into(), observed: observed.into(), verdict }
    }

    /// Something that has to come within a time; else why it did not.
    pub(crate) fn within(what: String, max: Duration, took: Result<Duration, String>) -> Self {
        let bound = format!("within {}", seconds(max));
        match took {
            Ok(took) => Self::new(what, bound, format!("after {}", seconds(took)), took <= max),
            Err(why) => Self::new(what, bound, why, false),
        }
    }
}

/// What callers may see of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tolerated {
    Nothing,
    /// Of what was under way, or was sent before the connections were seen to be gone, all may fail; nothing later.
    UnderWay,
}

/// Until its peers have seen that a killed process is gone. Its connections are reset at once; the rest is for the
/// scheduler of a loaded machine.
const SEEN_MAX: Duration = Duration::from_millis(200);

/// Judges what callers saw.
pub(crate) fn failures(samples: &[Sample], fault_at: Duration, tolerated: Tolerated) -> Vec<Check> {
    let failed: Vec<&Sample> = samples.iter().filter(|sample| sample.failure.is_some()).collect();
    let observed = format!("{} of {}", failed.len(), samples.len());
    if tolerated == Tolerated::Nothing {
        return vec![Check::new("requests that failed", "none", observed, failed.is_empty())];
    }
    let seen_at = fault_at + SEEN_MAX;
    let met = |sample: &Sample| sample.due <= seen_at && sample.due + sample.took >= fault_at;
    let most = samples.iter().filter(|sample| met(sample)).count();
    let later = failed.iter().filter(|sample| !met(sample)).count();
    vec![
        Check::new(
            "requests that failed",
            format!("at most {most}: under way at the fault, or due within {} of it", seconds(SEEN_MAX)),
            observed,
            failed.len() <= most,
        ),
        Check::new("requests that failed later", "none", later.to_string(), later == 0),
    ]
}

/// Something that happened, from the load's beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Event {
    #[serde(rename = "at_ms", serialize_with = "milliseconds")]
    pub at: Duration,
    pub what: String,
}

/// A tenth of a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Bin {
    pub due: u32,
    pub failed: u32,
    #[serde(rename = "slowest_ms", serialize_with = "milliseconds")]
    pub slowest: Duration,
}

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub scenario: &'static str,
    pub hypothesis: &'static str,
    pub fault: &'static str,
    pub verdict: Verdict,
    pub checks: Vec<Check>,
    pub events: Vec<Event>,
    /// Each kind of failure, with how often it came.
    pub failures: BTreeMap<String, u32>,
    /// By tenths of a second in which requests were due.
    pub timeline: Vec<Bin>,
    pub rate_per_second: u32,
    pub made: String,
}

impl Report {
    pub(crate) fn new(
        scenario: Scenario,
        rate_per_second: u32,
        events: Vec<Event>,
        checks: Vec<Check>,
        samples: &[Sample],
    ) -> Self {
        let held = checks.iter().all(|check| check.verdict == Verdict::Held);
        let mut failures = BTreeMap::new();
        for failure in samples.iter().filter_map(|sample| sample.failure.as_ref()) {
            *failures.entry(failure.clone()).or_default() += 1;
        }
        Self {
            scenario: scenario.name(),
            hypothesis: scenario.hypothesis(),
            fault: scenario.fault(),
            verdict: if held { Verdict::Held } else { Verdict::Broken },
            checks,
            events,
            failures,
            timeline: timeline(samples),
            rate_per_second,
            made: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        }
    }

    /// The report as a document.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}: {}\n\n", self.scenario, self.verdict);
        let _ = writeln!(text, "Hypothesis: {}\n\nFault: {}\n", self.hypothesis, self.fault);
        let _ = writeln!(text, "{} requests a second from outside; {}.\n", self.rate_per_second, self.made);
        text.push_str("| what | bound | observed | verdict |\n|---|---|---|---|\n");
        for Check { what, bound, observed, verdict } in &self.checks {
            let _ = writeln!(text, "| {} | {} | {} | {verdict} |", cell(what), cell(bound), cell(observed));
        }
        text.push_str("\n## What happened\n\n| at | what |\n|---|---|\n");
        for Event { at, what } in &self.events {
            let _ = writeln!(text, "| {} | {} |", seconds(*at), cell(what));
        }
        if !self.failures.is_empty() {
            text.push_str("\n## What failed\n\n| times | how |\n|---|---|\n");
            for (failure, times) in self.failures.iter().take(KINDS_MAX) {
                let _ = writeln!(text, "| {times} | {} |", cell(failure));
            }
            if let Some(more) = self.failures.len().checked_sub(KINDS_MAX).filter(|more| *more > 0) {
                let _ = writeln!(text, "\nAnd {more} other kinds.");
            }
        }
        text.push_str(
            "\n## What callers saw\n\nEach sign is a tenth of a second in which requests were due: ",
        );
        text.push_str("`#` all succeeded, `+` some failed, `!` all failed, `.` none was due.\n\n```text\n");
        text.push_str("second  success     requests  failed  slowest\n");
        for (second, bins) in self.timeline.chunks(BINS_A_SECOND).enumerate() {
            let signs: String = bins.iter().map(sign).collect();
            let due: u32 = bins.iter().map(|bin| bin.due).sum();
            let failed: u32 = bins.iter().map(|bin| bin.failed).sum();
            let slowest = bins.iter().map(|bin| bin.slowest).max().unwrap_or_default();
            let _ = writeln!(
                text,
                "{second:>6}  {signs:<10}  {due:>8}  {failed:>6}  {:>4} ms",
                slowest.as_millis()
            );
        }
        text.push_str("```\n");
        text
    }
}

fn timeline(samples: &[Sample]) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    for sample in samples {
        // An experiment takes minutes at most.
        let index = usize::try_from(sample.due.as_millis() / BIN.as_millis())
            .expect("a tenth of a second of minutes");
        if bins.len() <= index {
            bins.resize(index + 1, Bin::default());
        }
        let bin = &mut bins[index];
        bin.due += 1;
        bin.failed += u32::from(sample.failure.is_some());
        bin.slowest = bin.slowest.max(sample.took);
    }
    bins
}

fn sign(bin: &Bin) -> char {
    match (bin.due, bin.failed) {
        (0, _) => '.',
        (_, 0) => '#',
        (due, failed) if due == failed => '!',
        _ => '+',
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Text of a table's cell: what would end the cell or the row is replaced.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

#[cfg(test)]
mod tests;
