//! A mesh whose control plane is away, from disk alone, with the case's own authority: for what no control plane would do.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::loopback::port;
use outrider_control_plane::planner;
use outrider_shared::policy::{self, Policy};
use outrider_shared::snapshot::{Endpoint, Snapshot, Version};
use outrider_shared::{ServiceId, SidecarId};
use outrider_sidecar::limits::Limits;
use tempfile::TempDir;

use super::sidecar::{Sidecar, Start};
use crate::authority::{self, Authority, Credentials, Wanted};
use crate::loopback::Block;

/// See the module.
pub struct Offline {
    pub authority: Authority,
    policy: Policy,
    endpoints: Vec<(ServiceId, Vec<Endpoint>)>,
    sidecars: usize,
    block: Block,
    folder: TempDir,
}

/// Where an instance of a service is, or shall be.
#[derive(Debug, Clone)]
pub struct Place {
    pub service: ServiceId,
    pub sidecar: SidecarId,
    pub ip: IpAddr,
}

impl Place {
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }
    pub fn inbound(&self) -> SocketAddr {
        self.at(port::INBOUND)
    }
}

impl Offline {
    pub fn new(documents: &str) -> Self {
        let loaded = policy::load(vec![("case.yaml".to_owned(), documents.to_owned())])
            .unwrap_or_else(|problems| panic!("{problems}"));
        Self {
            authority: Authority::new(loaded.policy.mesh().trust_domain().as_str()),
            policy: loaded.policy,
            endpoints: Vec::new(),
            sidecars: 0,
            block: Block::claim(),
            folder: tempfile::tempdir().expect("a temporary folder is to be had"),
        }
    }

    /// A place for an instance of a service of the namespace `test`, in the directory of every sidecar that is started
    /// later.
    pub fn place(&mut self, name: &str) -> Place {
        let place = self.unlisted(name);
        self.list(&place, place.inbound());
        place
    }

    /// A place that nobody is told of.
    pub fn unlisted(&mut self, name: &str) -> Place {
        self.sidecars += 1;
        let service = ServiceId::new(crate::policy::NAMESPACE, name).expect("the case writes a DNS label");
        Place { service, sidecar: authority::sidecar_id(self.sidecars), ip: self.block.address() }
    }

    /// Lists a place under any address.
    pub fn list(&mut self, place: &Place, address: SocketAddr) {
        let endpoint = Endpoint { sidecar: place.sidecar.clone(), address };
        self.endpoints.push((place.service.clone(), vec![endpoint]));
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn address(&self) -> IpAddr {
        self.block.address()
    }

    /// The identity that the policy gives a place's service.
    pub fn wanted(&self, place: &Place) -> Wanted {
        let service = self.policy.service(&place.service).expect("the case's policy declares it");
        Wanted::new(service.identity().as_str())
    }

    pub fn snapshot(&self, place: &Place) -> Snapshot {
        let version = Version { epoch: 1, sequence: 1 };
        planner::plan(&self.policy, 1, &self.endpoints, &place.sidecar, &place.service, version)
            .expect("the case's policy declares the service")
    }

    /// What a sidecar there is started with, its identity and snapshot on disk.
    pub fn prepare(&self, place: &Place, credentials: &Credentials) -> Start {
        let data_dir = self.folder().join(format!("data-{}", place.ip));
        self.authority.keep(&data_dir, &place.service, &self.snapshot(place), credentials);
        Start {
            service: place.service.clone(),
            ip: place.ip,
            // Nothing listens there.
            control_plane: SocketAddr::new(place.ip, port::CONTROL).to_string(),
            join: None,
            data_dir,
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

    /// A sidecar with the identity that belongs there, ready.
    pub async fn start(&self, place: &Place) -> Sidecar {
        let credentials = self.authority.issue(&self.wanted(place));
        let sidecar = Sidecar::in_thread(self.prepare(place, &credentials));
        sidecar.ready().await;
        sidecar
    }
}
