//! `outrider chaos`: scenarios on a mesh of its own, started from the demo's layout without the planted faults; and
//! experiments with numbers, on meshes of another shape.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use outrider_chaos::{Check, Options, Part, Plan, Pod, Ready, Report, Scenario, Verdict};
use serde::Serialize;

use crate::demo::data::DataDir;
use crate::demo::layout::{Layout, Net, Service};
use crate::demo::ports;
use crate::screen::{Output, Screen};

mod experiment;
mod mesh;

/// Experiments: a hypothesis, a fault, a bound, a report.
#[derive(Debug, Subcommand)]
pub enum Chaos {
    /// Lists the scenarios: what each believes, and what it breaks.
    List(ListArgs),
    /// Runs scenarios, each on a mesh of its own on this machine. Fails if a bound is broken.
    #[command(
        override_usage = "outrider chaos run [OPTIONS] <NAME>\n       outrider chaos run [OPTIONS] --all",
        after_help = "Examples:\n  outrider chaos run sidecar-killed\n  outrider chaos run --all --out reports"
    )]
    Run(RunArgs),
    /// Measures the mesh beside nothing and beside a real Envoy, under loads that break what has no protection. Fails if a
    /// bar is missed.
    Experiment(experiment::ExperimentArgs),
    /// A process of an experiment: does what a file says.
    #[command(hide = true)]
    Part {
        #[arg(value_name = "FILE")]
        plan: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// A line of JSON for each scenario.
#[derive(Debug, Serialize)]
struct Listed {
    name: &'static str,
    believes: &'static str,
    breaks: &'static str,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The scenario: see `outrider chaos list`.
    #[arg(value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    scenario: Option<Scenario>,
    /// Every scenario, one after another.
    #[arg(long)]
    all: bool,
    /// Writes each report there, as NAME.md.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Requests a second from outside, whether or not the shop keeps up.
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// The loopback network in which everything of it listens.
    #[arg(long, value_name = "127.N", default_value = "127.16")]
    pods: Net,
    /// What to print: each check for people, or a line of JSON for each report.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

pub async fn run(chaos: Chaos) -> anyhow::Result<()> {
    match chaos {
        Chaos::List(ListArgs { output }) => list(output),
        Chaos::Run(args) => {
            tokio::select! {
                done = run_all(&args) => done,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted.context("waiting for Ctrl-C")?;
                    // What the experiment has started ended with its future.
                    bail!("interrupted")
                }
            }
        }
        Chaos::Experiment(args) => experiment::run(&args).await,
        Chaos::Part { plan } => outrider_chaos::trial::work(&plan).await,
    }
}

fn list(output: Output) -> anyhow::Result<()> {
    let mut screen = Screen::stdout();
    for scenario in Scenario::ALL {
        let (name, believes, breaks) = (scenario.name(), scenario.hypothesis(), scenario.fault());
        match output {
            Output::Json => screen.json(&Listed { name, believes, breaks })?,
            Output::Table => {
                screen.line(&format!("{name}\n  believes: {believes}\n  breaks:   {breaks}"))?;
            }
        }
    }
    Ok(())
}

async fn run_all(args: &RunArgs) -> anyhow::Result<()> {
    let scenarios = args.scenario.map_or_else(|| Scenario::ALL.to_vec(), |scenario| vec![scenario]);
    if let Some(out) = &args.out {
        fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
    }
    let mut broken = Vec::new();
    for scenario in scenarios {
        eprintln!("{}: {}", scenario.name(), scenario.hypothesis());
        let report = run_one(scenario, args).await.with_context(|| format!("running {}", scenario.name()))?;
        show(&report, args)?;
        if report.verdict == Verdict::Broken {
            broken.push(report.scenario);
        }
    }
    if broken.is_empty() { Ok(()) } else { bail!("a bound was broken in {}", broken.join(", ")) }
}

async fn run_one(scenario: Scenario, args: &RunArgs) -> anyhow::Result<Report> {
    let layout = Layout::apart(args.pods);
    ports::check_free(&layout)?;
    let data = DataDir::open("chaos", false)?;
    data.write_policy(&layout)?;
    let plan = plan(&layout, &data)?;
    let report = outrider_chaos::run(scenario, &plan, Options { rate_per_second: args.rate }).await;
    match report {
        Ok(report) if report.verdict == Verdict::Held => {
            data.close(false)?;
            Ok(report)
        }
        // The logs say why.
        other => {
            eprintln!("What it has written is kept until the next start: {}", data.path().display());
            other
        }
    }
}

fn plan(layout: &Layout, data: &DataDir) -> anyhow::Result<Plan> {
    let secrets =
        [Service::Frontend, Service::Orders, Service::Payments].map(|it| Ready::Exists(data.join_secret(it)));
    let control_plane = Part {
        name: "control-plane".to_owned(),
        program: None,
        arguments: layout.control_plane_arguments(data),
        ready: std::iter::once(Ready::Answers(layout.api(), "/ready")).chain(secrets).collect(),
    };
    let pods = layout.pods.iter().map(|pod| Pod {
        app: Part {
            name: pod.name.to_owned(),
            program: None,
            arguments: layout.app_arguments(pod, None),
            // The sidecar is not in service before its app is.
            ready: Vec::new(),
        },
        sidecar: Part {
            name: format!("{}-sidecar", pod.name),
            program: None,
            arguments: layout.sidecar_arguments(pod, data, &data.join_secret(pod.service)),
            ready: vec![Ready::Answers(layout.health(pod), "/ready")],
        },
        health: layout.health(pod),
    });
    Ok(Plan {
        program: std::env::current_exe().context("finding this program's own file")?,
        logs: data.logs(),
        edge: layout.edge(),
        control_plane,
        pods: pods.collect(),
    })
}

fn show(report: &Report, args: &RunArgs) -> anyhow::Result<()> {
    let mut screen = Screen::stdout();
    match args.output {
        Output::Json => screen.line(&serde_json::to_string(report)?)?,
        Output::Table => {
            for Check { what, bound, observed, verdict } in &report.checks {
                screen.line(&format!("  {verdict}: {what}: {observed} ({bound})"))?;
            }
            screen.line(&format!("{}: {}", report.scenario, report.verdict))?;
        }
    }
    if let Some(out) = &args.out {
        write(out, report)?;
    }
    Ok(())
}

fn write(out: &Path, report: &Report) -> anyhow::Result<()> {
    let path = out.join(format!("{}.md", report.scenario));
    fs::write(&path, report.markdown()).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("Wrote {}.", path.display());
    Ok(())
}

#[cfg(test)]
mod tests;
