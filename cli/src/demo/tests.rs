use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use outrider_shared::api::ServiceStat;

use super::layout::{GRPC_APP, HTTP_APP, Layout, Net, PORTS, PortMove};
use super::{data, live, ports};

fn layout(moves: &[&str]) -> Layout {
    let moves: Vec<PortMove> = moves.iter().map(|given| given.parse().unwrap()).collect();
    Layout::new("127.13".parse().unwrap(), &moves).unwrap()
}

#[test]
fn every_part_has_an_address_of_its_own() {
    let binds = layout(&[]).binds();
    let addresses: BTreeSet<_> = binds.iter().map(|(address, ..)| *address).collect();
    assert_eq!(addresses.len(), binds.len());
    assert!(addresses.iter().all(|address| address.ip().is_loopback()));
    assert!(binds.iter().all(|(_, usual, _)| PORTS.iter().any(|(port, _)| port == usual)));
}

#[test]
fn every_port_can_be_moved() {
    for (usual, what) in PORTS {
        let moved = layout(&[&format!("{usual}=7777")]);
        let at_usual = moved.binds().iter().any(|(address, ..)| address.port() == usual);
        assert!(!at_usual, "{what} stayed at {usual}");
        assert!(moved.binds().iter().any(|(address, ..)| address.port() == 7_777), "{what}");
    }
}

#[test]
fn policy_that_was_kept_leads_to_where_the_apps_will_listen_or_is_refused_at_once() {
    let kept = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(kept.path().join("shop.yaml"), text).unwrap();
    write(&data::policy(&layout(&["8080=18080"])));
    data::judge_kept(kept.path(), &layout(&["8080=18080", "14010=8000"])).unwrap();
    for moves in [&[][..], &["8080=28080"], &["8080=18080", "50051=1"]] {
        let error = data::judge_kept(kept.path(), &layout(moves)).unwrap_err().to_string();
        assert!(error.contains("--move-port") && error.contains("--keep-data"), "{error}");
    }
    // What else is wrong with it is for the control plane to say.
    write("kind: Nothing\n");
    data::judge_kept(kept.path(), &layout(&[])).unwrap();
}

#[test]
fn moves_that_make_no_sense_are_refused() {
    for bad in ["14010", "14010=", "14010=0", "14010=x", "=80", "9999=80"] {
        assert!(bad.parse::<PortMove>().is_err(), "{bad}");
    }
    let twice = [PortMove { from: 14_010, to: 1 }, PortMove { from: 14_010, to: 2 }];
    assert!(Layout::new("127.13".parse().unwrap(), &twice).is_err());
    for bad in ["127.0", "127.256", "10.1", "127", "127.14.1"] {
        assert!(bad.parse::<Net>().is_err(), "{bad}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_the_flag_that_moves_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = ports::check_free(&layout(&[&format!("14010={port}")])).unwrap_err().to_string();
    let told = format!(
        "127.0.0.1:{port} (the shop's page, of frontend): taken; move it with --move-port 14010=PORT"
    );
    assert!(error.contains(&told), "{error}");
}

#[test]
fn two_ports_that_are_moved_onto_each_other_are_found() {
    let error = ports::check_free(&layout(&["14090=14006"])).unwrap_err().to_string();
    assert!(error.contains(":14006"), "{error}");
}

#[test]
fn the_policy_stays_as_it_stands_unless_an_apps_port_is_moved() {
    let original = include_str!("../../../deploy/policy/shop.yaml");
    assert_eq!(data::policy(&layout(&["14010=8000"])), original);
    let moved = data::policy(&layout(&["8080=18080", "50051=15051"]));
    let changed: Vec<(&str, &str)> =
        original.lines().zip(moved.lines()).filter(|(before, after)| before != after).collect();
    // The frontend's port and edge, and the ports of orders and payments.
    assert_eq!(changed.len(), 4, "{changed:#?}");
    let mut targets = 0;
    for (before, after) in changed {
        let expected =
            if before.contains(&GRPC_APP.to_string()) { "targetPort: 15051" } else { "targetPort: 18080" };
        assert!(after.contains(expected), "{after}");
        targets += after.matches("targetPort").count();
    }
    assert_eq!(targets, 4);
    assert!(!moved.contains(&format!("targetPort: {HTTP_APP}")));
}

#[test]
fn a_line_for_no_terminal_has_no_escape_codes() {
    let service = ServiceStat {
        name: "orders".to_owned(),
        namespace: "shop".to_owned(),
        success: Some(1.0),
        rps: 50.0,
        p50_ms: Some(3.0),
        p95_ms: Some(5.0),
        p99_ms: Some(9.0),
        peers: vec!["spiffe://shop.local/ns/shop/sa/frontend".to_owned()],
        mtls: Some(1.0),
        sidecars: 2,
        endpoints: 2,
        cert_remaining_s: Some(80_000),
        refusals_per_s: 0.0,
        overload_level: 0,
    };
    assert_eq!(
        live::plain_line(Duration::from_secs(3), &[service]),
        "   3 s  | orders 100 % at 50.0/s, p50 3.0 ms p95 5.0 ms p99 9.0 ms, 1 peer, mTLS 100 %"
    );
}

#[test]
fn what_is_suggested_works_where_ports_were_moved() {
    let usual = live::invitation(&layout(&[]));
    assert!(usual.contains("http://127.0.0.1:14010/"), "{usual}");
    assert!(usual.contains(" .outrider/demo/control-plane/read-token\n"), "{usual}");
    assert!(!usual.contains("--api") && !usual.contains("--via"), "{usual}");
    let moved = live::invitation(&layout(&["14100=1", "14001=2", "14010=3"]));
    assert!(moved.contains("stat --api http://127.0.0.1:1\n"), "{moved}");
    assert!(moved.contains("get http://orders/api/orders --via 127.0.0.1:2\n"), "{moved}");
    assert!(moved.contains("http://127.0.0.1:3/"), "{moved}");
}

/// The flags that plant a fault, with their values; written as `--flag=value` or as two words.
fn faults(words: impl Iterator<Item = String>) -> BTreeMap<String, String> {
    let words: Vec<String> =
        words.flat_map(|word| word.splitn(2, '=').map(str::to_owned).collect::<Vec<_>>()).collect();
    let named = |flag: &str| ["--delay", "--jitter", "--fail-ratio", "--fault-seed"].contains(&flag);
    words.windows(2).filter(|pair| named(&pair[0])).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

#[test]
fn the_compose_file_plants_the_faults_of_the_demo() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker-compose.yml");
    let text = std::fs::read_to_string(path).expect("the compose file is part of the repository");
    let compose: serde_json::Value = serde_saphyr::from_str(&text).expect("the compose file is YAML");
    let layout = layout(&[]);
    let mut planted = 0;
    for pod in &layout.pods {
        let arguments = layout.app_arguments(pod, None);
        let here = faults(arguments.into_iter().map(|word| word.into_string().expect("flags are ASCII")));
        // Compose names a service's only replica by the service alone, as the demo does.
        let command = compose["services"][pod.name]["command"].as_array();
        let command = command.unwrap_or_else(|| panic!("{} has a command in the compose file", pod.name));
        let there = faults(command.iter().map(|word| word.as_str().expect("words are texts").to_owned()));
        assert_eq!(here, there, "of {}", pod.name);
        planted += usize::from(there.contains_key("--fail-ratio"));
    }
    assert_eq!(planted, 1, "one replica has something wrong");
}
