//! One experiment as a user runs it, made short: real processes, a report, a plot, and lines of JSON.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

/// In a folder of its own, and in a loopback network that nothing else of this repository uses.
fn experiment(folder: &std::path::Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrider"));
    command.current_dir(folder).args(["chaos", "experiment"]).args(arguments);
    command.output().expect("the program is built and can be run")
}

#[test]
fn an_experiment_leaves_a_report_a_plot_and_a_line_of_json_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder for the experiment");
    let ran = experiment(
        folder.path(),
        &[
            "amplification",
            "--quick",
            "--systems",
            "unprotected",
            "--pods",
            "127.29",
            "-o",
            "json",
            "--seed",
            "7",
        ],
    );
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    let out = String::from_utf8(ran.stdout).expect("JSON is UTF-8");
    let last: Value = serde_json::from_str(out.lines().last().unwrap_or_else(|| panic!("no line: {told}")))
        .expect("the last line is JSON");
    assert_eq!((last["name"].as_str(), last["seed"].as_u64()), (Some("amplification"), Some(7)));
    // Three attempts at each of five calls, whatever the machine does meanwhile.
    assert_eq!(last["bars"][0]["got"], "243.00 times", "{told}");
    assert_eq!(last["bars"][0]["met"], true);
    // On a loaded machine the schedule is not kept, and then the run says so by its code.
    assert_eq!(ran.status.success(), last["valid"] == true, "{told}");

    let report = fs::read_to_string(folder.path().join("outrider-experiments/amplification.md"));
    let report = report.expect("the report is written");
    assert!(report.contains("**Shortened (0.1 of the time, coarse grid)"), "{report}");
    assert!(report.contains("| unprotected | load at a leaf that fails wholly |"), "{report}");
    let plot = fs::read_to_string(folder.path().join("outrider-experiments/amplification.svg"));
    assert!(plot.expect("the plot is written").ends_with("</svg>\n"));
    let left: Vec<_> = fs::read_dir(folder.path()).expect("the folder is there").collect();
    assert_eq!(left.len(), 1, "only the reports are left: {left:?}");
}

#[test]
fn the_list_names_every_experiment_and_what_it_compares() {
    let folder = tempfile::tempdir().expect("a folder for the experiment");
    let ran = experiment(folder.path(), &["list", "-o", "json"]);
    assert!(ran.status.success());
    let text = String::from_utf8(ran.stdout).expect("JSON is UTF-8");
    let names: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON")["name"].clone())
        .collect();
    assert_eq!(names, ["retry-storm", "metastable", "spike", "priorities", "overload", "amplification"]);
}
