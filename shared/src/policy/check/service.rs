//! Services: their ports, identities, and whom they call.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checker, Entry, mesh};
use crate::ids::{ServiceId, SpiffeId};
use crate::policy::model::{MeshSettings, Service};
use crate::policy::raw::mesh::Mtls;
use crate::policy::raw::service::{AppProtocolWord, EdgeTls, ServiceName, ServiceSpec};
use crate::policy::raw::{Located, did_you_mean};
use crate::snapshot::{self, AppProtocol, Edge, LocalPort};

/// A service's ports, for references to them.
pub(super) type Ports = BTreeMap<u16, AppProtocol>;

pub(super) fn check(
    entries: &[Entry<'_, ServiceSpec>],
    mesh: &MeshSettings,
    checker: &mut Checker<'_>,
) -> BTreeMap<ServiceId, Service> {
    let mut services = BTreeMap::new();
    for entry in entries {
        let id = match ServiceId::new(entry.namespace(), entry.name()) {
            Ok(id) => id,
            Err(bad) => {
                checker.report(entry.file, &entry.metadata.name.place, bad.to_string(), None);
                continue;
            }
        };
        let account = entry.spec.service_account.as_ref().map_or(entry.name(), |account| account.0.as_str());
        let identity = match SpiffeId::of_service_account(mesh.trust_domain(), entry.namespace(), account) {
            Ok(identity) => identity,
            Err(bad) => {
                checker.report(entry.file, &entry.place, bad.to_string(), None);
                continue;
            }
        };
        let ports = ports(entry, mesh, checker);
        let edges = edges(entry, &id, &ports, mesh, checker);
        let upstreams = upstreams(entry, checker);
        if !checker.unsound.contains(&id) {
            let known = ports.iter().map(|port| (port.port, port.app_protocol)).collect();
            checker.declared.insert(id.clone(), Some(known));
        }
        services.insert(id.clone(), Service { id, identity, ports, edges, upstreams });
    }
    services
}

fn ports(entry: &Entry<'_, ServiceSpec>, mesh: &MeshSettings, checker: &mut Checker<'_>) -> Vec<LocalPort> {
    let of_service = mesh::mtls(entry.spec.mtls).unwrap_or(mesh.mtls);
    let mut ports: BTreeMap<u16, LocalPort> = BTreeMap::new();
    for raw in &entry.spec.ports.0 {
        let raw = &raw.value;
        let port = port_number(raw.port.value.0);
        let target_port = raw.target_port.map_or(port, |target| port_number(target.0));
        let app_protocol = app_protocol(raw.app_protocol);
        let mtls = match (app_protocol, raw.mtls) {
            (AppProtocol::Tcp, Some(Mtls::Permissive)) => {
                let message = format!("port {port} carries TCP, and plaintext is taken as HTTP alone");
                let help = "write Strict, or leave mtls out".to_owned();
                checker.report(entry.file, &raw.port.place, message, help);
                snapshot::Mtls::Strict
            }
            (AppProtocol::Tcp, _) => snapshot::Mtls::Strict,
            (_, said) => mesh::mtls(said).unwrap_or(of_service),
        };
        let local = LocalPort { port, target_port, app_protocol, mtls };
        if ports.insert(port, local).is_some() {
            let help = "each port of a service is declared once".to_owned();
            checker.report(entry.file, &raw.port.place, format!("port {port} is declared twice"), help);
        }
    }
    ports.into_values().collect()
}

fn edges(
    entry: &Entry<'_, ServiceSpec>,
    id: &ServiceId,
    ports: &[LocalPort],
    mesh: &MeshSettings,
    checker: &mut Checker<'_>,
) -> Vec<Edge> {
    let mut edges: BTreeMap<u16, Edge> = BTreeMap::new();
    for raw in &entry.spec.edge.0 {
        let raw = &raw.value;
        let (port, target_port) = (port_number(raw.port.value.0), port_number(raw.target_port.value.0));
        let Some(target) = ports.iter().find(|port| port.target_port == target_port) else {
            if checker.unsound.contains(id) {
                continue;
            }
            let known: BTreeSet<String> = ports.iter().map(|port| port.target_port.to_string()).collect();
            let known: Vec<String> = known.into_iter().collect();
            let message = format!("no port of the service has the targetPort {target_port}");
            checker.report(
                entry.file,
                &raw.target_port.place,
                message,
                did_you_mean(&target_port.to_string(), &known),
            );
            continue;
        };
        if target.app_protocol == AppProtocol::Tcp {
            let message = format!("targetPort {target_port} carries TCP, and an edge speaks HTTP");
            let help = "give the port another appProtocol, or take the edge away".to_owned();
            checker.report(entry.file, &raw.target_port.place, message, help);
        }
        if target.app_protocol == AppProtocol::Detect {
            // Callers from outside choose the version of HTTP by themselves, over TLS by ALPN, whatever the app understands.
            let message = format!(
                "targetPort {target_port} has no appProtocol, and an edge must know what the app speaks"
            );
            let help = "give the port an appProtocol: http, http2 or grpc".to_owned();
            checker.report(entry.file, &raw.target_port.place, message, help);
        }
        let forwarded = match &raw.forwarded {
            Some(given) => mesh::forwarded(given, entry.file, checker),
            None => mesh.forwarded.clone(),
        };
        let certificates = raw.tls.as_ref().map(|tls| certificates(tls, entry, checker)).unwrap_or_default();
        let app_protocol = target.app_protocol;
        let edge = Edge { port, target_port, app_protocol, certificates, forwarded };
        if edges.insert(port, edge).is_some() {
            let help = "each edge port of a service is declared once".to_owned();
            checker.report(entry.file, &raw.port.place, format!("edge port {port} is declared twice"), help);
        }
    }
    edges.into_values().collect()
}

fn certificates(tls: &EdgeTls, entry: &Entry<'_, ServiceSpec>, checker: &mut Checker<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for given in &tls.certificate_refs.0 {
        let name = &given.value.name.0;
        if names.contains(name) {
            let message = format!("the certificate {name} is named twice");
            checker.report(entry.file, &given.place, message, "keep one of them".to_owned());
            continue;
        }
        names.push(name.clone());
    }
    names
}

