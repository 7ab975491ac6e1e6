//! What a sidecar is started with: flags, each also by environment, checked into a [`Config`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args as ClapArgs;
use outrider_shared::ServiceId;
use outrider_shared::identity::JoinCredential;
use outrider_shared::names::port;

use crate::limits::Limits;

#[cfg(test)]
mod tests;

/// Runs beside one instance of a service: enforces mTLS and policy for what comes in, and finds, balances and secures
/// what the app calls.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// The service beside which it runs, as namespace/name.
    #[arg(long, env = "OUTRIDER_SERVICE", value_name = "NAMESPACE/NAME")]
    pub service: ServiceId,

    /// Where the control plane takes sessions; several are tried in turn.
    #[arg(
        long,
        env = "OUTRIDER_CONTROL_PLANE",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        required = true
    )]
    pub control_plane: Vec<String>,

    /// File with the join credential, needed at the first start only (`outrider token create`).
    #[arg(long, env = "OUTRIDER_JOIN_FILE", value_name = "FILE")]
    pub join_file: Option<PathBuf>,

    /// The join credential itself, where a file is not to be had.
    #[arg(
        long,
        env = "OUTRIDER_JOIN",
        hide_env_values = true,
        value_name = "CREDENTIAL",
        conflicts_with = "join_file"
    )]
    pub join: Option<String>,

    /// Keeps identity and last snapshot, so that it starts while the control plane is down.
    #[arg(long, env = "OUTRIDER_DATA_DIR", value_name = "DIR", default_value = "/var/lib/outrider-sidecar")]
    pub data_dir: PathBuf,

    /// Where the app listens; its ports are the policy's.
    #[arg(long, env = "OUTRIDER_APP_HOST", value_name = "IP", default_value = "127.0.0.1")]
    pub app_host: IpAddr,

    /// Where other sidecars come in (mTLS only).
    #[arg(long, env = "OUTRIDER_INBOUND", value_name = "IP:PORT", default_value_t = SocketAddr::from(([0, 0, 0, 0], port::INBOUND)))]
    pub inbound: SocketAddr,

    /// The address that others are told for it. Default: --inbound, or if that is a wildcard the address from which the
    /// control plane is reached.
    #[arg(long, env = "OUTRIDER_ADVERTISE", value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,

    /// Where the app calls any service, by Host. Loopback only: who reaches it speaks with the app's identity.
    #[arg(long, env = "OUTRIDER_OUTBOUND", value_name = "IP:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], port::OUTBOUND)))]
    pub outbound: SocketAddr,

    /// A listener of its own for one upstream, whatever Host says: namespace/name:port=ip:port. Loopback only.
    #[arg(
        long = "upstream",
        env = "OUTRIDER_UPSTREAMS",
        value_name = "NAMESPACE/NAME:PORT=IP:PORT",
        value_delimiter = ','
    )]
    pub upstreams: Vec<UpstreamListener>,

    /// Where the policy's edge ports are bound.
    #[arg(long, env = "OUTRIDER_EDGE_HOST", value_name = "IP", default_value = "0.0.0.0")]
    pub edge_host: IpAddr,

    /// Binds an edge port of the policy somewhere else: 14010=15010.
    #[arg(long = "edge-port", env = "OUTRIDER_EDGE_PORTS", value_name = "PORT=PORT", value_delimiter = ',')]
    pub edge_ports: Vec<PortPair>,

    /// A certificate with its key, in PEM, for edges whose policy names it: www=/etc/tls/tls.crt,/etc/tls/tls.key. Read
    /// again when the files change. Several in the variable are separated by semicolons.
    #[arg(
        long = "edge-certificate",
        env = "OUTRIDER_EDGE_CERTIFICATES",
        value_name = "NAME=CERT,KEY",
        value_delimiter = ';'
    )]
    pub edge_certificates: Vec<EdgeCertificate>,

    /// Snapshot, upstreams, drain. Loopback only.
    #[arg(long, env = "OUTRIDER_ADMIN", value_name = "IP:PORT", default_value_t = SocketAddr::from(([127, 0, 0, 1], port::ADMIN)))]
    pub admin: SocketAddr,

    /// /live, /ready and /metrics: read only.
    #[arg(long, env = "OUTRIDER_HEALTH", value_name = "IP:PORT", default_value_t = SocketAddr::from(([0, 0, 0, 0], port::HEALTH)))]
    pub health: SocketAddr,

    /// Threads that serve requests. Default: the CPU quota, at most 2.
    #[arg(long, env = "OUTRIDER_SHARDS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub shards: Option<u8>,

    /// Requests under way to one upstream, or to one port of the app; past that they are refused.
    #[arg(long, env = "OUTRIDER_CONCURRENCY_LIMIT", value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub concurrency_limit: u32,

    /// Memory that the sidecar may use, as 256MiB: near it, the least important requests are refused. Default: what its
    /// cgroup may use; without either, memory plays no part.
    #[arg(long, env = "OUTRIDER_MEMORY_LIMIT", value_name = "BYTES")]
    pub memory_limit: Option<ByteCount>,

    /// Lets the admin port make an upstream's actor panic, so that a team can see what its mesh does then. Not for
    /// production: requests go on, but what waits in a queue asks again.
    #[arg(long, env = "OUTRIDER_ALLOW_FAULTS")]
    pub allow_faults: bool,

    #[command(flatten)]
    pub limits: Limits,

    /// At a drain, how long requests under way may still take, in seconds; a day at most.
    #[arg(long, env = "OUTRIDER_DRAIN_GRACE_S", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub drain_grace_s: u64,
}

