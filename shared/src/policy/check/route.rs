//! Routes: attached to their services, with every backend resolved.

use std::collections::{BTreeMap, BTreeSet};

use super::service::{Ports, port_number};
use super::{Checker, Entry};
use crate::ids::ServiceId;
use crate::policy::raw::metadata::{DnsName, SectionName, Timestamp};
use crate::policy::raw::route::{GrpcRouteSpec, HttpRouteSpec, PathText};
use crate::policy::raw::targets::ParentRef;
use crate::policy::raw::{Int, List, Located, Place, Text, did_you_mean};
use crate::route::Route;
use crate::snapshot::AppProtocol;

mod annotations;
mod headers;
mod rules;

/// Matches of all rules of one route, as Gateway API bounds them.
const MATCHES_MAX: usize = 128;

/// One service and port that a route is attached to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Parent {
    service: ServiceId,
    port: Option<u16>,
}

/// Ports to which routes are attached, by service and kind; `None`: all.
type Attached = BTreeMap<ServiceId, BTreeMap<&'static str, BTreeSet<Option<u16>>>>;

/// What `HTTPRoute` and `GRPCRoute` have in common.
struct Attachment<'e> {
    kind: &'static str,
    file: &'e str,
    namespace: &'e str,
    name: &'e Located<DnsName>,
    created_unix_s: Option<i64>,
    parent_refs: &'e [Located<ParentRef>],
}

