//! The checked policy: what all documents together say, with every reference resolved.
//!
//! Only `check` makes one, and nothing changes it afterwards, so whoever holds a [`Policy`] need not check again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::authorization::{AuthorizationPolicy, DefaultAuthorization};
use crate::route::Route;
use crate::snapshot::{Edge, Egress, Forwarded, LocalPort, Mtls, PathNormalization, Tracing};
use crate::traffic::Traffic;
use crate::{RuleId, ServiceId, SpiffeId, TrustDomain};

/// All documents of one revision. Equal documents give equal policies, in whatever files they lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(super) mesh: MeshSettings,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) routes: Vec<Route>,
    pub(super) traffic: BTreeMap<ServiceId, Traffic>,
    pub(super) authorization: BTreeMap<ServiceId, Vec<Arc<AuthorizationPolicy>>>,
    pub(super) tracing: BTreeMap<ServiceId, Tracing>,
    pub(super) documents: BTreeMap<&'static str, usize>,
    pub(super) warnings: Vec<String>,
}

impl Policy {
    pub fn mesh(&self) -> &MeshSettings {
        &self.mesh
    }

    /// Every declared service, by namespace and name.
    pub fn services(&self) -> impl ExactSizeIterator<Item = &Service> {
        self.services.values()
    }

    pub fn service(&self, id: &ServiceId) -> Option<&Service> {
        self.services.get(id)
    }

    /// One for each route and parent; by the service asked for, then by age and name, as Gateway API breaks ties.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The policies that name `service`, its namespace or the mesh; by name. Empty: the mesh's default decides.
    pub fn authorization(&self, service: &ServiceId) -> impl ExactSizeIterator<Item = &AuthorizationPolicy> {
        self.authorization.get(service).map_or(&[][..], Vec::as_slice).iter().map(Arc::as_ref)
    }

    /// How `service` is called and protected; `None`: no policy names it, and it has the defaults.
    pub fn traffic(&self, service: &ServiceId) -> Option<&Traffic> {
        self.traffic.get(service)
    }

    /// How `service` traces: field by field, what its own policy says, else its namespace's, else the mesh's.
    pub fn tracing(&self, service: &ServiceId) -> Tracing {
        self.tracing.get(service).cloned().unwrap_or_default()
    }

    /// How many documents there are of each kind.
    pub fn documents(&self) -> &BTreeMap<&'static str, usize> {
        &self.documents
    }

    /// What is in force as it was asked for, and is less safe than the default: one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// What `MeshConfig` says, or its defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct MeshSettings {
    pub(super) id: RuleId,
    pub(super) trust_domain: TrustDomain,
    pub(super) default_authorization: DefaultAuthorization,
    pub(super) certificate_lifetime: Duration,
    pub(super) mtls: Mtls,
    pub(super) egress: Egress,
    pub(super) path_normalization: PathNormalization,
    pub(super) forwarded: Forwarded,
}

impl MeshSettings {
    /// `MeshConfig/name`; `MeshConfig/default` where no document declares one.
    pub fn id(&self) -> &RuleId {
        &self.id
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn default_authorization(&self) -> DefaultAuthorization {
        self.default_authorization
    }

    /// How long a leaf is valid; it is renewed at half of it.
    pub fn certificate_lifetime(&self) -> Duration {
        self.certificate_lifetime
    }

    /// What apps may reach outside of the mesh.
    pub fn egress(&self) -> Egress {
        self.egress
    }

    pub fn path_normalization(&self) -> PathNormalization {
        self.path_normalization
    }

    /// Who is believed about where a request from outside began, where an edge does not say otherwise.
    pub fn forwarded(&self) -> &Forwarded {
        &self.forwarded
    }
}

/// One declared service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    pub(super) id: ServiceId,
    pub(super) identity: SpiffeId,
    pub(super) ports: Vec<LocalPort>,
    pub(super) edges: Vec<Edge>,
    pub(super) upstreams: Vec<ServiceId>,
}

impl Service {
    pub fn id(&self) -> &ServiceId {
        &self.id
    }

    /// What each of its sidecars proves: its service account in the mesh's trust domain.
    pub fn identity(&self) -> &SpiffeId {
        &self.identity
    }

    /// By port, each once.
    pub fn ports(&self) -> &[LocalPort] {
        &self.ports
    }

    /// By port, each once.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// What it is declared to call; in the order of the document.
    pub fn upstreams(&self) -> &[ServiceId] {
        &self.upstreams
    }
}
