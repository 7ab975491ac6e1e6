use std::time::Duration;

use super::{config, is_program, version_in};
use crate::trial::policy::Route;
use crate::trial::topology::Topology;

#[test]
fn every_placeholder_is_filled_in_and_the_result_is_yaml() {
    let topology = Topology::chain(17, 3);
    let route = Route { timeout: Duration::from_millis(1_500), attempts: 3 };
    for node in &topology.nodes {
        let next = node.calls.is_some().then(|| topology.called_by(node));
        let text = config(node, next, route);
        let body: String = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        assert!(!body.replace("\"@type\"", "").contains('@'), "{body}");
        let value: serde_json::Value = serde_saphyr::from_str(&text).expect("the config is YAML");
        let clusters = &value["static_resources"]["clusters"];
        let address =
            &clusters[0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"];
        let expected = next.map_or("127.0.0.1".to_owned(), |next| next.ip.to_string());
        assert_eq!(address["socket_address"]["address"], expected);
        assert!(text.contains("timeout: \"1.500s\""), "{text}");
        assert!(text.contains("num_retries: 2\n"), "{text}");
    }
}

#[test]
fn a_script_that_would_start_an_envoy_is_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("envoy");
    for (bytes, expected) in [(b"\x7fELF".as_slice(), true), (b"#!/usr/bin/python3\n", false), (b"", false)] {
        std::fs::write(&path, bytes).expect("the folder is writable");
        assert_eq!(is_program(&path), expected);
    }
    assert!(!is_program(&folder.path().join("missing")));
}

#[test]
fn an_envoy_says_its_release_behind_its_commit() {
    let told = "\n/usr/bin/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n";
    assert_eq!(version_in(told), Some("1.40.0"));
    assert_eq!(version_in("no envoy at all"), None);
}