fn upstreams(entry: &Entry<'_, ServiceSpec>, checker: &mut Checker<'_>) -> Vec<ServiceId> {
    let mut upstreams: Vec<ServiceId> = Vec::new();
    for given in &entry.spec.upstreams.0 {
        let id = match upstream_id(given, entry.namespace()) {
            Ok(id) => id,
            Err(bad) => {
                checker.report(entry.file, &given.place, bad.to_string(), None);
                continue;
            }
        };
        if !checker.is_declared(&id, entry.file, &given.place) {
            continue;
        }
        if upstreams.contains(&id) {
            let message = format!("the upstream {id} is named twice");
            checker.report(entry.file, &given.place, message, "keep one of them".to_owned());
            continue;
        }
        upstreams.push(id);
    }
    upstreams
}

fn upstream_id(given: &Located<ServiceName>, namespace: &str) -> Result<ServiceId, crate::BadId> {
    let name = given.value.0.as_str();
    if name.contains('/') { name.parse() } else { ServiceId::new(namespace, name) }
}

/// The reader has bounded it to 1 to 65,535.
pub(super) fn port_number(read: u32) -> u16 {
    u16::try_from(read).expect("a port was read within its bounds")
}

fn app_protocol(word: Option<AppProtocolWord>) -> AppProtocol {
    match word {
        Some(AppProtocolWord::Http) => AppProtocol::Http1,
        Some(AppProtocolWord::Http2 | AppProtocolWord::H2c) => AppProtocol::Http2,
        Some(AppProtocolWord::Grpc) => AppProtocol::Grpc,
        Some(AppProtocolWord::Tcp) => AppProtocol::Tcp,
        None => AppProtocol::Detect,
    }
}
