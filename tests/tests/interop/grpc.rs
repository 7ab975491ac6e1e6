//! gRPC's interop cases, as its authors describe them in `interop-test-descriptions.md`: their own client and server in Go,
//! and a client and a server by Python's grpcio, each against each through two sidecars.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::process::Process;
use outrider_tests::{policy, process, third_party, tools, wait};

/// What every client and server of the four pairs does.
pub const CASES: [&str; 14] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
];
/// What the Go client does beside them, with either server.
pub const OF_GO_CLIENT: [&str; 2] = ["rpc_soak", "channel_soak"];
/// What only the Go server answers: load reports in trailers and in a stream of their own.
pub const OF_GO_PAIR: [&str; 2] = ["orca_per_rpc", "orca_oob"];
/// Of our own, by grpcio's client with either server: metadata of 12 KiB each way, and an error after messages.
pub const OF_GRPCIO_CLIENT: [&str; 2] = ["large_metadata", "status_after_messages"];
/// What grpcio's client and server do together: the Go server has no compression.
pub const OF_GRPCIO_PAIR: [&str; 4] = [
    "client_compressed_unary",
    "server_compressed_unary",
    "client_compressed_streaming",
    "server_compressed_streaming",
];

/// Without it the Go client has nothing that hears load reports; its authors give it in every case.
const SERVICE_CONFIG: &str = r#"{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}"#;

/// A server behind its sidecar, and a caller's sidecar in front.
async fn pair(target_port: u16) -> (Mesh, Pod, Pod) {
    let ports = format!("ports: [{{port: 50051, targetPort: {target_port}, appProtocol: grpc}}]");
    let policy =
        policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::service("calls", &ports)]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").upstream("test/calls", 50051).start().await;
    let server = mesh.pod("calls").start().await;
    (mesh, caller, server)
}

/// The Go authors' server. It listens on every address, at a port that the system gives it and its log tells.
async fn go_server(server: &Path, folder: &Path) -> (Process, u16) {
    let mut command = Command::new(server);
    command.args(["-port", "0"]).env("GRPC_GO_LOG_SEVERITY_LEVEL", "info");
    let process = Process::start("grpc-go-server", folder, &mut command);
    let port = wait::until("the server tells its port", async || {
        let log = process.log();
        let told =
            log.lines().find_map(|line| line.split_once("interop server listening on ")?.1.rsplit_once(':'));
        told.and_then(|(_, port)| port.trim().parse().ok()).ok_or(log)
    })
    .await;
    (process, port)
}

/// Each case in a process of the Go client: its name, and what went wrong.
async fn by_go(client: &Path, at: SocketAddr, cases: &[&'static str]) -> BTreeMap<String, String> {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let mut seen = BTreeMap::new();
    for case in cases {
        let args = [
            "-server_host",
            &host,
            "-server_port",
            &port,
            "-service_config_json",
            SERVICE_CONFIG,
            "-test_case",
        ];
        let output = process::output(client, args.iter().chain([case])).await;
        let said = if output.status.success() {
            "ok".to_owned()
        } else {
            format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
        };
        seen.insert((*case).to_owned(), said);
    }
    seen
}

/// All cases in one process of grpcio's client.
async fn by_grpcio(python: &Path, at: SocketAddr, cases: &[&'static str]) -> BTreeMap<String, String> {
    let script = third_party::script("interop_client.py").display().to_string();
    let printed = process::run(python, [&*script, &*at.to_string()].iter().chain(cases)).await;
    let lines = printed.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(case, said)| (case.to_owned(), said.to_owned())).collect()
}

/// Names every case in the output, past the test runner's capture, and fails with those that did not pass.
fn settle(pair: &str, cases: &[&str], seen: &BTreeMap<String, String>) {
    let said = |case: &str| seen.get(case).map_or("it did not run", String::as_str);
    let (passed, failed): (Vec<&str>, Vec<&str>) = cases.iter().partition(|case| said(case) == "ok");
    let failed: Vec<_> = failed.into_iter().map(|case| format!("{case}: {}", said(case))).collect();
    let count = passed.len();
    let _ = writeln!(std::io::stderr(), "gRPC, {pair}: {count} cases pass: {}", passed.join(", "));
    assert!(failed.is_empty(), "{pair}: {} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[tokio::test]
async fn every_interop_case_of_grpc_passes_two_sidecars_to_its_own_server() {
    let (Some(go_client), Some(go), Some(python)) =
        (tools::GRPC_GO_CLIENT.find(), tools::GRPC_GO_SERVER.find(), tools::GRPCIO_TOOLS.find())
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (_server, target_port) = go_server(&go, folder.path()).await;
    let (_mesh, caller, _pod) = pair(target_port).await;
    caller.sidecar.sees("test/calls", 1).await;
    let at = caller.sidecar.upstream(0);
    let cases = [&CASES[..], &OF_GO_CLIENT, &OF_GO_PAIR].concat();
    settle("Go to Go", &cases, &by_go(&go_client, at, &cases).await);
    let cases = [&CASES[..], &OF_GRPCIO_CLIENT].concat();
    settle("grpcio to Go", &cases, &by_grpcio(&python, at, &cases).await);
}

#[tokio::test]
async fn every_interop_case_of_grpc_passes_two_sidecars_to_a_server_by_grpcio() {
    let (Some(go_client), Some(python)) = (tools::GRPC_GO_CLIENT.find(), tools::GRPCIO_TOOLS.find()) else {
        return;
    };
    let (mesh, caller, pod) = pair(port::APP).await;
    let _server = third_party::interop_server(&python, mesh.folder(), pod.sidecar.at(port::APP)).await;
    caller.sidecar.sees("test/calls", 1).await;
    let at = caller.sidecar.upstream(0);
    let cases = [&CASES[..], &OF_GO_CLIENT].concat();
    settle("Go to grpcio", &cases, &by_go(&go_client, at, &cases).await);
    let cases = [&CASES[..], &OF_GRPCIO_CLIENT, &OF_GRPCIO_PAIR].concat();
    settle("grpcio to grpcio", &cases, &by_grpcio(&python, at, &cases).await);
}
