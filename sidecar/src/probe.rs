//! Looks whether the app's ports answer, since an endpoint is published only while they do, and whether neighbours can
//! reach them without the sidecar.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::node::Node;
use crate::session::Session;

/// While the app does not answer, it is asked this often, so that it is published soon after its start.
const STARTING: Duration = Duration::from_millis(100);
/// While it answers, this often: a port that closed is noticed by failing requests too.
const SERVING: Duration = Duration::from_secs(1);
/// A connect on one host takes microseconds.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// Whether the sidecar can be gone around changes with the app's configuration only.
const BYPASS: Duration = Duration::from_secs(30);

/// Runs until the process ends.
pub async fn run(node: Arc<Node>, session: Rc<Session>) {
    let mut serving = false;
    let mut bypass_asked: Option<Instant> = None;
    loop {
        let ports = target_ports(&node);
        let mut answers = !ports.is_empty();
        for &port in &ports {
            answers &= answers_at(SocketAddr::new(node.config.app_host, port)).await;
        }
        if answers != serving {
            tracing::info!(
                serving = answers,
                "the app's ports {}",
                if answers { "answer" } else { "do not all answer" }
            );
            serving = answers;
            session.announce(serving);
        }
        if answers && bypass_asked.is_none_or(|at| at.elapsed() >= BYPASS) {
            bypass_asked = Some(Instant::now());
            let bypassable = is_bypassable(&node, &ports).await;
            if bypassable && !node.bypassable.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "the app's port answers on an address that is not loopback: neighbours can go around this sidecar"
                );
            }
            node.bypassable.store(bypassable, Ordering::Relaxed);
        }
        actix_rt::time::sleep(if serving { SERVING } else { STARTING }).await;
    }
}

/// Ports of the app, each once: those that peers ask for, and those that edges lead to.
fn target_ports(node: &Node) -> Vec<u16> {
    let snapshot = node.snapshot.load();
    let Some(local) = snapshot.as_ref().map(|snapshot| &snapshot.local) else { return Vec::new() };
    let of_edges = local.edges.iter().map(|edge| edge.target_port);
    let mut ports: Vec<u16> = local.ports.iter().map(|port| port.target_port).chain(of_edges).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

async fn answers_at(address: SocketAddr) -> bool {
    matches!(actix_rt::time::timeout(CONNECT_MAX, TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// Whether one of the ports answers on the address that others are told, or else on that of the default route.
async fn is_bypassable(node: &Node, ports: &[u16]) -> bool {
    let Some(ip) = node.config.advertise.map(|address| address.ip()).or_else(outward_ip) else {
        return false;
    };
    if ip.is_loopback() {
        return false;
    }
    for &port in ports {
        if answers_at(SocketAddr::new(ip, port)).await {
            return true;
        }
    }
    false
}

/// The source address of packets that leave this host. Connecting a datagram socket sends nothing.
fn outward_ip() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    // An address for documentation (RFC 5737): any that is not local will do.
    socket.connect(("192.0.2.1", 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
