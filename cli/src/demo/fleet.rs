//! The demo's processes: each is this binary again, with a log of its own.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};

use super::interrupt::Interrupts;
use outrider_chaos::child;

/// How long a process may take to end after SIGTERM. A sidecar withdraws (5 s at most) and finishes what is under way.
const STOP_MAX: Duration = Duration::from_secs(8);
/// Of a log, quoted when its process ended by itself.
const LOG_LINES: usize = 15;
const LOG_BYTES: u64 = 8 << 10;

/// What a process is, in the order in which they are stopped: first whatever lets requests in, last the control plane,
/// to which sidecars say that they leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    EdgeSidecar,
    Sidecar,
    App,
    ControlPlane,
}

const STOP_ORDER: [Role; 4] = [Role::EdgeSidecar, Role::Sidecar, Role::App, Role::ControlPlane];

#[derive(Debug)]
struct Process {
    name: String,
    role: Role,
    child: Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

/// A process that ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended by itself ({exit}); the end of its log {}:\n{end_of_log}", log.display())]
pub struct Died {
    name: String,
    exit: ExitStatus,
    log: PathBuf,
    end_of_log: String,
}

#[derive(Debug)]
pub struct Fleet {
    program: PathBuf,
    logs: PathBuf,
    processes: Vec<Process>,
    stop_max: Duration,
}

impl Fleet {
    pub fn new(logs: PathBuf) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program's own file")?;
        Ok(Self { program, logs, processes: Vec::new(), stop_max: STOP_MAX })
    }

    pub fn start(&mut self, name: &str, role: Role, arguments: Vec<OsString>) -> anyhow::Result<()> {
        let log = self.logs.join(format!("{name}.log"));
        let starting = || format!("starting {name}");
        let out = File::options().create(true).append(true).open(&log).with_context(starting)?;
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone().with_context(starting)?)
            .stderr(out)
            // Ctrl-C goes to the terminal's foreground group: the order of ending is ours to keep.
            .process_group(0)
            .kill_on_drop(true);
        // What the user has set for a sidecar of their own is not meant for these.
        for (variable, _) in std::env::vars_os() {
            if variable
                .to_str()
                .is_some_and(|name| name.starts_with("OUTRIDER_") || name == "OTEL_SERVICE_NAME")
            {
                command.env_remove(&variable);
            }
        }
        command.env("OUTRIDER_LOG_FORMAT", "text");
        child::die_with_parent(&mut command);
        let child = command.spawn().with_context(starting)?;
        self.processes.push(Process { name: name.to_owned(), role, child, log, exit: None });
        Ok(())
    }

    /// Does the work, unless a process dies meanwhile. May be cancelled.
    pub async fn guard<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Died> {
        tokio::select! {
            index = self.next_exit() => Err(self.processes[index].died()),
            done = work => Ok(done),
        }
    }

    /// The next process to end, by its place in the list. May be cancelled: waiting for a child loses nothing.
    async fn next_exit(&mut self) -> usize {
        std::future::poll_fn(|context| {
            for (index, process) in self.processes.iter_mut().enumerate() {
                if process.exit.is_none()
                    && let Poll::Ready(exit) = pin!(process.child.wait()).poll(context)
                {
                    // Waiting for a child of our own fails only where it has been waited for.
                    process.exit = Some(exit.unwrap_or_default());
                    return Poll::Ready(index);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Ends all of them, role by role, within a bound each; at once when a second signal comes.
    pub async fn stop(&mut self, interrupts: &mut Interrupts) {
        let stop_max = self.stop_max;
        for role in STOP_ORDER {
            for process in self.running(role) {
                child::terminate(&process.child);
            }
            tokio::select! {
                () = self.all_ended(role) => {}
                () = tokio::time::sleep(stop_max) => {
                    for process in self.running(role) {
                        eprintln!("{} did not end in time after SIGTERM, and is killed.", process.name);
                    }
                }
                () = interrupts.next() => break,
            }
            self.kill(role).await;
        }
        for role in STOP_ORDER {
            self.kill(role).await;
        }
    }

    fn running(&mut self, role: Role) -> impl Iterator<Item = &mut Process> {
        self.processes.iter_mut().filter(move |process| process.role == role && process.exit.is_none())
    }

    async fn all_ended(&mut self, role: Role) {
        while self.running(role).next().is_some() {
            self.next_exit().await;
        }
    }

    /// SIGKILL cannot be refused, so the wait ends.
    async fn kill(&mut self, role: Role) {
        for process in self.running(role) {
            let _ = process.child.start_kill();
        }
        self.all_ended(role).await;
    }
}

impl Process {
    fn died(&self) -> Died {
        let end_of_log = end_of(&self.log).unwrap_or_else(|error| format!("  (not read: {error})"));
        Died {
            name: self.name.clone(),
            exit: self.exit.unwrap_or_default(),
            log: self.log.clone(),
            end_of_log,
        }
    }
}

/// The last lines of a file that may be large, indented.
fn end_of(log: &Path) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut end = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    Ok(last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests;
