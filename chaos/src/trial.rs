//! Experiments with numbers: the same load on the same apps, with different things between them, judged by bars.
//!
//! Everything is a process of its own on this machine: apps with a stated capacity, generators of load that never wait,
//! our sidecars with a control plane, real Envoys. Each experiment is a shape from the literature in which systems without
//! protection are known to fail.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;

mod amplification;
mod backend;
mod bins;
mod caller;
mod envoy;
mod generator;
mod hop;
mod metastable;
mod outcome;
mod overload;
mod plot;
mod policy;
mod priorities;
mod random;
mod report;
mod retry_storm;
mod schedule;
mod spike;
mod station;
mod system;
mod texts;
mod topology;
mod traffic;
mod world;

pub use outcome::{Bar, Line, Outcome, Run};
pub use system::{System, UnknownSystem};
pub use topology::{Node, Serves, Topology, port};
pub use world::{Mesh, Sidecars, work};

use policy::Route;
use system::Between;
use world::{Apps, Ground, World, lag_p99};

/// Which experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    RetryStorm,
    Metastable,
    Spike,
    Priorities,
    Overload,
    Amplification,
}

/// How experiments are run.
pub struct Setting<'a> {
    pub program: PathBuf,
    /// Where the processes write.
    pub folder: PathBuf,
    /// The loopback network 127.N.
    pub net: u8,
    pub seed: u64,
    /// By which the lengths of phases are multiplied.
    pub time_scale: f64,
    pub grid: Grid,
    pub sidecars: &'a dyn Sidecars,
    /// Hears how far it is.
    pub tell: &'a dyn Fn(&str),
}

/// How many points of an experiment are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grid {
    Full,
    /// A few of them.
    Coarse,
}

impl Trial {
    pub const ALL: [Self; 6] = [
        Self::RetryStorm,
        Self::Metastable,
        Self::Spike,
        Self::Priorities,
        Self::Overload,
        Self::Amplification,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::RetryStorm => "retry-storm",
            Self::Metastable => "metastable",
            Self::Spike => "spike",
            Self::Priorities => "priorities",
            Self::Overload => "overload",
            Self::Amplification => "amplification",
        }
    }

    /// What is compared in it.
    pub fn systems(self) -> Vec<System> {
        match self {
            Self::Overload => System::ALL.to_vec(),
            Self::RetryStorm | Self::Metastable | Self::Spike | Self::Priorities | Self::Amplification => {
                vec![System::Unprotected, System::Envoy, System::Ours]
            }
        }
    }

    async fn run_one(self, stage: &Stage<'_>) -> anyhow::Result<Run> {
        match self {
            Self::RetryStorm => retry_storm::run(stage).await,
            Self::Metastable => metastable::run(stage).await,
            Self::Spike => spike::run(stage).await,
            Self::Priorities => priorities::run(stage).await,
            Self::Overload => overload::run(stage).await,
            Self::Amplification => amplification::run(stage).await,
        }
    }

    fn panels(self, setting: &Setting<'_>) -> Vec<plot::Panel> {
        match self {
            Self::RetryStorm => retry_storm::panels(setting),
            Self::Metastable => metastable::panels(),
            Self::Spike => spike::panels(setting),
            Self::Priorities => priorities::panels(setting),
            Self::Overload => overload::panels(),
            Self::Amplification => amplification::panels(),
        }
    }
}

/// Why one of these systems cannot be run here, if one cannot.
pub fn missing(systems: &[System]) -> Option<String> {
    systems.contains(&System::Envoy).then(envoy::find)?.err()
}

