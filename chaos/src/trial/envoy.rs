//! A real Envoy beside each app: where it is found, and how it is set.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use super::policy::Route;
use super::topology::{Node, Topology, port};
use crate::plan::{Part, Ready};

/// Kept beside this crate, so that anybody can judge it.
const CONFIG: &str = include_str!("../../envoy/sidecar.yaml");
/// Names an Envoy that does not lie on `PATH`.
const VARIABLE: &str = "OUTRIDER_TEST_ENVOY";
/// For an app that calls nobody: loopback, where nothing listens.
const NOBODY: &str = "127.0.0.1";

/// What differs between experiments: as little as between those of the sidecars.
pub type Traits = Route;

/// Says where it is, or what to do.
pub fn find() -> Result<PathBuf, String> {
    let given = env::var_os(VARIABLE).filter(|given| !given.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = || env::split_paths(&path).map(|folder| folder.join("envoy"));
    let found = given.into_iter().chain(on_path()).find(|path| is_program(path));
    found.ok_or_else(|| format!("there is no envoy on PATH, and {VARIABLE} names none"))
}

/// What it says of itself: the number of its release.
pub fn version(program: &Path) -> Option<String> {
    let told = Command::new(program).arg("--version").output().ok()?;
    version_in(&String::from_utf8_lossy(&told.stdout)).map(str::to_owned)
}

/// `… version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`.
fn version_in(told: &str) -> Option<&str> {
    told.split_once("version: ")?.1.split('/').nth(1)
}

/// Itself, not a script that starts it, as pip's does: that one can be ended without its Envoy.
fn is_program(path: &Path) -> bool {
    let mut begins = [0; 2];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begins));
    read.is_ok() && begins != *b"#!"
}

/// The process beside one app.
pub fn part(
    envoy: &Path,
    folder: &Path,
    topology: &Topology,
    node: &Node,
    traits: Traits,
) -> anyhow::Result<Part> {
    let next = node.calls.is_some().then(|| topology.called_by(node));
    let file = folder.join(format!("{}-envoy.yaml", node.name));
    fs::write(&file, config(node, next, traits)).with_context(|| format!("writing {}", file.display()))?;
    let arguments = ["-c".into(), file.into_os_string()];
    let further = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"].map(Into::into);
    Ok(Part {
        name: format!("{}-envoy", node.name),
        program: Some(envoy.to_owned()),
        arguments: arguments.into_iter().chain(further).collect(),
        ready: vec![Ready::Answers(node.at(port::HEALTH), "/ready")],
    })
}

fn config(node: &Node, next: Option<&Node>, Route { timeout, attempts }: Traits) -> String {
    let next = next.map_or_else(|| NOBODY.to_owned(), |next| next.ip.to_string());
    CONFIG
        .replace("@ID@", &node.name)
        .replace("@IP@", &node.ip.to_string())
        .replace("@NEXT@", &next)
        .replace("@TIMEOUT@", &seconds(timeout))
        .replace("@RETRIES@", &attempts.saturating_sub(1).to_string())
}

/// As Envoy reads a duration.
fn seconds(duration: Duration) -> String {
    format!("{}.{:03}s", duration.as_secs(), duration.subsec_millis())
}

#[cfg(test)]
mod tests;
