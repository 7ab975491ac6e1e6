//! The servers: each kind once, over each version of HTTP that it has.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use outrider_tests::app::Speaks;
use outrider_tests::pattern;
use outrider_tests::process::Process;
use outrider_tests::third_party::{self, Route, envoy, haproxy, nginx, serves};
use outrider_tests::tools;

use crate::operation::LARGE_BYTES;

/// A column of the table.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    pub kind: &'static str,
    pub version: &'static str,
    pub speaks: Speaks,
}

impl Server {
    pub fn name(&self) -> String {
        format!("{} {}", self.kind, self.version)
    }
}

const fn server(kind: &'static str, version: &'static str, speaks: Speaks) -> Server {
    Server { kind, version, speaks }
}

pub const SERVERS: [Server; 12] = [
    server("nginx", "1.1", Speaks::Http1),
    server("nginx", "2", Speaks::Http2),
    server("Node", "1.1", Speaks::Http1),
    server("Node", "2", Speaks::Http2),
    server("Go", "1.1", Speaks::Http1),
    server("Go", "2", Speaks::Http2),
    server("Python", "1.0", Speaks::Http1),
    server("Python", "1.1", Speaks::Http1),
    server("Envoy", "1.1", Speaks::Http1),
    server("Envoy", "2", Speaks::Http2),
    server("HAProxy", "1.1", Speaks::Http1),
    server("HAProxy", "2", Speaks::Http2),
];

/// Where the first of them listens; the others on the ports after it.
const FIRST_PORT: u16 = 21_080;
/// How the first of them is called; the others by the ports after it.
const FIRST_SERVICE_PORT: u16 = 8_000;

pub fn index(kind: &str, version: &str) -> usize {
    let found = SERVERS.iter().position(|server| server.kind == kind && server.version == version);
    found.unwrap_or_else(|| panic!("no server {kind} {version}"))
}

fn number(index: usize) -> u16 {
    u16::try_from(index).expect("a dozen servers")
}

pub fn address(ip: IpAddr, index: usize) -> SocketAddr {
    SocketAddr::new(ip, FIRST_PORT + number(index))
}

pub fn service_port(index: usize) -> u16 {
    FIRST_SERVICE_PORT + number(index)
}

/// The ports of their service, for policy.
pub fn ports() -> String {
    let port = |(index, server): (usize, &Server)| {
        let protocol = if server.speaks == Speaks::Http2 { "kubernetes.io/h2c" } else { "http" };
        let (port, target) = (service_port(index), FIRST_PORT + number(index));
        format!("{{port: {port}, targetPort: {target}, appProtocol: {protocol}}}")
    };
    let ports: Vec<_> = SERVERS.iter().enumerate().map(port).collect();
    format!("ports: [{}]", ports.join(", "))
}

/// The programs that it takes.
#[derive(Debug, Clone)]
pub struct Programs {
    pub curl: PathBuf,
    pub nghttp: PathBuf,
    pub h2load: PathBuf,
    pub nginx: PathBuf,
    pub envoy: PathBuf,
    pub haproxy: PathBuf,
    pub node: PathBuf,
    pub python: PathBuf,
    /// Built of `peers/http_peer.go`.
    pub go_peer: PathBuf,
}

impl Programs {
    /// `None` where one is missing.
    pub async fn find(folder: &Path) -> Option<Self> {
        let go = tools::GO.find();
        let found = Self {
            curl: tools::CURL.find()?,
            nghttp: tools::NGHTTP.find()?,
            h2load: tools::H2LOAD.find()?,
            nginx: tools::NGINX_ECHO.find()?,
            envoy: tools::ENVOY.find()?,
            haproxy: tools::HAPROXY.find()?,
            node: tools::NODE.find()?,
            python: tools::HTTPX.find()?,
            go_peer: folder.join("http-peer"),
        };
        build(&go?, &found.go_peer).await;
        Some(found)
    }

    /// A program of the `peers` folder with these arguments.
    pub fn peer(&self, ending: &str, args: &[&str]) -> Command {
        let mut command = match ending {
            "js" => Command::new(&self.node),
            "py" => Command::new(&self.python),
            _ => Command::new(&self.go_peer),
        };
        if ending != "go" {
            command.arg(third_party::peer(ending));
        }
        command.args(args);
        command
    }
}

/// How long the Go toolchain may take, its own library included.
const BUILD_BOUND: Duration = Duration::from_mins(3);

async fn build(go: &Path, to: &Path) {
    let mut command = tokio::process::Command::new(go);
    command.arg("build").arg("-o").arg(to).arg(third_party::peer("go")).kill_on_drop(true);
    let status =
        tokio::time::timeout(BUILD_BOUND, command.status()).await.expect("Go builds within the bound");
    assert!(status.expect("it starts").success(), "Go builds the peer");
}

/// Starts all of them. Envoy and `HAProxy` are proxies of the Go server, as they are where they stand before an app.
pub async fn start(programs: &Programs, folder: &Path, ip: IpAddr) -> Vec<Process> {
    let at = |kind, version| address(ip, index(kind, version));
    let peer = async |ending: &str, protocol: &str, at: SocketAddr| {
        let command = programs.peer(ending, &["serve", protocol, &at.to_string()]);
        serves(&format!("{ending}-{protocol}"), folder, command, at).await
    };
    let front = |kind| {
        [("1.1", Speaks::Http1), ("2", Speaks::Http2)].map(|(version, from)| Route {
            listen: at(kind, version),
            from,
            to: at("Go", "1.1"),
            speaks: Speaks::Http1,
        })
    };
    let nginx_folder = folder.join("nginx");
    std::fs::create_dir_all(nginx_folder.join("www")).unwrap();
    std::fs::write(nginx_folder.join("www/large"), pattern::bytes(LARGE_BYTES)).unwrap();
    vec![
        nginx::peer(&programs.nginx, &nginx_folder, at("nginx", "1.1"), at("nginx", "2")).await,
        peer("js", "h1", at("Node", "1.1")).await,
        peer("js", "h2", at("Node", "2")).await,
        peer("go", "h1", at("Go", "1.1")).await,
        peer("go", "h2", at("Go", "2")).await,
        peer("py", "1.0", at("Python", "1.0")).await,
        peer("py", "1.1", at("Python", "1.1")).await,
        envoy::proxies(&programs.envoy, folder, &front("Envoy")).await,
        haproxy::proxies(&programs.haproxy, folder, &front("HAProxy")).await,
    ]
}
