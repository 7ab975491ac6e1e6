//! A real Envoy, configured to be strict, on the same requests: where the two of us differ, an RFC decides.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use outrider_tests::loopback::{Block, port};
use outrider_tests::process::Process;
use outrider_tests::raw::recorder::Recorder;
use outrider_tests::raw::script::Step;
use outrider_tests::tools::ENVOY;
use outrider_tests::{reference, third_party};
use serde_json::{Value, json};

use crate::judge::Ended;
use crate::requests;
use crate::table::Case;
use crate::world::{self, Way, World};

const REFERENCE: &str = "docs/reference/http-hygiene.md";

/// In front of `app`, with everything that its own documents advise for an edge.
async fn start(envoy: &Path, folder: &Path, address: SocketAddr, app: SocketAddr) -> Process {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "HTTP1",
        "generate_request_id": false,
        "normalize_path": true,
        "request_headers_timeout": "10s",
        "http_protocol_options": {"accept_http_10": true, "default_host_for_http_10": world::HOST, "enable_trailers": true},
        "common_http_protocol_options": {"headers_with_underscores_action": "ALLOW", "max_headers_count": 100},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "15s"}}
        ]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        }}],
    });
    let cluster = json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(app)}}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
        }},
    });
    let config: Value = json!({"static_resources": {
        "listeners": [{
            "name": "listener",
            "address": socket(address),
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
            ]}],
        }],
        "clusters": [cluster],
    }});
    let path = folder.join("envoy.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(envoy);
    command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
    let mut process = Process::start("envoy", folder, &mut command);
    third_party::answers(&mut process, address).await;
    process
}

/// A word for each answer: `forwards`, `refuses`, `closes`.
fn kind(ended: &Ended) -> String {
    ended
        .in_short()
        .chars()
        .filter(|c| !c.is_ascii_digit())
        .collect::<String>()
        .replace(" ,", ",")
        .trim()
        .to_owned()
}

#[tokio::test]
async fn where_envoy_and_the_sidecar_differ_a_section_of_an_rfc_says_why() {
    let Some(envoy) = ENVOY.find() else { return };
    let tables = requests::tables();
    let cases: Vec<Case> = tables.iter().flat_map(|(_, cases)| cases.clone()).collect();
    let block = Block::claim();
    let folder = tempfile::tempdir().unwrap();
    let app = SocketAddr::new(block.address(), port::APP);
    let recorder = Recorder::start(app, |request| vec![Step::Send(world::echo(request))]);
    let address = SocketAddr::new(block.address(), port::EDGE);
    let _envoy = start(&envoy, folder.path(), address, app).await;
    let mesh = World::start().await;
    let (ours, theirs) = tokio::join!(mesh.ask(Way::Edge, &cases), world::ask(address, Way::Envoy, &cases));
    let theirs = world::with_records(theirs, &recorder);

    let mut lines = Vec::new();
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let differ = kind(ours) != kind(theirs);
        match (differ, ours.case.envoy) {
            (true, None) => lines.push(format!(
                "{}: the sidecar {}, Envoy {}, and no reason is given",
                ours.case.name,
                ours.in_short(),
                theirs.in_short()
            )),
            (false, Some(_)) => {
                lines.push(format!("{}: both do the same; strike the reason", ours.case.name));
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    assert!(lines.is_empty(), "{}:\n{}", lines.len(), lines.join("\n"));
    reference::hold(REFERENCE, &page(&tables, &ours, &theirs));
}

const INTRODUCTION: &str = "# HTTP/1.1, strictly

What a sidecar does with each of the requests that its tests send byte by byte, beside what a real Envoy does with the same
bytes. This page is generated from such a run: the tables are `tests/tests/hygiene/cases/*.txt`, where the bytes are.

One request in means at most one request out. What two readers could read in two ways is refused, and the connection closed,
since nobody knows where the next request would begin. A case may hold several requests on one connection; the words are what
became of them, in order. `closes` is an end without an answer. Where the two differ, the last column says why both may.

Envoy has `normalize_path`, `accept_http_10`, trailers, 100 header fields and a header timeout of 10 s, and otherwise its
defaults.
";

fn page(tables: &[(&str, Vec<Case>)], ours: &[Ended], theirs: &[Ended]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut rows = ours.iter().zip(theirs);
    for (name, cases) in tables {
        let mut title = (*name).to_owned();
        title[..1].make_ascii_uppercase();
        let _ = write!(text, "\n## {title}\n\n| case | sidecar | Envoy | why |\n|---|---|---|---|\n");
        for (ours, theirs) in rows.by_ref().take(cases.len()) {
            let case = ours.case;
            let why = case.envoy.map_or(case.rfc.to_owned(), |envoy| format!("**{envoy}**"));
            let cell = |text: &str| text.replace('|', "\\|");
            let (ours, theirs) = (ours.in_short(), theirs.in_short());
            let _ = writeln!(text, "| {} | {ours} | {theirs} | {} |", cell(&case.name), cell(&why));
        }
    }
    text
}
