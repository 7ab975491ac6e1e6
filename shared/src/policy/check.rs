//! Documents become a policy: kinds are told apart, names and references resolved, relations between fields checked.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Policy;
use super::problem::Problem;
use super::raw::metadata::Metadata;
use super::raw::{Place, Raw, Reader, clip, did_you_mean, join};
use super::yaml::{Mark, Node, Value};
use crate::ids::{RESERVED_NAMESPACE, RuleId, ServiceId};

mod authorization;
pub(super) mod kind;
mod mesh;
mod route;
mod service;
mod targets;
mod telemetry;
mod traffic;
mod warnings;

use kind::{Kind, Specs};

/// One document of a file.
pub(super) struct Document<'a> {
    pub file: &'a str,
    pub root: Node,
}

/// A document whose envelope and spec could be read.
pub(super) struct Entry<'a, S> {
    pub file: &'a str,
    pub place: Place,
    pub metadata: Metadata,
    pub spec: S,
}

impl<S> Entry<'_, S> {
    fn namespace(&self) -> &str {
        self.metadata.namespace.as_ref().map_or(DEFAULT_NAMESPACE, |namespace| namespace.value.0.as_str())
    }
    fn name(&self) -> &str {
        &self.metadata.name.value.0
    }
}

/// Kubernetes' own default.
const DEFAULT_NAMESPACE: &str = "default";

/// What every check needs: where problems go, and which services there are.
pub(super) struct Checker<'a> {
    problems: &'a mut Vec<Problem>,
    /// Every service that a document declares, with its ports where the document could be read.
    declared: BTreeMap<ServiceId, Option<service::Ports>>,
    /// Services whose documents have problems of their own: their ports and identities are not known.
    unsound: BTreeSet<ServiceId>,
    /// So is the mesh's trust domain.
    mesh_unsound: bool,
    /// Some document could not be read, so a reference to nothing may be a reference into it: not reported.
    incomplete: bool,
}

impl Checker<'_> {
    fn report(
        &mut self,
        file: &str,
        place: &Place,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        Reader { file, problems: self.problems }.report(place.mark, &place.path, message, help);
    }

    /// Whether `service` is declared; reported where it is not.
    fn is_declared(&mut self, service: &ServiceId, file: &str, place: &Place) -> bool {
        if self.declared.contains_key(service) {
            return true;
        }
        if !self.incomplete {
            let all: Vec<String> = self.declared.keys().map(ServiceId::to_string).collect();
            let help = did_you_mean(&service.to_string(), &all);
            self.report(file, place, format!("no document declares the service {service}"), help);
        }
        false
    }

    /// `Kind/name#rule`; reported where the names are too long for one.
    fn rule_id(&mut self, text: &str, file: &str, place: &Place) -> Option<RuleId> {
        match text.parse() {
            Ok(id) => Some(id),
            Err(bad) => {
                let bad: crate::BadId = bad;
                self.report(file, place, bad.to_string(), "shorten the names".to_owned());
                None
            }
        }
    }
}

