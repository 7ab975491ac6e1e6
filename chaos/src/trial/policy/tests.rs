use std::time::Duration;

use serde_json::Value;

use super::{Route, classes, policy, server};
use crate::trial::system::System;
use crate::trial::topology::Topology;

fn documents(text: &str) -> Vec<Value> {
    text.split("---\n")
        .map(|document| serde_saphyr::from_str(document).expect("a document is YAML"))
        .collect()
}

#[test]
fn the_products_defaults_protect_where_nothing_is_to_differ() {
    let route = Route { timeout: Duration::from_millis(500), attempts: 1 };
    let text = policy(&Topology::star(17, 4), route, &server(System::Ours));
    assert!(!text.contains("BackendTrafficPolicy"), "{text}");
    let documents = documents(&text);
    // The mesh, four clients, the backend and its route.
    assert_eq!(documents.len(), 7);
    let route =
        documents.iter().find(|document| document["kind"] == "HTTPRoute").expect("the backend's route");
    assert_eq!(route["spec"]["rules"][0]["timeouts"]["request"], "500ms");
    assert!(route["spec"]["rules"][0]["retry"].is_null());
}

/// As the control plane takes it: every policy of every system, for both shapes.
#[test]
fn whatever_is_written_here_is_policy() {
    let star = Topology::star(17, 20);
    let servers: Vec<String> = System::ALL.map(server).into_iter().chain([classes(&star)]).collect();
    for topology in [&star, &Topology::chain(17, 5)] {
        for (server, attempts) in servers.iter().flat_map(|server| [(server, 1), (server, 3)]) {
            let text = policy(topology, Route { timeout: Duration::from_millis(100), attempts }, server);
            let loaded = outrider_shared::policy::load(vec![("trial.yaml".to_owned(), text.clone())]);
            assert!(loaded.is_ok(), "{:?} in {text}", loaded.err());
        }
    }
}

#[test]
fn each_system_of_one_runtime_has_a_policy_of_its_own() {
    let topology = Topology::star(17, 1);
    let route = Route { timeout: Duration::from_millis(500), attempts: 1 };
    for system in [System::Unprotected, System::Fifo, System::Lifo, System::CoDel] {
        let documents = documents(&policy(&topology, route, &server(system)));
        let queue = &documents.last().expect("there are some")["spec"]["server"]["queue"];
        assert!(queue["maxDepth"].is_number(), "{system}: {queue}");
    }
}

#[test]
fn every_caller_of_a_chain_tries_as_often_as_was_said_and_every_client_may_name_a_class() {
    let route = Route { timeout: Duration::from_secs(5), attempts: 3 };
    let text = policy(&Topology::chain(17, 5), route, "");
    assert_eq!(text.matches("retry: {attempts: 2").count(), 5, "{text}");
    let star = Topology::star(17, 20);
    let documents = documents(&policy(&star, Route { attempts: 1, ..route }, &classes(&star)));
    let trusted =
        &documents.last().expect("there are some")["spec"]["server"]["queue"]["priority"]["trustedFrom"];
    assert_eq!(trusted.as_array().map(Vec::len), Some(20));
}
