use super::{System, Topology, Trial};
use crate::trial::outcome::{Bar, Outcome, Run};
use crate::trial::topology::{BACKEND, Serves};

#[test]
fn every_experiment_and_every_system_is_found_by_its_name_and_no_other() {
    for trial in Trial::ALL {
        assert_eq!(trial.name().parse(), Ok(trial));
    }
    for system in System::ALL {
        assert_eq!(system.name().parse(), Ok(system));
    }
    let error = "storm".parse::<Trial>().expect_err("no experiment has that name").to_string();
    assert!(error.contains("retry-storm, metastable"), "{error}");
    let error = "istio".parse::<System>().expect_err("no system has that name").to_string();
    assert!(error.contains("unprotected"), "{error}");
}

#[test]
fn every_experiment_compares_ours_with_nothing_and_with_envoy() {
    for trial in Trial::ALL {
        for system in [System::Unprotected, System::Envoy, System::Ours] {
            assert!(trial.systems().contains(&system), "{} lacks {system}", trial.name());
        }
        assert!(trial.question().ends_with('?'));
    }
    assert_eq!(Trial::Overload.systems(), System::ALL);
}

#[test]
fn every_node_has_an_address_of_its_own_and_calls_one_that_serves() {
    for topology in [Topology::star(17, 20), Topology::chain(17, 5)] {
        let mut addresses: Vec<_> = topology.nodes.iter().map(|node| node.ip).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), topology.nodes.len());
        for node in topology.nodes.iter().filter(|node| node.calls.is_some()) {
            assert_eq!(topology.called_by(node).serves, Serves::Http);
        }
    }
}

#[test]
fn a_chain_of_five_calls_ends_at_the_backend() {
    let chain = Topology::chain(17, 5);
    let mut at = chain.clients().next().expect("a chain has a client");
    let mut calls = 0;
    while at.calls.is_some() {
        at = chain.called_by(at);
        calls += 1;
    }
    assert_eq!((calls, at.name.as_str()), (5, BACKEND));
    assert_eq!(chain.hops().count(), 4);
}

fn outcome() -> Outcome {
    let run = |system, bars| Run {
        system,
        bars,
        figures: vec![("good | before".to_owned(), "99 %".to_owned())],
        lines: vec![vec![(0.0, 1.0), (1.0, 2.0)]],
        lag_p99: Some(std::time::Duration::from_millis(3)),
    };
    Outcome {
        trial: Trial::RetryStorm,
        seed: 7,
        shortened: Some("0.1 of the time".to_owned()),
        runs: vec![
            run(System::Unprotected, vec![Bar::new("recovers", "never", "never", true)]),
            run(System::Ours, vec![Bar::new("recovers", "within 2.0 s", "never", false)]),
        ],
        skipped: vec![(System::Envoy, "there is none".to_owned())],
        envoy: None,
        panels: vec![super::plot::Panel::new("Good", "s", "a second")],
        made: "2026-01-01T00:00:00Z".to_owned(),
        cores: 2,
    }
}

#[test]
fn a_report_tells_what_was_compared_what_was_skipped_and_how_it_was_run() {
    let text = outcome().markdown();
    for expected in [
        "# retry-storm\n",
        "**Shortened (0.1 of the time)",
        "`outrider chaos experiment retry-storm --seed 7`",
        "| ours | recovers | within 2.0 s | never | no |",
        "![retry-storm](retry-storm.svg)",
        "| | unprotected | ours |\n|---|---|---|\n| good \\| before | 99 % | 99 % |",
        "| envoy | skipped: there is none |",
        "ours 3.0 ms",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert_eq!(outcome().plot().matches("<polyline").count(), 2);
}
