//! Turns a policy revision and the registry into the snapshot of one sidecar.
//!
//! A pure function: equal inputs give equal bytes, in whatever order the registry lists its endpoints, so an unchanged
//! snapshot is known by its hash and need not be pushed again.

use std::collections::BTreeMap;

use outrider_shared::names::feature;
use outrider_shared::policy::{Policy, Service};
use outrider_shared::snapshot::{
    AppProtocol, DirectoryPort, DirectoryService, Endpoint, LocalService, Mesh, Snapshot, Tracing, Version,
};
use outrider_shared::{ServiceId, SidecarId};

/// Why there is no snapshot for a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("service {service} is declared by no document of revision {revision}")]
    UndeclaredService { service: ServiceId, revision: u64 },
}

/// Why no sidecar of a service could take its snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the snapshot of a sidecar of {service} would have {got} bytes before any endpoint is in it, and at most {limit} are read: have fewer routes, rules, or services"
)]
pub struct TooLarge {
    pub service: ServiceId,
    pub got: usize,
    pub limit: usize,
}

/// Plans the snapshot of `sidecar`, which stands beside `service`. Of `registry`, endpoints of services that the policy
/// does not declare are left out; several entries of one service count together.
pub fn plan(
    policy: &Policy,
    revision: u64,
    registry: &[(ServiceId, Vec<Endpoint>)],
    sidecar: &SidecarId,
    service: &ServiceId,
    version: Version,
) -> Result<Snapshot, PlanError> {
    let local = policy
        .service(service)
        .ok_or_else(|| PlanError::UndeclaredService { service: service.clone(), revision })?;
    Ok(Snapshot {
        version,
        revision,
        sidecar: sidecar.clone(),
        mesh: Mesh {
            id: policy.mesh().id().clone(),
            trust_domain: policy.mesh().trust_domain().clone(),
            default_authorization: policy.mesh().default_authorization(),
            egress: policy.mesh().egress(),
            path_normalization: policy.mesh().path_normalization(),
            forwarded: policy.mesh().forwarded().clone(),
        },
        local: local_part(policy, local),
        directory: directory(policy, registry),
        routes: policy.routes().to_vec(),
        tracing: policy.tracing(service),
    })
}

fn local_part(policy: &Policy, service: &Service) -> LocalService {
    LocalService {
        service: service.id().clone(),
        identity: service.identity().clone(),
        ports: service.ports().to_vec(),
        edges: service.edges().to_vec(),
        authorization: policy.authorization(service.id()).cloned().collect(),
        upstreams: service.upstreams().to_vec(),
        traffic: policy.traffic(service.id()).map(|traffic| traffic.server.clone()),
    }
}

/// Whether every service's snapshot has at most `limit` bytes. What snapshots share is measured once.
pub fn check_size(policy: &Policy, limit: usize) -> Result<(), TooLarge> {
    let Some(first) = policy.services().next() else { return Ok(()) };
    let nobody: SidecarId = "0".repeat(32).parse().expect("hex digits");
    let whole =
        plan(policy, u64::MAX, &[], &nobody, first.id(), Version { epoch: u64::MAX, sequence: u64::MAX });
    let whole = whole.expect("a declared service has a plan");
    let shared = json_bytes(&whole) - json_bytes(&whole.local);
    let largest =
        policy.services().map(|service| (json_bytes(&local_part(policy, service)), service.id())).max();
    match largest {
        Some((local, service)) if shared + local > limit => {
            Err(TooLarge { service: service.clone(), got: shared + local, limit })
        }
        _ => Ok(()),
    }
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).expect("a snapshot is plain data").len()
}

/// The features without which a sidecar would not enforce what the snapshot says.
pub fn needs(snapshot: &Snapshot) -> Vec<&'static str> {
    // Something is always decided by it, if only by the mesh's default.
    let mut needs = vec![feature::AUTHORIZATION];
    needs.extend((!snapshot.routes.is_empty()).then_some(feature::ROUTE));
    needs.extend((!snapshot.local.edges.is_empty()).then_some(feature::EDGE));
    let traffic = snapshot.local.traffic.is_some()
        || snapshot.directory.iter().any(|service| service.traffic.is_some())
        || snapshot.routes.iter().flat_map(|route| &route.rules).any(|rule| rule.retry.is_some());
    needs.extend(traffic.then_some(feature::TRAFFIC));
    needs.extend((snapshot.tracing != Tracing::default()).then_some(feature::TRACING));
    let mut ports = snapshot.directory.iter().flat_map(|service| &service.ports);
    needs.extend(ports.any(|port| port.app_protocol == AppProtocol::Detect).then_some(feature::DETECTION));
    needs
}

/// Every declared service, those without endpoints too: a caller must tell "nobody serves it" from "no such service".
fn directory(policy: &Policy, registry: &[(ServiceId, Vec<Endpoint>)]) -> Vec<DirectoryService> {
    let mut endpoints: BTreeMap<&ServiceId, Vec<Endpoint>> = BTreeMap::new();
    for (service, some) in registry {
        endpoints.entry(service).or_default().extend(some.iter().cloned());
    }
    let entry = |service: &Service| {
        let mut endpoints = endpoints.remove(service.id()).unwrap_or_default();
        endpoints.sort_by(|a, b| (&a.sidecar, a.address).cmp(&(&b.sidecar, b.address)));
        endpoints.dedup();
        DirectoryService {
            service: service.id().clone(),
            identity: service.identity().clone(),
            ports: service
                .ports()
                .iter()
                .map(|port| DirectoryPort { port: port.port, app_protocol: port.app_protocol })
                .collect(),
            endpoints,
            traffic: policy.traffic(service.id()).map(|traffic| traffic.client.clone()),
        }
    };
    policy.services().map(entry).collect()
}

#[cfg(test)]
mod tests;
