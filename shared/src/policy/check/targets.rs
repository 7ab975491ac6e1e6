//! What a policy's `targetRefs` name.

use std::collections::BTreeSet;

use super::{Checker, Entry};
use crate::ids::ServiceId;
use crate::policy::raw::Located;
use crate::policy::raw::did_you_mean;
use crate::policy::raw::targets::TargetRef;

/// What one reference names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Mesh,
    Namespace(String),
    Service(ServiceId),
}

/// Kinds that a policy may name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach {
    Services,
    /// The mesh by the name of its `MeshConfig`.
    ServicesNamespacesMesh,
}

/// Resolves references of a policy, each of which lies in its own namespace, and names something once.
pub(super) fn resolve<S>(
    entry: &Entry<'_, S>,
    refs: &[Located<TargetRef>],
    reach: Reach,
    mesh_id: &str,
    checker: &mut Checker<'_>,
) -> BTreeSet<Target> {
    let mut targets = BTreeSet::new();
    for given in refs {
        let Some(target) = one(entry, &given.value, reach, mesh_id, checker) else { continue };
        if !targets.insert(target) {
            let message = "this target is named twice";
            checker.report(entry.file, &given.place, message, "keep one of them".to_owned());
        }
    }
    targets
}

fn one<S>(
    entry: &Entry<'_, S>,
    given: &TargetRef,
    reach: Reach,
    mesh_id: &str,
    checker: &mut Checker<'_>,
) -> Option<Target> {
    let name = given.name.value.0.as_str();
    let kinds: &[&str] = match reach {
        Reach::Services => &["Service"],
        Reach::ServicesNamespacesMesh => &["Service", "Namespace", "MeshConfig"],
    };
    let kind = given.kind.value.0.as_str();
    if !kinds.contains(&kind) {
        let message = format!("`{kind}` is no target here");
        checker.report(entry.file, &given.kind.place, message, did_you_mean(kind, kinds));
        return None;
    }
    let group = if kind == "MeshConfig" { "outrider.mesh" } else { "" };
    if let Some(written) = given.group.as_ref().filter(|written| written.value.0 != group) {
        let message = format!("{kind} is not of the group {:?}", written.value.0);
        checker.report(entry.file, &written.place, message, format!("write {group:?}, or leave it out"));
        return None;
    }
    let place = &given.name.place;
    match kind {
        "Service" => match ServiceId::new(entry.namespace(), name) {
            Ok(service) => {
                checker.is_declared(&service, entry.file, place).then_some(Target::Service(service))
            }
            Err(bad) => {
                checker.report(entry.file, place, bad.to_string(), None);
                None
            }
        },
        "Namespace" if name == entry.namespace() => Some(Target::Namespace(name.to_owned())),
        "Namespace" => {
            let message =
                format!("a policy in the namespace {} cannot apply to another one", entry.namespace());
            checker.report(entry.file, place, message, format!("write {}", entry.namespace()));
            None
        }
        _ if mesh_id == format!("MeshConfig/{name}") => Some(Target::Mesh),
        _ if checker.incomplete || checker.mesh_unsound => None,
        _ => {
            let message = format!("no document declares the MeshConfig {name}");
            checker.report(entry.file, place, message, format!("the mesh is {mesh_id}"));
            None
        }
    }
}
