//! A program under test or beside it: its output in a file, its end waited for within a bound, killed when dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use crate::wait;

/// A signal that a case sends.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    Terminate,
    /// Cannot be caught: what a crash looks like from outside.
    Kill,
    /// It runs no more, and its sockets stay open: what a hung machine looks like from outside.
    Stop,
    Continue,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it, with both its outputs in `<folder>/<name>.log`, added to what is there.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out =
            File::options().create(true).append(true).open(&log).expect("the case's folder is writable");
        let err = out.try_clone().expect("a descriptor is to be had");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub fn signal(&self, what: Signal) {
        // The child has not been waited for, so the id is still its own.
        signal(self.child.id(), what);
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        wait::until(&what, || {
            let ended = self.child.try_wait().expect("the child is ours");
            let log = &self.log;
            async move { ended.ok_or_else(|| tail(log)) }
        })
        .await
    }

    /// Kills it and waits for its end.
    pub async fn kill(&mut self) {
        self.signal(Signal::Kill);
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(libc::SIGKILL), "{} was still running", self.name);
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("Linux tells it");
        let kib: u64 =
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB");
        kib << 10
    }

    /// Fails with its log where it has ended already.
    pub fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().expect("the child is ours") {
            panic!("{} ended with {status}:\n{}", self.name, tail(&self.log));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} (process {})\n{}", self.name, self.id(), tail(&self.log));
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// The binary of this crate that is a sidecar, or a control plane: cargo builds it beside every case.
pub fn node(role: &str) -> Command {
    let case = std::env::current_exe().expect("a case knows where it lies");
    let folder = case.ancestors().nth(2).expect("target/<profile>/deps/<case>");
    let mut command = Command::new(folder.join("outrider-test-node"));
    command.arg(role);
    command
}

/// The same, with so many descriptors open at most.
pub fn node_with_open_files(role: &str, most: u32) -> Command {
    let node = node(role);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh"]).arg(most.to_string());
    command.arg(node.get_program()).args(node.get_args());
    command
}

/// To a process that the case has started and not waited for.
pub fn signal(id: u32, signal: Signal) {
    let number = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
        Signal::Continue => libc::SIGCONT,
    };
    let id = i32::try_from(id).expect("a process id is a positive i32");
    #[allow(
        unsafe_code,
        reason = "kill(2) has no safe wrapper in what the workspace links; it takes two integers"
    )]
    let result = unsafe { libc::kill(id, number) };
    assert_eq!(result, 0, "{id} takes the signal");
}

/// Runs a program to its end, within the bound; its standard output.
pub async fn run(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = output(program, args).await;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{} ended with {}:\n{out}{}",
        program.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    out
}

/// Runs a program to its end, within the bound, however it ends.
pub async fn output(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    let output =
        tokio::process::Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    wait::bounded(&format!("{} ends", program.display()), output).await.expect("it starts")
}
