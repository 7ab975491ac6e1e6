//! One spelling for each path: Istio's own rows through two sidecars, as bytes on the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use outrider_tests::app::Speaks;
use outrider_tests::loopback::port;
use outrider_tests::mesh::Mesh;
use outrider_tests::{policy, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(serde::Deserialize)]
struct Row {
    mode: String,
    #[serde(rename = "in")]
    given: String,
    out: String,
}

fn rows() -> BTreeMap<&'static str, Vec<Row>> {
    let text = include_str!("../../../sidecar/tests/vectors/path-normalization.json");
    let all: Vec<Row> = serde_json::from_str(text).unwrap();
    assert_eq!(all.len(), 216);
    let mut modes: BTreeMap<&str, Vec<Row>> = BTreeMap::new();
    for row in all {
        let mode = match row.mode.as_str() {
            "NONE" => "None",
            "BASE" => "Base",
            "MERGE_SLASHES" => "MergeSlashes",
            "DECODE_AND_MERGE_SLASHES" => "DecodeAndMergeSlashes",
            other => panic!("a mode {other}"),
        };
        modes.entry(mode).or_default().push(row);
    }
    modes
}

/// The status of a request whose target is written as it stands. A client cuts a fragment off before it asks.
async fn status(at: SocketAddr, target: &str) -> u16 {
    let target = target.split('#').next().unwrap();
    let mut stream = TcpStream::connect(at).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: web.test:8080\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    wait::bounded("an answer", stream.read_to_end(&mut answer)).await.unwrap();
    let head = String::from_utf8_lossy(&answer);
    head.split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{target}: {head:?}"))
}

#[tokio::test]
async fn every_row_of_istios_own_test_holds_through_two_sidecars() {
    for (mode, rows) in rows() {
        let config = format!("{}  pathNormalization: {mode}\n", policy::OPEN);
        let documents =
            policy::documents(&[&config, &policy::http("caller", 8080), &policy::http("web", 8080)]);
        let mesh = Mesh::start(&documents).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        caller.sidecar.sees("test/web", 1).await;
        for row in rows {
            let before = web.app().seen().len();
            let status = status(caller.outbound(), &row.given).await;
            if row.out == "400" {
                assert_eq!((status, web.app().seen().len()), (400, before), "{mode}: {}", row.given);
                continue;
            }
            assert_eq!(status, 200, "{mode}: {}", row.given);
            let seen = web.app().seen().pop().unwrap();
            assert_eq!(seen.uri.path(), row.out, "{mode}: {}", row.given);
        }
    }
}

#[tokio::test]
async fn what_is_decided_on_is_what_is_forwarded_in_every_mode() {
    let rules = "[{from: [{spiffe: [\"spiffe://test.mesh/ns/test/sa/caller\"]}], to: [{http: {pathPrefixes: [/open]}}]}]";
    // Each way into /closed, and whether the mode sees through it. What it does not see through is no /closed for it, so
    // the app gets it as it stands or not at all.
    for (mode, target, reaches) in [
        ("Base", "/open/../closed", false),
        ("Base", "/open/%2e%2e/closed", false),
        ("Base", "/open\\..\\closed", false),
        ("Base", "/open/..%2fclosed", true),
        ("MergeSlashes", "/open//../../closed", false),
        ("DecodeAndMergeSlashes", "/open/..%2fclosed", false),
        ("DecodeAndMergeSlashes", "/open/%5c..%5C../closed", false),
        ("DecodeAndMergeSlashes", "//open%2Fx", true),
        ("None", "/open/../closed", true),
    ] {
        let config = format!("{}  pathNormalization: {mode}\n", policy::OPEN);
        let allow = policy::authorization("web", "web", "Enforce", "Allow", rules);
        let parts = [&*config, &policy::http("caller", 8080), &policy::http("web", 8080), &allow];
        let mesh = Mesh::start(&policy::documents(&parts)).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        caller.sidecar.sees("test/web", 1).await;
        let status = status(caller.outbound(), target).await;
        let seen = web.app().seen();
        assert_eq!(
            (status == 200, seen.len()),
            (reaches, usize::from(reaches)),
            "{mode}: {target}: {status}"
        );
        if let Some(seen) = seen.first() {
            assert!(seen.uri.path().starts_with("/open"), "{mode}: {target}: {}", seen.uri);
        }
    }
}