/// `namespace/name:port=ip:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamListener {
    pub service: ServiceId,
    pub port: u16,
    pub listen: SocketAddr,
}

impl FromStr for UpstreamListener {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let parse = || {
            let (target, listen) = given.split_once('=')?;
            let (service, port) = target.rsplit_once(':')?;
            Some(Self {
                service: service.parse().ok()?,
                port: port.parse().ok()?,
                listen: listen.parse().ok()?,
            })
        };
        parse().ok_or_else(|| {
            format!("{given:?} is not of the form namespace/name:port=ip:port, as shop/orders:8080=127.0.0.1:15001")
        })
    }
}

/// `from=to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortPair {
    pub from: u16,
    pub to: u16,
}

impl FromStr for PortPair {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        given
            .split_once('=')
            .and_then(|(from, to)| Some(Self { from: from.parse().ok()?, to: to.parse().ok()? }))
            .ok_or_else(|| format!("{given:?} is not of the form port=port, as 14010=15010"))
    }
}

/// `name=certificate,key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeCertificate {
    pub name: String,
    /// The chain, the leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl FromStr for EdgeCertificate {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let parse = || {
            let (name, files) = given.split_once('=')?;
            let (certificate, key) = files.split_once(',')?;
            let named = [name, certificate, key].iter().all(|part| !part.is_empty());
            named.then(|| Self { name: name.to_owned(), certificate: certificate.into(), key: key.into() })
        };
        parse().ok_or_else(|| {
            format!("{given:?} is not of the form name=cert,key, as www=/etc/tls/tls.crt,/etc/tls/tls.key")
        })
    }
}

/// A number of bytes, also in KiB, MiB or GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl FromStr for ByteCount {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        let (digits, unit) = units
            .iter()
            .find_map(|(name, unit)| Some((given.strip_suffix(name)?, *unit)))
            .unwrap_or((given, 1));
        let bytes = digits.parse().ok().and_then(|count: u64| count.checked_mul(unit));
        bytes
            .filter(|bytes| *bytes > 0)
            .map(Self)
            .ok_or_else(|| format!("{given:?} is no number of bytes above 0, as 268435456 or 256MiB"))
    }
}

