//! The command line as a whole.

use clap::{CommandFactory, Parser};

use super::{Cli, Command};

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_that_is_shown_says_what_it_does() {
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
    }
}

#[test]
fn wrong_usage_is_exit_code_2_and_help_is_0() {
    let code =
        |arguments: &[&str]| Cli::try_parse_from(arguments).expect_err("it does not parse").exit_code();
    assert_eq!(code(&["outrider", "demo", "--rate", "-1"]), 2);
    assert_eq!(code(&["outrider", "demo", "--duration", "30 seconds"]), 2);
    assert_eq!(code(&["outrider", "token", "create"]), 2);
    assert_eq!(code(&["outrider", "nothing"]), 2);
    assert_eq!(code(&["outrider", "--help"]), 0);
}

#[test]
fn what_the_documents_show_parses() {
    for line in [
        "outrider demo --duration 30s --rate 100 --keep-data -o json",
        "outrider demo --move-port 14010=8000 --move-port 8080=18080 --pods 127.15",
        "outrider stat --watch",
        "outrider upstreams --service shop/orders -o json",
        "outrider quota --api http://127.0.0.1:15100 --credential-file token",
        "outrider get http://orders/api/orders --via 127.0.0.1:14001",
        "outrider token create --service shop/orders --ttl 1h",
        "outrider join-secret revoke js-1",
        "outrider policy validate deploy/policy -o json",
        "outrider upstreams -o wide",
        "outrider upstreams --watch -o json",
        "outrider upstreams --admin 127.0.0.1:14000 --watch -o json",
        "outrider chaos list -o json",
        "outrider chaos run --all --out reports",
        "outrider chaos experiment list",
        "outrider chaos experiment --all --out docs/experiments",
        "outrider chaos experiment retry-storm --out docs/experiments",
        "outrider chaos experiment overload --systems ours,envoy --quick -o json",
        "outrider join-secret revoke js-1 -o json",
        "outrider healthcheck http://127.0.0.1:14090/ready",
        "outrider pause",
    ] {
        Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn the_names_of_the_shop_are_stable_for_compose_files() {
    let line =
        "outrider shop orders --listen 127.0.0.1:8080 --payments http://127.0.0.1:15001 --replica orders-1";
    let cli = Cli::try_parse_from(line.split(' ')).unwrap();
    assert!(matches!(cli.command, Command::Shop(_)));
}

#[test]
fn what_is_typed_wrong_is_answered_with_what_would_be_right() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (line, told) in [
        ("outrider get orders", "http://orders/api/orders"),
        ("outrider get https://orders/", "write http://"),
        ("outrider get /api", "http://SERVICE/PATH"),
        ("outrider chaos run", "--all"),
        ("outrider chaos run nothing", "sidecar-killed"),
        ("outrider demo --rate -1", "0..=2000"),
        ("outrider demo --duration 5", "30m"),
        ("outrider upstreams --service orders", "namespace/name"),
        ("outrider upstreams --admin 127.0.0.1:14000", "--watch"),
        (&format!("outrider policy validate {file}"), "name the directory"),
        ("outrider sta", "stat"),
    ] {
        let error = Cli::try_parse_from(line.split(' ')).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(told), "{line}: {error}");
    }
}
