//! Authorization: policies by the service that they protect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::targets::{Reach, Target, resolve};
use super::{Checker, Entry};
use crate::authorization::{Action, AuthorizationPolicy, AuthorizationRule, Mode, Operation, Source};
use crate::ids::{ServiceId, SpiffeId};
use crate::policy::model::{MeshSettings, Service};
use crate::policy::raw::authorization::{
    ActionWord, AuthorizationPolicySpec, AuthorizationRuleSpec, ModeWord, OperationSpec, ServiceAccount,
    SourceSpec, SpiffeText,
};
use crate::policy::raw::route::MethodWord;
use crate::policy::raw::{Given, Located, Place, did_you_mean};

/// Policies of one service. A sidecar evaluates each on every request, and each may have 64 rules.
const POLICIES_MAX: usize = 256;

/// What a rule's callers are checked against.
struct Callers<'a> {
    mesh: &'a MeshSettings,
    /// Identities of all declared services.
    known: BTreeSet<&'a SpiffeId>,
}

pub(super) fn check(
    entries: &[Entry<'_, AuthorizationPolicySpec>],
    mesh: &MeshSettings,
    services: &BTreeMap<ServiceId, Service>,
    checker: &mut Checker<'_>,
) -> BTreeMap<ServiceId, Vec<Arc<AuthorizationPolicy>>> {
    let callers = Callers { mesh, known: services.values().map(Service::identity).collect() };
    let mut policies: BTreeMap<ServiceId, Vec<Arc<AuthorizationPolicy>>> = BTreeMap::new();
    for entry in entries {
        let reach = Reach::ServicesNamespacesMesh;
        let targets = resolve(entry, &entry.spec.target_refs.0, reach, mesh.id.as_str(), checker);
        let Some(policy) = policy(entry, &callers, checker) else { continue };
        let policy = Arc::new(policy);
        for service in covered(&targets, services) {
            let of_service = policies.entry(service.clone()).or_default();
            if of_service.len() == POLICIES_MAX {
                let message = format!("more than {POLICIES_MAX} policies apply to {service}");
                let place = &entry.metadata.name.place;
                checker.report(entry.file, place, message, "write several rules into one policy".to_owned());
                break;
            }
            of_service.push(Arc::clone(&policy));
        }
    }
    for of_service in policies.values_mut() {
        of_service.sort_by(|a, b| a.id.cmp(&b.id));
    }
    policies
}

/// The services that `targets` name, each once.
fn covered<'s>(
    targets: &BTreeSet<Target>,
    services: &'s BTreeMap<ServiceId, Service>,
) -> BTreeSet<&'s ServiceId> {
    let mut covered = BTreeSet::new();
    for target in targets {
        match target {
            Target::Mesh => covered.extend(services.keys()),
            Target::Namespace(namespace) => {
                covered.extend(services.keys().filter(|service| service.namespace() == namespace));
            }
            Target::Service(service) => {
                covered.extend(services.get_key_value(service).map(|(service, _)| service));
            }
        }
    }
    covered
}

fn policy(
    entry: &Entry<'_, AuthorizationPolicySpec>,
    callers: &Callers<'_>,
    checker: &mut Checker<'_>,
) -> Option<AuthorizationPolicy> {
    let text = format!("AuthorizationPolicy/{}", entry.name());
    let id = checker.rule_id(&text, entry.file, &entry.metadata.name.place)?;
    let mode = match entry.spec.mode {
        Some(ModeWord::Audit) => Mode::Audit,
        Some(ModeWord::Enforce) | None => Mode::Enforce,
    };
    let action = match entry.spec.action.as_ref().map(|action| action.value) {
        Some(ActionWord::Deny) => Action::Deny,
        Some(ActionWord::Allow) | None => Action::Allow,
    };
    if action == Action::Deny && entry.spec.rules.0.is_empty() {
        let help = "to deny all, write a rule without `from` and `to`: rules: [{}]".to_owned();
        checker.report(entry.file, &entry.place, "a Deny policy without rules denies nothing", help);
    }
    let mut rules = Vec::new();
    for (i, rule) in entry.spec.rules.0.iter().enumerate() {
        let id = checker.rule_id(&format!("{text}#{i}"), entry.file, &rule.place)?;
        let from = sources(entry, &rule.value, callers, checker);
        let to = operations(entry, &rule.value, checker);
        rules.push(AuthorizationRule { id, from, to });
    }
    Some(AuthorizationPolicy { id, mode, action, rules })
}

