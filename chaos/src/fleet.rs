//! The processes of a plan: started, killed, started again.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::child;
use crate::client::ask;
use crate::plan::{Part, Plan, Ready};

/// For one part at the start of a mesh: on two loaded cores the control plane's first start takes a second or two.
pub const START_MAX: Duration = Duration::from_secs(30);
/// For a process that was asked to end: a sidecar withdraws (5 s at most), then finishes what is under way.
const END_MAX: Duration = Duration::from_secs(15);
/// Between two looks: below what the reports show, which is tenths of a second.
pub const LOOK_PERIOD: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub struct Fleet {
    /// What a part is that names no program of its own.
    program: PathBuf,
    logs: PathBuf,
    running: BTreeMap<String, Child>,
}

impl Fleet {
    pub fn new(program: &Path, logs: &Path) -> Self {
        Self { program: program.to_owned(), logs: logs.to_owned(), running: BTreeMap::new() }
    }

    /// Starts the control plane, and then everything else, and waits until all of it is in service.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let mut fleet = Self::new(&plan.program, &plan.logs);
        fleet.start_all([&plan.control_plane]).await?;
        fleet.start_all(plan.parts().skip(1)).await?;
        Ok(fleet)
    }

    /// Starts all of these at once, and waits until each is in service.
    pub async fn start_all<'p>(&mut self, parts: impl IntoIterator<Item = &'p Part>) -> anyhow::Result<()> {
        let parts: Vec<_> = parts.into_iter().collect();
        for part in &parts {
            self.launch(part)?;
        }
        for part in parts {
            self.ready(part, START_MAX).await?;
        }
        Ok(())
    }

    /// Starts one, and does not wait for it.
    pub fn launch(&mut self, part: &Part) -> anyhow::Result<()> {
        let log = self.logs.join(format!("{}.log", part.name));
        let starting = || format!("starting {}", part.name);
        let out = File::options().create(true).append(true).open(&log).with_context(starting)?;
        let mut command = Command::new(part.program.as_ref().unwrap_or(&self.program));
        command
            .args(&part.arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone().with_context(starting)?)
            .stderr(out)
            // Ctrl-C is for the experiment, which ends its processes itself.
            .process_group(0)
            .kill_on_drop(true);
        // What is set for a sidecar of somebody's own is not meant for these.
        for (variable, _) in std::env::vars_os() {
            if variable
                .to_str()
                .is_some_and(|name| name.starts_with("OUTRIDER_") || name.starts_with("OTEL_"))
            {
                command.env_remove(&variable);
            }
        }
        child::die_with_parent(&mut command);
        self.running.insert(part.name.clone(), command.spawn().with_context(starting)?);
        Ok(())
    }

    /// Waits until a part is in service, and says how long that took. A part that ends meanwhile is an error.
    pub async fn ready(&mut self, part: &Part, max: Duration) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        for ready in &part.ready {
            while !is(ready).await {
                if let Some(exit) = self.exit(&part.name)? {
                    bail!("{} ended by itself ({exit}): see its log in {}", part.name, self.logs.display());
                }
                if begun.elapsed() >= max {
                    bail!("{} is not in service after {} s: {ready:?}", part.name, max.as_secs());
                }
                sleep(LOOK_PERIOD).await;
            }
        }
        Ok(begun.elapsed())
    }

    /// SIGKILL: it has no chance to say anything to anyone.
    pub async fn kill(&mut self, part: &Part) -> anyhow::Result<()> {
        let mut child = self.take(part)?;
        child.kill().await.with_context(|| format!("killing {}", part.name))
    }

    /// SIGTERM, and waits for its end.
    pub async fn end(&mut self, part: &Part) -> anyhow::Result<ExitStatus> {
        let mut child = self.take(part)?;
        child::terminate(&child);
        tokio::time::timeout(END_MAX, child.wait())
            .await
            .with_context(|| format!("{} did not end within {} s", part.name, END_MAX.as_secs()))?
            .with_context(|| format!("waiting for the end of {}", part.name))
    }

    /// Waits for a part that ends when its work is done. It must end well.
    pub async fn finished(&mut self, part: &Part, max: Duration) -> anyhow::Result<()> {
        let mut child = self.take(part)?;
        let exit = tokio::time::timeout(max, child.wait())
            .await
            .with_context(|| format!("{} is not done after {} s", part.name, max.as_secs()))?
            .with_context(|| format!("waiting for the end of {}", part.name))?;
        if !exit.success() {
            bail!("{} failed ({exit}): see its log in {}", part.name, self.logs.display());
        }
        Ok(())
    }

    fn take(&mut self, part: &Part) -> anyhow::Result<Child> {
        self.running.remove(part.name.as_str()).with_context(|| format!("{} does not run", part.name))
    }

    fn exit(&mut self, name: &str) -> anyhow::Result<Option<ExitStatus>> {
        let child = self.running.get_mut(name).with_context(|| format!("{name} does not run"))?;
        child.try_wait().with_context(|| format!("looking after {name}"))
    }

    /// Every part that ought to run does, or an error names those that do not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.running {
            if let Some(exit) = child.try_wait().with_context(|| format!("looking after {name}"))? {
                ended.push(format!("{name} ({exit})"));
            }
        }
        if !ended.is_empty() {
            bail!("ended by themselves: {}; see the logs in {}", ended.join(", "), self.logs.display());
        }
        Ok(())
    }

    /// Kills what still runs.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        for (name, child) in &mut self.running {
            child.kill().await.with_context(|| format!("killing {name}"))?;
        }
        Ok(())
    }
}

async fn is(ready: &Ready) -> bool {
    match ready {
        Ready::Answers(address, path) => {
            // A port that takes connections and is silent is not in service.
            let answer = tokio::time::timeout(Duration::from_secs(1), ask(*address, "GET", path)).await;
            matches!(answer, Ok(Ok(answer)) if answer.status == 200)
        }
        Ready::Exists(path) => path.exists(),
    }
}