/// Runs an experiment on all these systems, one after another. An error says that it could not be made, not what it found.
///
/// May be cancelled: the processes end with the future.
pub async fn run_trial(trial: Trial, systems: &[System], setting: &Setting<'_>) -> anyhow::Result<Outcome> {
    let mut runs = Vec::new();
    let mut skipped = Vec::new();
    for system in trial.systems().into_iter().filter(|system| systems.contains(system)) {
        let envoy = match (system, envoy::find()) {
            (System::Envoy, Err(why)) => {
                (setting.tell)(&format!("{}: envoy is skipped: {why}", trial.name()));
                skipped.push((system, why));
                continue;
            }
            (_, found) => found.ok(),
        };
        (setting.tell)(&format!("{}: {system}", trial.name()));
        let folder = setting.folder.join(format!("{}-{system}", trial.name()));
        let stage = Stage { setting, trial, system, folder, envoy };
        let run = trial.run_one(&stage).await;
        runs.push(run.with_context(|| format!("running {} on {system}", trial.name()))?);
    }
    let compared = runs.iter().any(|run| run.system == System::Envoy);
    let full = setting.grid == Grid::Full && (setting.time_scale - 1.0).abs() < 1e-9;
    Ok(Outcome {
        trial,
        seed: setting.seed,
        shortened: (!full)
            .then(|| format!("{} of the time, {:?} grid", setting.time_scale, setting.grid).to_lowercase()),
        runs,
        skipped,
        envoy: compared.then(envoy::find).and_then(Result::ok).and_then(|program| envoy::version(&program)),
        panels: trial.panels(setting),
        made: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}

/// One system in one experiment.
struct Stage<'a> {
    setting: &'a Setting<'a>,
    trial: Trial,
    system: System,
    folder: PathBuf,
    envoy: Option<PathBuf>,
}

impl Stage<'_> {
    /// `part` tells worlds of one stage apart, where it has several.
    fn ground<'g>(&'g self, folder: &'g Path) -> Ground<'g> {
        Ground {
            program: &self.setting.program,
            folder,
            sidecars: self.setting.sidecars,
            envoy: self.envoy.as_deref(),
            seed: self.setting.seed,
        }
    }

    /// The system with these apps. Our sidecars have what `server` says for the backend; by default what the system says.
    async fn world<'g>(
        &'g self,
        folder: &'g Path,
        topology: Topology,
        route: Route,
        apps: Apps,
        server: Option<String>,
    ) -> anyhow::Result<World<'g>> {
        let between = match self.system {
            System::Unprotected if self.trial != Trial::Overload => Between::Nothing,
            System::Envoy => Between::Envoys(route),
            system => {
                let server = server.unwrap_or_else(|| policy::server(system));
                Between::Sidecars(policy::policy(&topology, route, &server))
            }
        };
        World::start(self.ground(folder), topology, between, apps).await
    }

    fn tell(&self, what: &str) {
        (self.setting.tell)(&format!("{}: {}: {what}", self.trial.name(), self.system));
    }

    /// What a system's run found.
    fn found(
        &self,
        lags: &[Duration],
        bars: Vec<Bar>,
        figures: Vec<(String, String)>,
        lines: Vec<Vec<(f64, f64)>>,
    ) -> Run {
        for bar in &bars {
            let met = if bar.met { "met" } else { "missed" };
            self.tell(&format!("{met}: {}: {} ({})", bar.what, bar.got, bar.goal));
        }
        Run { system: self.system, bars, figures, lines, lag_p99: lag_p99(lags) }
    }
}

impl Setting<'_> {
    /// A phase's length as it is run.
    fn time(&self, full: Duration) -> Duration {
        full.mul_f64(self.time_scale)
    }

    /// The same, for what must be looked at so long to be seen at all.
    fn time_at_least(&self, full: Duration, min: Duration) -> Duration {
        self.time(full).max(min.min(full))
    }
}

/// A name that no experiment has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownTrial {
    given: String,
}

impl std::error::Error for UnknownTrial {}

impl std::fmt::Display for UnknownTrial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Trial::ALL.map(Trial::name).join(", ");
        write!(f, "there is no experiment {:?}; there are {known}", self.given)
    }
}

impl FromStr for Trial {
    type Err = UnknownTrial;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|trial| trial.name() == given);
        found.ok_or_else(|| UnknownTrial { given: given.to_owned() })
    }
}

#[cfg(test)]
mod tests;
