//! Where everything of the demo listens, and the arguments that say so.
//!
//! Each pod has a loopback address of its own, so that every app and sidecar uses the ports of the policy. What people
//! type is on 127.0.0.1: the shop's page, the API, and the frontend sidecar's outbound and admin ports.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use outrider_shared::names::port;

use super::data::DataDir;

/// Ports of the policy that are not in [`port`].
pub const EDGE: u16 = 14_010;
pub const HTTP_APP: u16 = 8_080;
pub const GRPC_APP: u16 = 50_051;
/// Where a sidecar listens for the one upstream of its app.
pub const UPSTREAM: u16 = 15_001;

/// The ports that may be moved, and what each is for.
pub const PORTS: [(u16, &str); 10] = [
    (EDGE, "the shop's page"),
    (port::API, "the control plane's API"),
    (port::CONTROL, "the control plane's sessions"),
    (port::OUTBOUND, "outbound by Host"),
    (port::ADMIN, "a sidecar's admin"),
    (port::INBOUND, "inbound from other sidecars"),
    (port::HEALTH, "a sidecar's health and metrics"),
    (UPSTREAM, "outbound to the app's upstream"),
    (HTTP_APP, "the frontend and orders apps"),
    (GRPC_APP, "the payments app"),
];

/// `14010=8000`: what is usually at the first port is bound at the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortMove {
    pub from: u16,
    pub to: u16,
}

impl FromStr for PortMove {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let parsed = given.split_once('=').and_then(|(from, to)| {
            Some(Self { from: from.parse().ok()?, to: to.parse().ok().filter(|to| *to != 0)? })
        });
        let moved = parsed.ok_or_else(|| format!("{given:?} is not of the form PORT=PORT, as 14010=8000"))?;
        if PORTS.iter().any(|(known, _)| *known == moved.from) {
            return Ok(moved);
        }
        let known: Vec<String> = PORTS.iter().map(|(known, what)| format!("{known} ({what})")).collect();
        Err(format!("the demo does not use port {}; it uses {}", moved.from, known.join(", ")))
    }
}

/// `127.N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net(u8);

impl Net {
    pub fn number(self) -> u8 {
        self.0
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        given
            .strip_prefix("127.")
            .and_then(|n| n.parse().ok())
            // 127.0 holds the addresses that everything else on the machine uses.
            .filter(|n| *n > 0)
            .map(Self)
            .ok_or_else(|| format!("{given:?} is not of the form 127.N, with N from 1 to 255"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Frontend,
    Orders,
    Payments,
}

impl Service {
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Orders => "orders",
            Self::Payments => "payments",
        }
    }
}

/// One app with its sidecar.
#[derive(Debug)]
pub struct Pod {
    pub name: &'static str,
    pub service: Service,
    ip: IpAddr,
}

impl Pod {
    pub fn is_edge(&self) -> bool {
        self.service == Service::Frontend
    }
}

#[derive(Debug)]
pub struct Layout {
    net: Net,
    /// Where what people type is found.
    home: IpAddr,
    moves: Vec<PortMove>,
    planted: Planted,
    pub pods: Vec<Pod>,
}

/// Whether one replica of payments has something wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    OneReplica,
}