/// Checks everything, and adds what is wrong to `problems`; the policy is to be used only where nothing is. `readable`: no
/// file was cut short.
pub(super) fn check(documents: &[Document<'_>], readable: bool, problems: &mut Vec<Problem>) -> Policy {
    let mut specs = Specs::default();
    let mut seen = BTreeMap::new();
    let mut services = BTreeSet::new();
    let mut counts = BTreeMap::new();
    let (mut unsound, mut mesh_unsound) = (BTreeSet::new(), false);
    let mut incomplete = !readable;
    for document in documents {
        let mut reader = Reader { file: document.file, problems };
        let Some(kind) = identify(&document.root, &mut reader) else {
            // Of what is not built, nothing is referred to.
            incomplete |= !kind::is_not_built(&document.root);
            continue;
        };
        *counts.entry(kind.name()).or_default() += 1;
        let Some(metadata) = envelope(&document.root, kind, &mut reader) else {
            kind.judge_spec(document, &mut reader);
            incomplete = true;
            continue;
        };
        let namespace = metadata.namespace.as_ref().map_or(DEFAULT_NAMESPACE, |given| given.value.0.as_str());
        let name = metadata.name.value.0.clone();
        let service = ServiceId::new(namespace, &name).ok().filter(|_| kind == Kind::Service);
        services.extend(service.clone());
        let this = format!("{}:{}", document.file, document.root.mark.line);
        if let Some(first) = seen.insert((kind.name(), namespace.to_owned(), name.clone()), this) {
            let message = format!("{} {namespace}/{name} is declared twice", kind.name());
            reader.report(
                metadata.name.place.mark,
                "metadata.name",
                message,
                format!("the other one is at {first}"),
            );
        }
        let before = reader.problems.len();
        specs.read(kind, metadata, document, &mut reader);
        if reader.problems.len() > before {
            unsound.extend(service);
            mesh_unsound |= kind == Kind::MeshConfig;
        }
    }
    let declared = services.into_iter().map(|id| (id, None)).collect();
    let mut checker = Checker { problems, declared, unsound, mesh_unsound, incomplete };
    assemble(&specs, counts, &mut checker)
}

fn assemble(
    specs: &Specs<'_>,
    documents: BTreeMap<&'static str, usize>,
    checker: &mut Checker<'_>,
) -> Policy {
    let mesh = mesh::check(&specs.mesh_configs, checker);
    let services = service::check(&specs.services, &mesh, checker);
    let routes = route::check(&specs.http_routes, &specs.grpc_routes, checker);
    let traffic = traffic::check(&specs.traffic, &specs.x_traffic, &mesh, services.keys().cloned(), checker);
    let authorization = authorization::check(&specs.authorization, &mesh, &services, checker);
    let tracing = telemetry::check(&specs.telemetry, &mesh, services.keys(), checker);
    let warnings = warnings::of(&mesh, &services, &authorization);
    Policy { mesh, services, routes, traffic, authorization, tracing, documents, warnings }
}

/// Which kind a document is of, by `apiVersion` and `kind`; refused by name where it is not built.
fn identify(root: &Node, reader: &mut Reader<'_>) -> Option<Kind> {
    if !matches!(root.value, Value::Map(_)) {
        let help = "a document has apiVersion, kind, metadata and spec".to_owned();
        reader.report(root.mark, "", format!("expected a mapping, found {}", root.kind()), help);
        return None;
    }
    let mut field = |key: &str| {
        let Some(node) = root.get(key) else {
            reader.report(root.mark, key, format!("`{key}` is missing"), "every document has it".to_owned());
            return None;
        };
        if node.text().is_none() {
            reader.report(node.mark, key, format!("expected a string, found {}", node.kind()), None);
        }
        node.text().map(|text| (text, node.mark))
    };
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    let ((api_version, at_version), (name, at_kind)) = (api_version?, kind?);
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
        if kind.api_version() == api_version {
            return Some(kind);
        }
        let message = format!("{name} of `{}` is not known", clip(api_version));
        reader.report(at_version, "apiVersion", message, format!("write {}", kind.api_version()));
        return None;
    }
    if kind::is_not_built(root) {
        reader.report(
            at_kind,
            "kind",
            format!("{name} is not built yet"),
            "leave the document out".to_owned(),
        );
        return None;
    }
    let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    reader.report(at_kind, "kind", format!("unknown kind `{}`", clip(name)), did_you_mean(name, &known));
    None
}

/// Keys of a document, and its metadata.
fn envelope(root: &Node, kind: Kind, reader: &mut Reader<'_>) -> Option<Metadata> {
    const KEYS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    let Value::Map(entries) = &root.value else { return None };
    let mut seen = BTreeSet::new();
    for (key, _) in entries {
        match key.text() {
            Some(name) if KEYS.contains(&name) => {
                if !seen.insert(name) {
                    let message = format!("`{name}` is given twice");
                    reader.report(key.mark, name, message, "keep one of them".to_owned());
                }
            }
            name => {
                let name = name.unwrap_or_default();
                let message = format!("unknown field `{}`", clip(name));
                reader.report(key.mark, &join("", name), message, did_you_mean(name, &KEYS));
            }
        }
    }
    let Some(node) = root.get("metadata") else {
        reader.report(
            root.mark,
            "metadata",
            "`metadata` is missing",
            "it holds the document's name".to_owned(),
        );
        return None;
    };
    let metadata = Metadata::read(node, "metadata", reader)?;
    if let Some(namespace) = &metadata.namespace {
        let (mark, path) = (namespace.place.mark, namespace.place.path.as_str());
        if namespace.value.0 == RESERVED_NAMESPACE {
            let message = format!("the namespace {RESERVED_NAMESPACE} belongs to the mesh itself");
            reader.report(mark, path, message, "choose another one".to_owned());
        } else if kind == Kind::MeshConfig {
            let help = "leave it out".to_owned();
            reader.report(mark, path, "MeshConfig holds for the whole mesh and lies in no namespace", help);
        }
    }
    Some(metadata)
}

/// The place of a document as a whole.
fn whole(mark: Mark) -> Place {
    Place { mark, path: String::new() }
}