fn sources(
    entry: &Entry<'_, AuthorizationPolicySpec>,
    rule: &AuthorizationRuleSpec,
    callers: &Callers<'_>,
    checker: &mut Checker<'_>,
) -> Vec<Source> {
    let mut sources = Vec::new();
    for given in &rule.from.0 {
        let SourceSpec { spiffe, service_accounts, external, unauthenticated } = &given.value;
        let absent = [
            spiffe.is_absent(),
            service_accounts.is_absent(),
            external.is_absent(),
            unauthenticated.is_absent(),
        ];
        if absent.iter().filter(|absent| !**absent).count() != 1 {
            let message = "a source has exactly one of spiffe, serviceAccounts, external, unauthenticated";
            checker.report(entry.file, &given.place, message, "further callers are further items".to_owned());
            continue;
        }
        for id in spiffe.sound().into_iter().flat_map(|list| &list.0) {
            sources.extend(of_spiffe(entry.file, id, callers, checker).map(Source::Spiffe));
        }
        for account in service_accounts.sound().into_iter().flat_map(|list| &list.0) {
            sources.extend(of_account(entry, account, callers, checker).map(Source::Spiffe));
        }
        for (flag, source) in [(external, Source::External), (unauthenticated, Source::Unauthenticated)] {
            match flag.sound() {
                Some(flag) if flag.value => sources.push(source),
                Some(flag) => says_nothing(entry.file, &flag.place, checker),
                None => {}
            }
        }
    }
    sources
}

fn says_nothing(file: &str, place: &Place, checker: &mut Checker<'_>) {
    checker.report(file, place, "`false` names nobody", "write true, or leave the item out".to_owned());
}

fn of_spiffe(
    file: &str,
    given: &Located<SpiffeText>,
    callers: &Callers<'_>,
    checker: &mut Checker<'_>,
) -> Option<SpiffeId> {
    let id: SpiffeId = given.value.0.parse().ok()?;
    let domain = callers.mesh.trust_domain.as_str();
    if id.trust_domain() == domain || checker.mesh_unsound || checker.incomplete {
        return Some(id);
    }
    let message = format!("no peer of the trust domain {} gets in, so this never matches", id.trust_domain());
    checker.report(file, &given.place, message, format!("the mesh's trust domain is {domain}"));
    None
}

/// A sidecar gets its identity from a declared service, so an account of none of them can call nobody.
fn of_account(
    entry: &Entry<'_, AuthorizationPolicySpec>,
    given: &Located<ServiceAccount>,
    callers: &Callers<'_>,
    checker: &mut Checker<'_>,
) -> Option<SpiffeId> {
    let namespace =
        given.value.namespace.as_ref().map_or(entry.namespace(), |namespace| namespace.0.as_str());
    let name = given.value.name.0.as_str();
    let id = SpiffeId::of_service_account(callers.mesh.trust_domain(), namespace, name).ok()?;
    let sure = !checker.incomplete && !checker.mesh_unsound && checker.unsound.is_empty();
    if sure && !callers.known.contains(&id) {
        let known: Vec<String> = callers.known.iter().filter_map(|id| account_of(id)).collect();
        let help = did_you_mean(&format!("{namespace}/{name}"), &known);
        let message = format!("no declared service has the service account {namespace}/{name}");
        checker.report(entry.file, &given.place, message, help);
    }
    Some(id)
}

/// `namespace/name` of an identity in this mesh.
fn account_of(id: &SpiffeId) -> Option<String> {
    let (namespace, name) = id.as_str().split_once("/ns/")?.1.split_once("/sa/")?;
    Some(format!("{namespace}/{name}"))
}

fn operations(
    entry: &Entry<'_, AuthorizationPolicySpec>,
    rule: &AuthorizationRuleSpec,
    checker: &mut Checker<'_>,
) -> Vec<Operation> {
    let mut operations = Vec::new();
    for given in &rule.to.0 {
        let OperationSpec { http, grpc } = &given.value;
        match (http, grpc) {
            (Given::Sound(http), Given::Absent) => {
                let prefixes = http.path_prefixes.0.iter().map(super::route::prefix_of);
                let path_prefixes: Vec<String> = prefixes.collect();
                // `/` matches all, as an empty list does.
                let all = path_prefixes.iter().any(String::is_empty);
                operations.push(Operation::Http {
                    methods: http
                        .methods
                        .0
                        .iter()
                        .map(|method: &MethodWord| method.word().to_owned())
                        .collect(),
                    path_prefixes: if all { Vec::new() } else { path_prefixes },
                });
            }
            (Given::Absent, Given::Sound(grpc)) => operations.push(Operation::Grpc {
                service: grpc.service.full_name().to_owned(),
                methods: grpc.methods.0.iter().map(|method| method.0.clone()).collect(),
            }),
            (Given::Broken, Given::Absent) | (Given::Absent, Given::Broken) => {}
            _ => {
                let message = "an operation has exactly one of http, grpc";
                checker.report(
                    entry.file,
                    &given.place,
                    message,
                    "further operations are further items".to_owned(),
                );
            }
        }
    }
    operations
}
