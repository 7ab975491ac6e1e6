use std::path::Path;

use clap::Parser;
use outrider_chaos::trial::{Sidecars, Topology};

use super::mesh::Program;
use crate::Cli;

fn program() -> Program {
    Program { net: "127.17".parse().expect("a loopback network") }
}

#[test]
fn every_part_of_an_experiment_is_a_command_line_of_this_program() {
    let folder = tempfile::tempdir().expect("a folder for a mesh");
    for topology in [Topology::star(17, 20), Topology::chain(17, 5)] {
        let mesh = program().mesh(folder.path(), &topology, "").expect("the folder is writable");
        assert_eq!(mesh.sidecars.len(), topology.nodes.len());
        for part in std::iter::once(&mesh.control_plane).chain(&mesh.sidecars) {
            let words = std::iter::once("outrider".into()).chain(part.arguments.iter().cloned());
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{}: {error}", part.name));
            assert!(!part.ready.is_empty(), "{}", part.name);
        }
    }
    let words = program().part_arguments(Path::new("backend.json"));
    Cli::try_parse_from(std::iter::once("outrider".into()).chain(words))
        .expect("a part's file is all it takes");
}

#[test]
fn nonsense_is_refused_before_anything_starts() {
    for line in [
        "outrider chaos experiment",
        "outrider chaos experiment storm",
        "outrider chaos experiment spike --all",
        "outrider chaos experiment spike --systems istio",
        "outrider chaos experiment spike --duration-scale 0",
        "outrider chaos experiment spike --duration-scale 0.5 --quick",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