/// Checks both kinds. Returns the routes in the order in which ties are broken.
pub(super) fn check(
    http: &[Entry<'_, HttpRouteSpec>],
    grpc: &[Entry<'_, GrpcRouteSpec>],
    checker: &mut Checker<'_>,
) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut attached = Attached::new();
    for entry in http {
        let attachment = Attachment::of("HTTPRoute", entry, &entry.spec.parent_refs);
        hostnames(entry.file, entry.spec.hostnames.as_ref(), checker);
        annotations::of_http(entry, checker);
        let built = rules::of_http(entry, checker);
        attach(&attachment, &built, &mut attached, &mut routes, checker);
    }
    for entry in grpc {
        let attachment = Attachment::of("GRPCRoute", entry, &entry.spec.parent_refs);
        hostnames(entry.file, entry.spec.hostnames.as_ref(), checker);
        let retry = annotations::of_grpc(entry, checker);
        let built = rules::of_grpc(entry, retry.as_ref(), checker);
        attach(&attachment, &built, &mut attached, &mut routes, checker);
    }
    // An absent timestamp is younger than any: the document was never in a cluster.
    routes.sort_by_key(|(route, name): &(Route, String)| {
        let age = (route.created_unix_s.is_none(), route.created_unix_s);
        (route.service.clone(), age, name.clone(), route.port)
    });
    routes.into_iter().map(|(route, _)| route).collect()
}

impl<'e> Attachment<'e> {
    fn of<S>(
        kind: &'static str,
        entry: &'e Entry<'_, S>,
        parent_refs: &'e List<Located<ParentRef>, 1, 32>,
    ) -> Self {
        Self {
            kind,
            file: entry.file,
            namespace: entry.namespace(),
            name: &entry.metadata.name,
            created_unix_s: entry.metadata.creation_timestamp.as_ref().and_then(Timestamp::unix_s),
            parent_refs: &parent_refs.0,
        }
    }
}

fn hostnames(file: &str, given: Option<&Located<List<Text<1, 253>, 0, 16>>>, checker: &mut Checker<'_>) {
    if let Some(given) = given.filter(|given| !given.value.0.is_empty()) {
        let message =
            "a route that belongs to a Service matches by the Service, and its hostnames have no effect";
        checker.report(file, &given.place, message, "leave `hostnames` out".to_owned());
    }
}

fn attach(
    attachment: &Attachment<'_>,
    rules: &[crate::route::RouteRule],
    attached: &mut Attached,
    routes: &mut Vec<(Route, String)>,
    checker: &mut Checker<'_>,
) {
    let Attachment { kind, file, name, .. } = *attachment;
    let Some(id) = checker.rule_id(&format!("{kind}/{}", name.value.0), file, &name.place) else { return };
    let mut parents = BTreeSet::new();
    for given in attachment.parent_refs {
        let Some(parent) = parent(attachment, &given.value, checker) else { continue };
        if !parents.insert(parent.clone()) {
            checker.report(file, &given.place, "this parent is named twice", "keep one of them".to_owned());
            continue;
        }
        one_kind(&parent, kind, file, &given.place, attached, checker);
        let route = Route {
            id: id.clone(),
            service: parent.service,
            port: parent.port,
            created_unix_s: attachment.created_unix_s,
            rules: rules.to_vec(),
        };
        routes.push((route, format!("{}/{}", attachment.namespace, name.value.0)));
    }
}

/// The two kinds of routes match the same requests in different words, so one port has routes of one kind.
fn one_kind(
    parent: &Parent,
    kind: &'static str,
    file: &str,
    place: &Place,
    attached: &mut Attached,
    checker: &mut Checker<'_>,
) {
    let of_service = attached.entry(parent.service.clone()).or_default();
    for other in ["HTTPRoute", "GRPCRoute"].into_iter().filter(|other| *other != kind) {
        let Some(ports) = of_service.get(other) else { continue };
        if parent.port.is_none() || ports.contains(&None) || ports.contains(&parent.port) {
            let message =
                format!("routes of the kind {other} are attached to the same port of {}", parent.service);
            checker.report(file, place, message, "attach one kind of route to a port".to_owned());
        }
    }
    of_service.entry(kind).or_default().insert(parent.port);
}

fn parent(attachment: &Attachment<'_>, given: &ParentRef, checker: &mut Checker<'_>) -> Option<Parent> {
    let Attachment { file, namespace, .. } = *attachment;
    let kind = given.kind.as_ref().map_or("Gateway", |kind| kind.value.0.as_str());
    let group = given.group.as_ref().map_or("gateway.networking.k8s.io", |group| group.value.0.as_str());
    if (group, kind) != ("", "Service") {
        let place = given.kind.as_ref().map_or(&given.name.place, |kind| &kind.place);
        let message = match kind {
            "Gateway" => "a Gateway as parent is not built yet".to_owned(),
            "Service" => format!("Service is not of the group {group:?}"),
            other => format!("`{other}` is no parent of a route"),
        };
        let help = "write group: \"\" and kind: Service with the name of a declared service".to_owned();
        checker.report(file, place, message, help);
        return None;
    }
    if let Some(section) = &given.section_name {
        let message = "a port by its name is not built yet";
        checker.report(file, &section.place, message, "write `port` with its number".to_owned());
    }
    if let Some(other) = given.namespace.as_ref().filter(|other| other.value.0 != namespace) {
        let message =
            format!("a route in the namespace {namespace} for a service of another one is not built yet");
        checker.report(file, &other.place, message, "move the route to its service's namespace".to_owned());
        return None;
    }
    let service = declared(&given.name, namespace, file, checker)?;
    let port = port_of(&service, given.port.as_ref(), file, checker);
    if attachment.kind == "GRPCRoute" {
        speaks_http2(&service, port, file, &given.name.place, checker);
    }
    Some(Parent { service, port })
}

/// gRPC needs HTTP/2 on every port that the route covers.
fn speaks_http2(
    service: &ServiceId,
    port: Option<u16>,
    file: &str,
    place: &Place,
    checker: &mut Checker<'_>,
) {
    let Some(Some(ports)) = checker.declared.get(service) else { return };
    let old = |(number, protocol): &(&u16, &AppProtocol)| {
        **protocol == AppProtocol::Http1 && port.is_none_or(|port| port == **number)
    };
    if let Some(number) = ports.iter().find(old).map(|(number, _)| *number) {
        let message = format!("port {number} of {service} speaks HTTP/1.1, and gRPC needs HTTP/2");
        let help = "give the port the appProtocol grpc, or name another `port`".to_owned();
        checker.report(file, place, message, help);
    }
}

/// A declared service in `namespace`.
fn declared(
    name: &Located<DnsName>,
    namespace: &str,
    file: &str,
    checker: &mut Checker<'_>,
) -> Option<ServiceId> {
    match ServiceId::new(namespace, &name.value.0) {
        Ok(service) => checker.is_declared(&service, file, &name.place).then_some(service),
        Err(bad) => {
            checker.report(file, &name.place, bad.to_string(), None);
            None
        }
    }
}

/// The port that was asked for, reported where the service has no such.
fn port_of(
    service: &ServiceId,
    given: Option<&Located<Int<1, 65535>>>,
    file: &str,
    checker: &mut Checker<'_>,
) -> Option<u16> {
    let given = given?;
    let port = port_number(given.value.0);
    let known = checker.declared.get(service).and_then(Option::as_ref).map(|ports: &Ports| {
        (ports.contains_key(&port), ports.keys().map(u16::to_string).collect::<Vec<_>>())
    });
    if let Some((false, ports)) = known {
        let help = did_you_mean(&port.to_string(), &ports);
        checker.report(file, &given.place, format!("{service} declares no port {port}"), help);
    }
    Some(port)
}

/// What tells a route's rules apart in their ids: the name, or the index.
fn rule_names<'n>(
    rules: impl Iterator<Item = (Option<&'n Located<SectionName>>, &'n Place)>,
    file: &str,
    checker: &mut Checker<'_>,
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (i, (name, place)) in rules.enumerate() {
        let text = name.map_or_else(|| i.to_string(), |name| name.value.0.clone());
        if !seen.insert(text.clone()) {
            let message = format!("another rule of the route has the id `{text}`");
            let help = "each name is used once, and a number may be another rule's index".to_owned();
            checker.report(file, name.map_or(place, |name| &name.place), message, help);
        }
        all.push(text);
    }
    all
}

/// A prefix without the slash at its end, which matches nothing more; `/` becomes empty.
pub(super) fn prefix_of(path: &PathText) -> String {
    path.0.trim_end_matches('/').to_owned()
}
