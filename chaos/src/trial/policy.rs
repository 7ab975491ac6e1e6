//! The policy under which our own sidecars run: who there is, how long a caller waits, and nothing else, so that the
//! product's defaults protect; and for the systems that are compared on the same runtime, what differs.

use std::fmt::Write as _;
use std::time::Duration;

use super::system::System;
use super::topology::{Serves, Topology, port};

/// How a service is called, beside the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// How long callers wait for an answer: the deadline, which the mesh ought to know.
    pub timeout: Duration,
    /// Attempts, with the first; 1: none but that.
    pub attempts: u32,
}

/// Every service of the topology, each reached by the same route, with `server` for how the backend is protected.
pub fn policy(topology: &Topology, route: Route, server: &str) -> String {
    let mut text = String::from(
        "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: {name: trial}\n\
         spec: {trustDomain: trial.local, defaultAuthorization: AllowSameTrustDomain}\n",
    );
    for node in &topology.nodes {
        let name = &node.name;
        let ports = match node.serves {
            Serves::Http => format!("[{{port: {0}, targetPort: {0}, appProtocol: http}}]", port::APP),
            Serves::Nothing => "[]".to_owned(),
        };
        let upstreams = node.calls.as_deref().unwrap_or_default();
        let _ = write!(
            text,
            "---\napiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: trial}}\n\
             spec: {{ports: {ports}, upstreams: [{upstreams}]}}\n"
        );
        if node.serves == Serves::Http {
            text.push_str(&http_route(name, route));
        }
    }
    if !server.is_empty() {
        let _ = write!(
            text,
            "---\napiVersion: outrider.mesh/v1alpha1\nkind: BackendTrafficPolicy\n\
             metadata: {{name: backend, namespace: trial}}\nspec:\n  \
             targetRefs: [{{group: \"\", kind: Service, name: backend}}]\n  server: {server}\n"
        );
    }
    text
}

fn http_route(name: &str, Route { timeout, attempts }: Route) -> String {
    let retry = match attempts.saturating_sub(1) {
        0 => String::new(),
        more => format!(", retry: {{attempts: {more}, codes: [500, 502, 503, 504], backoff: 25ms}}"),
    };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n\
         metadata: {{name: {name}, namespace: trial}}\nspec:\n  \
         parentRefs: [{{group: \"\", kind: Service, name: {name}, port: {port}}}]\n  \
         rules: [{{timeouts: {{request: {timeout}ms}}{retry}, backendRefs: [{{name: {name}, port: {port}}}]}}]\n",
        port = port::APP,
        timeout = timeout.as_millis(),
    )
}

/// How a backend is protected by a system that runs on our sidecars. The lines that are compared have the product's own
/// bounds and its limit, drop what cannot be answered in time as it does, and differ in order alone; with `CoDel` in what it drops
/// early, too. Without protection as many are under way as a sidecar takes at all.
pub fn server(system: System) -> String {
    let line = |order: &str, drop: &str| {
        format!("{{queue: {{maxDepth: 256, order: {order}, drop: {drop}, fairBy: None}}}}")
    };
    match system {
        System::Unprotected => "{concurrency: {algorithm: Fixed, initial: 1024, min: 1, max: 1024}, \
                                queue: {maxDepth: 0}}"
            .to_owned(),
        System::Fifo => line("FIFO", "None"),
        System::Lifo => line("LIFO", "None"),
        System::CoDel => line("FIFO", "CoDel"),
        System::Envoy | System::Ours => String::new(),
    }
}

/// The defaults, with two classes that these clients may name.
pub fn classes(topology: &Topology) -> String {
    let trusted: Vec<String> = topology
        .clients()
        .map(|client| format!("\"spiffe://trial.local/ns/trial/sa/{}\"", client.name))
        .collect();
    format!(
        "{{queue: {{maxDepth: 256, priority: {{header: {CLASS}, classes: [{CRITICAL}, {BULK}], default: {BULK}, \
         trustedFrom: [{}]}}}}}}",
        trusted.join(", ")
    )
}

/// The request field that names a class, and the classes.
pub const CLASS: &str = "x-priority";
pub const CRITICAL: &str = "critical";
pub const BULK: &str = "bulk";

#[cfg(test)]
mod tests;