/// A port given away twice.
#[derive(Debug, thiserror::Error)]
#[error("--move-port moves {from} twice")]
pub struct MovedTwice {
    from: u16,
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Layout {
    pub fn new(net: Net, moves: &[PortMove]) -> Result<Self, MovedTwice> {
        for (position, moved) in moves.iter().enumerate() {
            if moves[..position].iter().any(|earlier| earlier.from == moved.from) {
                return Err(MovedTwice { from: moved.from });
            }
        }
        let pod = |name, service, third, fourth| Pod {
            name,
            service,
            ip: IpAddr::V4(Ipv4Addr::new(127, net.0, third, fourth)),
        };
        let pods = vec![
            pod("frontend", Service::Frontend, 1, 1),
            pod("orders-1", Service::Orders, 2, 1),
            pod("orders-2", Service::Orders, 2, 2),
            pod("payments-1", Service::Payments, 3, 1),
            pod("payments-2", Service::Payments, 3, 2),
            pod("payments-3", Service::Payments, 3, 3),
        ];
        Ok(Self { net, home: LOCALHOST, moves: moves.to_vec(), planted: Planted::OneReplica, pods })
    }

    /// For experiments: nothing planted, and nothing on an address that is also somebody else's.
    pub fn apart(net: Net) -> Self {
        let home = IpAddr::V4(Ipv4Addr::new(127, net.0, 0, 2));
        let layout = Self::new(net, &[]).expect("no port is moved twice");
        Self { home, planted: Planted::Nothing, ..layout }
    }

    /// Where the port is bound that is usually `usual`.
    pub fn port(&self, usual: u16) -> u16 {
        self.moves.iter().find(|moved| moved.from == usual).map_or(usual, |moved| moved.to)
    }

    pub fn is_moved(&self, usual: u16) -> bool {
        self.port(usual) != usual
    }

    fn at(&self, ip: IpAddr, usual: u16) -> SocketAddr {
        SocketAddr::new(ip, self.port(usual))
    }

    pub fn api(&self) -> SocketAddr {
        self.at(self.home, port::API)
    }

    fn control(&self) -> SocketAddr {
        self.at(IpAddr::V4(Ipv4Addr::new(127, self.net.0, 0, 1)), port::CONTROL)
    }

    pub fn api_url(&self) -> String {
        format!("http://{}", self.api())
    }

    pub fn edge(&self) -> SocketAddr {
        self.at(self.home, EDGE)
    }

    pub fn edge_url(&self) -> String {
        format!("http://{}", self.edge())
    }

    fn app_port(pod: &Pod) -> u16 {
        match pod.service {
            Service::Frontend | Service::Orders => HTTP_APP,
            Service::Payments => GRPC_APP,
        }
    }

    pub fn app(&self, pod: &Pod) -> SocketAddr {
        self.at(pod.ip, Self::app_port(pod))
    }

    fn inbound(&self, pod: &Pod) -> SocketAddr {
        self.at(pod.ip, port::INBOUND)
    }

    pub fn health(&self, pod: &Pod) -> SocketAddr {
        self.at(pod.ip, port::HEALTH)
    }

    fn upstream(&self, pod: &Pod) -> SocketAddr {
        self.at(pod.ip, UPSTREAM)
    }

    /// The frontend's are where `outrider get` looks for them.
    fn own_ports_ip(&self, pod: &Pod) -> IpAddr {
        if pod.is_edge() { self.home } else { pod.ip }
    }

    pub fn outbound(&self, pod: &Pod) -> SocketAddr {
        self.at(self.own_ports_ip(pod), port::OUTBOUND)
    }

    fn admin(&self, pod: &Pod) -> SocketAddr {
        self.at(self.own_ports_ip(pod), port::ADMIN)
    }

    /// Every address that will be bound, with the usual number of its port and whose it is.
    pub fn binds(&self) -> Vec<(SocketAddr, u16, String)> {
        let mut binds = vec![
            (self.api(), port::API, "control plane".to_owned()),
            (self.control(), port::CONTROL, "control plane".to_owned()),
            (self.edge(), EDGE, "frontend".to_owned()),
        ];
        for pod in &self.pods {
            let mut add = |address, usual| binds.push((address, usual, pod.name.to_owned()));
            add(self.app(pod), Self::app_port(pod));
            add(self.inbound(pod), port::INBOUND);
            add(self.health(pod), port::HEALTH);
            add(self.outbound(pod), port::OUTBOUND);
            add(self.admin(pod), port::ADMIN);
            if pod.service != Service::Payments {
                add(self.upstream(pod), UPSTREAM);
            }
        }
        binds
    }

    pub fn control_plane_arguments(&self, data: &DataDir) -> Vec<OsString> {
        let mut arguments = Arguments::of("control-plane");
        arguments.flag("--policy", data.policy());
        arguments.flag("--data-dir", data.control_plane());
        arguments.flag("--join-secrets-dir", data.join());
        arguments.flag("--api", self.api().to_string());
        arguments.flag("--control", self.control().to_string());
        arguments.0
    }

    pub fn app_arguments(&self, pod: &Pod, trace_link: Option<&str>) -> Vec<OsString> {
        let mut arguments = Arguments::of("shop");
        arguments.0.push(pod.service.name().into());
        arguments.flag("--listen", self.app(pod).to_string());
        arguments.flag("--replica", pod.name);
        let upstream = format!("http://{}", self.upstream(pod));
        match pod.service {
            Service::Frontend => {
                arguments.flag("--orders", upstream);
                if let Some(link) = trace_link {
                    arguments.flag("--trace-link", link);
                }
            }
            Service::Orders => arguments.flag("--payments", upstream),
            // The replica with something wrong: what the mesh is there for.
            Service::Payments if pod.name == "payments-3" && self.planted == Planted::OneReplica => {
                arguments.flag("--delay", "20ms");
                arguments.flag("--jitter", "100ms");
                arguments.flag("--fail-ratio", "0.25");
            }
            Service::Payments => {
                arguments.flag("--delay", "2ms");
                arguments.flag("--jitter", "4ms");
            }
        }
        arguments.0
    }

    pub fn sidecar_arguments(&self, pod: &Pod, data: &DataDir, join_file: &Path) -> Vec<OsString> {
        let mut arguments = Arguments::of("sidecar");
        arguments.flag("--service", format!("shop/{}", pod.service.name()));
        arguments.flag("--control-plane", self.control().to_string());
        arguments.flag("--join-file", join_file);
        arguments.flag("--data-dir", data.sidecar(pod.name));
        arguments.flag("--app-host", pod.ip.to_string());
        arguments.flag("--inbound", self.inbound(pod).to_string());
        arguments.flag("--advertise", self.inbound(pod).to_string());
        arguments.flag("--outbound", self.outbound(pod).to_string());
        arguments.flag("--admin", self.admin(pod).to_string());
        arguments.flag("--health", self.health(pod).to_string());
        match pod.service {
            Service::Frontend => {
                arguments.flag("--upstream", format!("shop/orders:{HTTP_APP}={}", self.upstream(pod)));
                arguments.flag("--edge-host", self.home.to_string());
                arguments.flag("--edge-port", format!("{EDGE}={}", self.port(EDGE)));
            }
            Service::Orders => {
                arguments.flag("--upstream", format!("shop/payments:{GRPC_APP}={}", self.upstream(pod)));
            }
            Service::Payments => {}
        }
        arguments.0
    }
}

/// The words with which this program is executed again.
pub struct Arguments(Vec<OsString>);

impl Arguments {
    pub fn of(command: &str) -> Self {
        Self(vec![command.into()])
    }

    pub fn word(&mut self, word: impl Into<OsString>) {
        self.0.push(word.into());
    }

    pub fn list(self) -> Vec<OsString> {
        self.0
    }

    pub fn flag(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }
}
