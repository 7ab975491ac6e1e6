//! The outcome as a document: what was asked, what was found, and with what it was found.

use std::fmt::Write as _;

use super::outcome::{LAG_P99_MAX, Outcome, Run, time};
use super::plot::{Curve, svg};
use super::system::System;

impl Outcome {
    /// The file beside the document.
    pub fn plot(&self) -> String {
        let curves: Vec<Curve<'_>> =
            self.runs.iter().map(|run| Curve { name: run.system.name(), panels: &run.lines }).collect();
        svg(&format!("{}: {}", self.trial.name(), self.trial.question()), &self.panels, &curves)
    }

    pub fn markdown(&self) -> String {
        let name = self.trial.name();
        let mut text = format!("# {name}\n\n{}\n\n{}\n\n", self.trial.question(), self.trial.setup());
        if let Some(shortened) = &self.shortened {
            let _ = writeln!(text, "**Shortened ({shortened}): its figures show the shape, no more.**\n");
        }
        let _ = writeln!(
            text,
            "Made by `outrider chaos experiment {name} --seed {}` at {}, everything on one machine of {} cores.\n",
            self.seed, self.made, self.cores
        );
        self.bars(&mut text);
        let _ = writeln!(text, "\n![{name}]({name}.svg)\n");
        self.figures(&mut text);
        text.push_str("\n## What was compared\n\n| system | what stands between the apps |\n|---|---|\n");
        for run in &self.runs {
            let release = match &self.envoy {
                Some(release) if run.system == System::Envoy => format!(" {release}"),
                _ => String::new(),
            };
            let _ = writeln!(text, "| {}{release} | {} |", run.system, self.trial.between(run.system));
        }
        for (system, why) in &self.skipped {
            let _ = writeln!(text, "| {system} | skipped: {} |", cell(why));
        }
        let _ = writeln!(
            text,
            "\nEach request goes out when it is due, whatever has become of those before it, and its latency counts from \
             then. Sent late by (99 %; a run counts up to {}): {}.",
            time(LAG_P99_MAX),
            self.runs.iter().map(lag).collect::<Vec<_>>().join(", ")
        );
        text
    }

    fn bars(&self, text: &mut String) {
        text.push_str("| system | what | goal | got | met |\n|---|---|---|---|---|\n");
        for run in &self.runs {
            for bar in &run.bars {
                let met = if bar.met { "yes" } else { "no" };
                let (what, goal, got) = (cell(&bar.what), cell(&bar.goal), cell(&bar.got));
                let _ = writeln!(text, "| {} | {what} | {goal} | {got} | {met} |", run.system);
            }
        }
    }

    fn figures(&self, text: &mut String) {
        // Of the run that has most of them: a system may have no use for some.
        let Some(names) = self.runs.iter().map(|run| &run.figures).max_by_key(|figures| figures.len()) else {
            return;
        };
        let systems: Vec<&str> = self.runs.iter().map(|run| run.system.name()).collect();
        let _ = writeln!(text, "| | {} |\n|---{}|", systems.join(" | "), "|---".repeat(systems.len()));
        for (name, _) in names {
            let of = |run: &Run| {
                let found = run.figures.iter().find(|(known, _)| known == name);
                found.map_or_else(String::new, |(_, value)| cell(value))
            };
            let values: Vec<String> = self.runs.iter().map(of).collect();
            let _ = writeln!(text, "| {} | {} |", cell(name), values.join(" | "));
        }
    }
}

fn lag(run: &Run) -> String {
    let lag = run.lag_p99.map_or_else(|| "no request".to_owned(), time);
    let mark = if run.is_valid() { "" } else { " (**not valid**)" };
    format!("{} {lag}{mark}", run.system)
}

/// Text of a table's cell: what would end the cell or the row is replaced.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
