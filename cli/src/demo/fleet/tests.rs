use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Fleet, Role};
use crate::demo::interrupt::Interrupts;

/// Longer than anything here takes, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn fleet(directory: &Path, stop_max: Duration) -> Fleet {
    Fleet { program: "/bin/sh".into(), logs: directory.to_owned(), processes: Vec::new(), stop_max }
}

fn script(text: impl Into<OsString>) -> Vec<OsString> {
    vec!["-c".into(), text.into()]
}

/// Waits until each process has said that its trap is set.
async fn until_logs_say(directory: &Path, names: &[&str], word: &str) {
    let said = |name: &&str| {
        std::fs::read_to_string(directory.join(format!("{name}.log"))).is_ok_and(|log| log.contains(word))
    };
    let all = async {
        while !names.iter().all(said) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("each process starts");
}

#[tokio::test]
async fn a_process_that_ends_by_itself_is_told_with_status_and_log() {
    let directory = tempfile::tempdir().unwrap();
    let mut fleet = fleet(directory.path(), PATIENCE);
    fleet.start("steady", Role::Sidecar, script("exec sleep 600")).unwrap();
    fleet.start("doomed", Role::App, script("echo no such port >&2; exit 3")).unwrap();
    let died = tokio::time::timeout(PATIENCE, fleet.guard(std::future::pending::<()>())).await.unwrap();
    let text = died.unwrap_err().to_string();
    assert!(text.starts_with("doomed ended by itself (exit status: 3)"), "{text}");
    assert!(text.ends_with("\n  no such port"), "{text}");
    fleet.stop(&mut Interrupts::listen().unwrap()).await;
}

#[tokio::test]
async fn work_that_is_done_first_is_returned() {
    let directory = tempfile::tempdir().unwrap();
    let mut fleet = fleet(directory.path(), PATIENCE);
    fleet.start("steady", Role::App, script("exec sleep 600")).unwrap();
    assert_eq!(fleet.guard(async { 14 }).await.unwrap(), 14);
    fleet.stop(&mut Interrupts::listen().unwrap()).await;
}

#[tokio::test]
async fn what_lets_requests_in_ends_first_and_the_control_plane_last() {
    let directory = tempfile::tempdir().unwrap();
    let ended = directory.path().join("ended");
    let mut fleet = fleet(directory.path(), PATIENCE);
    let names = ["control-plane", "app", "sidecar", "edge"];
    let roles = [Role::ControlPlane, Role::App, Role::Sidecar, Role::EdgeSidecar];
    for (name, role) in names.into_iter().zip(roles) {
        let text = format!(
            "trap 'echo {name} >> {}; exit 0' TERM; echo ready; while :; do sleep 0.01; done",
            ended.display()
        );
        fleet.start(name, role, script(text)).unwrap();
    }
    until_logs_say(directory.path(), &names, "ready").await;
    fleet.stop(&mut Interrupts::listen().unwrap()).await;
    assert_eq!(std::fs::read_to_string(ended).unwrap(), "edge\nsidecar\napp\ncontrol-plane\n");
}

#[tokio::test]
async fn one_that_ignores_sigterm_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut fleet = fleet(directory.path(), Duration::from_millis(50));
    fleet.start("deaf", Role::App, script("trap '' TERM; echo ready; while :; do sleep 0.01; done")).unwrap();
    until_logs_say(directory.path(), &["deaf"], "ready").await;
    let id = fleet.processes[0].child.id().expect("it runs");
    let begun = Instant::now();
    fleet.stop(&mut Interrupts::listen().unwrap()).await;
    assert!(begun.elapsed() < PATIENCE);
    assert!(!Path::new(&format!("/proc/{id}")).exists(), "it is gone, and waited for");
}

#[tokio::test]
async fn a_log_is_quoted_from_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("long.log");
    let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}")).collect();
    std::fs::write(&log, lines.join("\n")).unwrap();
    let end = super::end_of(&log).unwrap();
    assert_eq!(end.lines().count(), super::LOG_LINES);
    assert!(end.ends_with("  line 4999"), "{end}");
}
