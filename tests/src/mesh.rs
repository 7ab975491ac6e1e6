//! A whole mesh for one case: control plane, sidecars and apps on a block of loopback addresses, gone when dropped.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use outrider_shared::ServiceId;
use outrider_sidecar::config::{ByteCount, EdgeCertificate, UpstreamListener};
use outrider_sidecar::limits::Limits;
use tempfile::TempDir;

use crate::app::{App, Speaks};
use crate::loopback::{Block, port};

pub mod control;
pub mod offline;
pub mod sidecar;

pub use control::Control;
pub use sidecar::{Sidecar, Start};

/// See the module.
pub struct Mesh {
    pub control: Control,
    block: Block,
    // Last: what runs writes into it.
    folder: TempDir,
}

impl Mesh {
    /// A control plane in a thread, with these documents as its policy.
    pub async fn start(policy: &str) -> Self {
        let (block, folder) = places();
        let control = Control::in_thread(block.address(), folder.path(), policy).await;
        Self { control, block, folder }
    }

    /// A control plane in a process of its own.
    pub async fn start_with_control_process(policy: &str) -> Self {
        let (block, folder) = places();
        let control = Control::in_process(block.address(), folder.path(), policy).await;
        Self { control, block, folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An address that nothing else in this mesh has.
    pub fn address(&self) -> IpAddr {
        self.block.address()
    }

    /// An instance of a service of the namespace `test`, to be started.
    pub fn pod(&self, name: &str) -> PodStart<'_> {
        self.pod_of(&format!("{}/{name}", crate::policy::NAMESPACE))
    }

    /// An instance of any service.
    pub fn pod_of(&self, service: &str) -> PodStart<'_> {
        PodStart {
            mesh: self,
            service: service.parse().expect("the case writes namespace/name"),
            apps: Vec::new(),
            process: None,
            upstreams: Vec::new(),
            edge_certificates: Vec::new(),
            concurrency_limit: 1_024,
            memory_limit: None,
            allow_faults: false,
            limits: Limits::default(),
            drain_grace_s: 20,
            open_files: None,
            advertise: None,
        }
    }
}

fn places() -> (Block, TempDir) {
    (Block::claim(), tempfile::tempdir().expect("a temporary folder is to be had"))
}

/// What a pod shall be.
pub struct PodStart<'a> {
    mesh: &'a Mesh,
    service: ServiceId,
    apps: Vec<(u16, Speaks)>,
    process: Option<Vec<(&'static str, String)>>,
    upstreams: Vec<(ServiceId, u16)>,
    edge_certificates: Vec<EdgeCertificate>,
    concurrency_limit: u32,
    memory_limit: Option<ByteCount>,
    allow_faults: bool,
    limits: Limits,
    drain_grace_s: u64,
    open_files: Option<u32>,
    advertise: Option<SocketAddr>,
}

impl PodStart<'_> {
    /// With an app that listens on this port.
    #[must_use]
    pub fn app(mut self, port: u16, speaks: Speaks) -> Self {
        self.apps.push((port, speaks));
        self
    }

    /// Its sidecar is a process, with these variables in its environment.
    #[must_use]
    pub fn in_process(mut self, environment: &[(&'static str, &str)]) -> Self {
        self.process = Some(environment.iter().map(|&(key, value)| (key, value.to_owned())).collect());
        self
    }

    /// Its sidecar is a process that may have so many descriptors open.
    #[must_use]
    pub fn open_files(mut self, most: u32) -> Self {
        self.open_files = Some(most);
        self.in_process(&[])
    }

    /// With a listener of its own for `namespace/name`.
    #[must_use]
    pub fn upstream(mut self, service: &str, port: u16) -> Self {
        self.upstreams.push((service.parse().expect("the case writes namespace/name"), port));
        self
    }

    /// Its sidecar shows `NAME.crt` of this folder, with the key `NAME.key`, where policy names it.
    #[must_use]
    pub fn edge_certificate(mut self, folder: &Path, name: &str) -> Self {
        let at = |kind| folder.join(format!("{name}.{kind}"));
        let (certificate, key) = (at("crt"), at("key"));
        self.edge_certificates.push(EdgeCertificate { name: name.to_owned(), certificate, key });
        self
    }

    #[must_use]
    pub fn concurrency_limit(mut self, limit: u32) -> Self {
        self.concurrency_limit = limit;
        self
    }

    /// Its sidecar may use so many bytes.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(ByteCount(bytes));
        self
    }

    /// Its sidecar's admin port can make actors panic.
    #[must_use]
    pub fn allow_faults(mut self) -> Self {
        self.allow_faults = true;
        self
    }

    /// What its clients may ask of it. In a thread of the case only: a process would be given flags.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    #[must_use]
    pub fn drain_grace_s(mut self, seconds: u64) -> Self {
        self.drain_grace_s = seconds;
        self
    }

    /// It tells others this address, and not its own.
    #[must_use]
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise = Some(address);
        self
    }

    /// Starts it with a fresh one-use token, and waits until it is ready.
    pub async fn start(self) -> Pod {
        let token = self.mesh.control.token(&self.service.to_string()).await;
        let pod = self.start_with(Some(token));
        pod.sidecar.ready().await;
        pod
    }

    /// Starts it with this join credential, and waits for nothing.
    pub fn start_with(self, join: Option<String>) -> Pod {
        let ip = self.mesh.address();
        let mut apps = Vec::new();
        for &(port, speaks) in &self.apps {
            let name = format!("{}@{ip}", self.service.name());
            let app = App::start(&name, SocketAddr::new(ip, port), speaks);
            apps.push(app.expect("the address belongs to this pod alone"));
        }
        let data_dir = self.mesh.folder().join(format!("data-{ip}"));
        let upstreams = self.upstreams.iter().zip(port::UPSTREAM..).map(|((service, port), listen)| {
            UpstreamListener { service: service.clone(), port: *port, listen: SocketAddr::new(ip, listen) }
        });
        let start = Start {
            service: self.service.clone(),
            ip,
            control_plane: self.mesh.control.address().to_string(),
            join,
            data_dir,
            upstreams: upstreams.collect(),
            edge_certificates: self.edge_certificates.clone(),
            concurrency_limit: self.concurrency_limit,
            memory_limit: self.memory_limit,
            allow_faults: self.allow_faults,
            limits: self.limits,
            drain_grace_s: self.drain_grace_s,
            open_files: self.open_files,
            advertise: self.advertise,
        };
        let sidecar = match &self.process {
            None => Sidecar::in_thread(start),
            Some(environment) => {
                let environment: Vec<_> =
                    environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
                Sidecar::in_process(start, self.mesh.folder(), &environment)
            }
        };
        Pod { sidecar, apps }
    }
}

/// A sidecar and the apps beside it.
pub struct Pod {
    pub sidecar: Sidecar,
    pub apps: Vec<App>,
}

impl Pod {
    /// Its only app, or the first.
    #[track_caller]
    pub fn app(&self) -> &App {
        self.apps.first().expect("the pod was started with an app")
    }

    pub fn outbound(&self) -> SocketAddr {
        self.sidecar.outbound()
    }
}
