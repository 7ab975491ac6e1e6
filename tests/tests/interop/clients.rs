//! The clients: who they are, and what each of them can do.

use std::net::SocketAddr;
use std::path::Path;

use outrider_tests::app::Speaks;
use outrider_tests::mesh::Mesh;
use outrider_tests::pattern;
use outrider_tests::process::Process;
use outrider_tests::third_party::nginx::Towards;
use outrider_tests::third_party::{Route, envoy, haproxy, nginx};

use crate::ask;
use crate::operation::{Content, ECHO_BYTES, Heard, OPERATIONS, Operation};
use crate::servers::Programs;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub kind: &'static str,
    pub version: &'static str,
    pub speaks: Speaks,
    by: By,
}

/// How it is made to ask.
#[derive(Debug, Clone, Copy)]
enum By {
    /// curl with this flag.
    Curl(&'static str),
    Nghttp,
    H2load(&'static [&'static str]),
    /// The program of the `peers` folder with this ending, in this version.
    Peer(&'static str, &'static str),
    /// A proxy, which curl asks.
    Nginx(Towards),
    Envoy,
    Haproxy,
}

const fn client(kind: &'static str, version: &'static str, speaks: Speaks, by: By) -> Client {
    Client { kind, version, speaks, by }
}

pub const CLIENTS: [Client; 18] = [
    client("curl", "1.0", Speaks::Http1, By::Curl("--http1.0")),
    client("curl", "1.1", Speaks::Http1, By::Curl("--http1.1")),
    client("curl", "2", Speaks::Http2, By::Curl("--http2-prior-knowledge")),
    client("nghttp", "2", Speaks::Http2, By::Nghttp),
    client("h2load", "1.1", Speaks::Http1, By::H2load(&["--h1"])),
    client("h2load", "2", Speaks::Http2, By::H2load(&[])),
    client("Python http.client", "1.1", Speaks::Http1, By::Peer("py", "h1")),
    client("Python httpx", "2", Speaks::Http2, By::Peer("py", "h2")),
    client("Node http", "1.1", Speaks::Http1, By::Peer("js", "h1")),
    client("Node http2", "2", Speaks::Http2, By::Peer("js", "h2")),
    client("Go net/http", "1.1", Speaks::Http1, By::Peer("go", "h1")),
    client("Go net/http", "2", Speaks::Http2, By::Peer("go", "h2")),
    client("nginx, a proxy", "1.0", Speaks::Http1, By::Nginx(Towards::Http10)),
    client("nginx, a proxy", "1.1", Speaks::Http1, By::Nginx(Towards::Http11)),
    client("Envoy, a proxy", "1.1", Speaks::Http1, By::Envoy),
    client("Envoy, a proxy", "2", Speaks::Http2, By::Envoy),
    client("HAProxy, a proxy", "1.1", Speaks::Http1, By::Haproxy),
    client("HAProxy, a proxy", "2", Speaks::Http2, By::Haproxy),
];

impl Client {
    pub fn name(&self) -> String {
        format!("{} {}", self.kind, self.version)
    }

    /// Whether it asks for what others ask of it.
    pub fn is_proxy(&self) -> bool {
        matches!(self.by, By::Nginx(_) | By::Envoy | By::Haproxy)
    }

    /// What it can do.
    pub fn operations(&self) -> Vec<Operation> {
        OPERATIONS.into_iter().filter(|operation| self.can(operation)).collect()
    }

    fn can(&self, operation: &Operation) -> bool {
        match (self.by, operation.content) {
            // HTTP/1.0 has no chunks; h2load sends a file and its length.
            (By::Curl("--http1.0") | By::H2load(_), Content::Parts) => false,
            // Its reader of HTTP/1.1 waits for the content that HEAD's answer announces.
            (By::H2load(["--h1"]), _) => operation.method != "HEAD",
            _ => true,
        }
    }

    /// What it hears at each of these addresses.
    pub async fn ask(&self, programs: &Programs, mesh: &Mesh, addresses: &[SocketAddr]) -> Vec<Heard> {
        let folder = mesh.folder().join(self.name().replace([' ', '/', ','], "-"));
        std::fs::create_dir_all(&folder).unwrap();
        let content = folder.join("content");
        std::fs::write(&content, pattern::bytes(ECHO_BYTES)).unwrap();
        if let By::Peer(ending, protocol) = self.by {
            return ask::peer(programs, ending, protocol, addresses).await;
        }
        let proxy = self.proxy(programs, mesh, &folder, addresses).await;
        let asked = proxy.as_ref().map_or(addresses, |(_, fronts)| fronts);
        let can = self.operations();
        let mut heard = Vec::new();
        for at in asked {
            heard.push(match self.by {
                By::Nghttp => ask::nghttp(&programs.nghttp, &content, *at, &can).await,
                By::H2load(flags) => ask::h2load(&programs.h2load, flags, &content, *at, &can).await,
                By::Curl(flag) => ask::curl(&programs.curl, flag, &folder, *at, &can).await,
                _ => ask::curl(&programs.curl, "--http1.1", &folder, *at, &can).await,
            });
        }
        heard
    }

    /// Where it is a proxy: started in front of all addresses, and where it listens for each.
    async fn proxy(
        &self,
        programs: &Programs,
        mesh: &Mesh,
        folder: &Path,
        addresses: &[SocketAddr],
    ) -> Option<(Process, Vec<SocketAddr>)> {
        if !self.is_proxy() {
            return None;
        }
        let ip = mesh.address();
        let fronts: Vec<_> = (21_080..).map(|port| SocketAddr::new(ip, port)).take(addresses.len()).collect();
        let routes: Vec<_> = fronts
            .iter()
            .zip(addresses)
            .map(|(listen, to)| Route { listen: *listen, from: Speaks::Http1, to: *to, speaks: self.speaks })
            .collect();
        let process = match self.by {
            By::Nginx(towards) => nginx::proxy(&programs.nginx, folder, towards, &routes).await,
            By::Envoy => envoy::proxies(&programs.envoy, folder, &routes).await,
            _ => haproxy::proxies(&programs.haproxy, folder, &routes).await,
        };
        Some((process, fronts))
    }
}
