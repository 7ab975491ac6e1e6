//! Traffic policies: what holds for each service, field by field, by the most specific policy that says it.

use std::collections::BTreeMap;

use super::targets::{Reach, Target, resolve};
use super::{Checker, Entry};
use crate::ids::{RuleId, ServiceId};
use crate::policy::model::MeshSettings;
use crate::policy::raw::Located;
use crate::policy::raw::targets::TargetRef;
use crate::policy::raw::traffic::{
    BackendTrafficPolicySpec, ClientTraffic as RawClient, ServerTraffic as RawServer,
    XBackendTrafficPolicySpec,
};
use crate::traffic::{OnBudgetExhausted, Traffic};

mod client;
mod server;

/// What one policy says of its target.
struct Said<'e> {
    id: RuleId,
    client: Option<&'e RawClient>,
    server: Option<&'e RawServer>,
    /// Of an `XBackendTrafficPolicy`, which means 503 where no retry is left.
    budget: Option<&'e XBackendTrafficPolicySpec>,
}

/// By service; one that no policy names is left out, and has the defaults.
pub(super) fn check(
    ours: &[Entry<'_, BackendTrafficPolicySpec>],
    theirs: &[Entry<'_, XBackendTrafficPolicySpec>],
    mesh: &MeshSettings,
    services: impl Iterator<Item = ServiceId>,
    checker: &mut Checker<'_>,
) -> BTreeMap<ServiceId, Traffic> {
    let mut of_ours: BTreeMap<Target, Said<'_>> = BTreeMap::new();
    for entry in ours {
        if let Some(client) = &entry.spec.client {
            client::relations(entry.file, client, checker);
        }
        if let Some(server) = &entry.spec.server {
            server::relations(entry.file, server, checker);
        }
        let said = |id| Said {
            id,
            client: entry.spec.client.as_ref(),
            server: entry.spec.server.as_ref(),
            budget: None,
        };
        let kind = ("BackendTrafficPolicy", Reach::ServicesNamespacesMesh);
        say(entry, kind, &entry.spec.target_refs.0, said, mesh, &mut of_ours, checker);
    }
    let mut of_theirs: BTreeMap<Target, Said<'_>> = BTreeMap::new();
    for entry in theirs {
        let said = |id| Said { id, client: None, server: None, budget: Some(&entry.spec) };
        let kind = ("XBackendTrafficPolicy", Reach::Services);
        say(entry, kind, &entry.spec.target_refs.0, said, mesh, &mut of_theirs, checker);
    }
    services
        .filter_map(|service| {
            let traffic = effective(&of_ours, &of_theirs, &service)?;
            Some((service, traffic))
        })
        .collect()
}

/// A target has one policy of a kind: two could contradict each other.
fn say<'e, S>(
    entry: &'e Entry<'_, S>,
    (kind, reach): (&'static str, Reach),
    refs: &[Located<TargetRef>],
    said: impl Fn(RuleId) -> Said<'e>,
    mesh: &MeshSettings,
    by_target: &mut BTreeMap<Target, Said<'e>>,
    checker: &mut Checker<'_>,
) {
    let place = &entry.metadata.name.place;
    let targets = resolve(entry, refs, reach, mesh.id.as_str(), checker);
    let Some(id) = checker.rule_id(&format!("{kind}/{}", entry.name()), entry.file, place) else { return };
    for target in targets {
        if let Some(other) = by_target.insert(target, said(id.clone())) {
            let message = format!("{} applies to the same target", other.id);
            checker.report(entry.file, place, message, "make one policy of them".to_owned());
        }
    }
}

/// From the mesh to the service: the last one that sets a field wins.
fn effective(
    ours: &BTreeMap<Target, Said<'_>>,
    theirs: &BTreeMap<Target, Said<'_>>,
    service: &ServiceId,
) -> Option<Traffic> {
    let namespace = Target::Namespace(service.namespace().to_owned());
    let own = Target::Service(service.clone());
    let said = [ours.get(&Target::Mesh), ours.get(&namespace), theirs.get(&own), ours.get(&own)];
    let mut traffic = Traffic::default();
    let mut any = false;
    for said in said.into_iter().flatten() {
        any = true;
        if let Some(given) = said.client {
            traffic.client.id = Some(said.id.clone());
            client::apply(&mut traffic.client, given);
        }
        if let Some(given) = said.server {
            traffic.server.id = Some(said.id.clone());
            server::apply(&mut traffic.server, given);
        }
        if let Some(budget) = said.budget {
            traffic.client.id = Some(said.id.clone());
            traffic.client.on_budget_exhausted = OnBudgetExhausted::Status503;
            if let Some(given) = &budget.retry_constraint {
                client::budget(&mut traffic.client.retry_budget, given);
            }
        }
    }
    any.then_some(traffic)
}