/// Why the flags cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "{flag} {address} is not a loopback address: whoever reaches it would speak with the app's identity"
    )]
    NotLoopback { flag: &'static str, address: SocketAddr },
    #[error("--edge-certificate gives {name} twice")]
    CertificateTwice { name: String },
    #[error("reading the join credential from {}", path.display())]
    JoinFile { path: PathBuf, source: std::io::Error },
    #[error("the join credential is malformed: make one with `outrider token create --service {service}`")]
    Join { service: ServiceId, source: outrider_shared::identity::BadCredential },
}

/// What a sidecar runs with.
#[derive(Debug, Clone)]
pub struct Config {
    pub service: ServiceId,
    pub control_planes: Vec<String>,
    pub join: Option<JoinCredential>,
    pub data_dir: PathBuf,
    pub app_host: IpAddr,
    pub inbound: SocketAddr,
    pub advertise: Option<SocketAddr>,
    pub outbound: SocketAddr,
    pub upstreams: Vec<UpstreamListener>,
    pub edge_host: IpAddr,
    pub edge_ports: Vec<PortPair>,
    pub edge_certificates: Vec<EdgeCertificate>,
    pub admin: SocketAddr,
    pub health: SocketAddr,
    pub shards: usize,
    pub concurrency_limit: u32,
    /// In bytes; `None`: the cgroup's, if it has one.
    pub memory_limit: Option<u64>,
    /// `POST /faults/panic` of the admin port is there.
    pub allow_faults: bool,
    pub limits: Limits,
    pub drain_grace: Duration,
}

impl Config {
    /// Where an edge port of the policy is bound.
    pub fn edge_address(&self, port: u16) -> SocketAddr {
        let moved = self.edge_ports.iter().find(|pair| pair.from == port);
        SocketAddr::new(self.edge_host, moved.map_or(port, |pair| pair.to))
    }
}

impl Args {
    /// Checks the flags, and reads the join credential where one is given.
    pub fn check(self) -> Result<Config, ConfigError> {
        let loopback = |flag, address: SocketAddr| {
            if address.ip().is_loopback() { Ok(()) } else { Err(ConfigError::NotLoopback { flag, address }) }
        };
        loopback("--outbound", self.outbound)?;
        loopback("--admin", self.admin)?;
        for upstream in &self.upstreams {
            loopback("--upstream", upstream.listen)?;
        }
        for (index, EdgeCertificate { name, .. }) in self.edge_certificates.iter().enumerate() {
            if self.edge_certificates[..index].iter().any(|other| other.name == *name) {
                return Err(ConfigError::CertificateTwice { name: name.clone() });
            }
        }
        let join = match (&self.join, &self.join_file) {
            (Some(text), _) => Some(text.clone()),
            // A credential that was used and removed is no error where an identity lies on disk: the session decides.
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) => Some(text),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(source) => return Err(ConfigError::JoinFile { path: path.clone(), source }),
            },
            (None, None) => None,
        };
        let join = join
            .map(|text| text.trim().parse::<JoinCredential>())
            .transpose()
            .map_err(|source| ConfigError::Join { service: self.service.clone(), source })?;
        let advertise =
            self.advertise.or_else(|| (!self.inbound.ip().is_unspecified()).then_some(self.inbound));
        Ok(Config {
            service: self.service,
            control_planes: self.control_plane,
            join,
            data_dir: self.data_dir,
            app_host: self.app_host,
            inbound: self.inbound,
            advertise,
            outbound: self.outbound,
            upstreams: self.upstreams,
            edge_host: self.edge_host,
            edge_ports: self.edge_ports,
            edge_certificates: self.edge_certificates,
            admin: self.admin,
            health: self.health,
            shards: self.shards.map_or_else(default_shards, usize::from),
            concurrency_limit: self.concurrency_limit,
            memory_limit: self.memory_limit.map(|ByteCount(bytes)| bytes),
            allow_faults: self.allow_faults,
            limits: self.limits,
            drain_grace: Duration::from_secs(self.drain_grace_s),
        })
    }
}

/// The cgroup's CPU quota, as `available_parallelism` reads it, and no more than two: a sidecar with 64 threads on a
/// host of 64 cores is a burden.
fn default_shards() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(2)
}
