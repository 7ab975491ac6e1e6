//! What is valid and in force, and less safe than the default: said by `outrider policy validate`, refused by nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ServiceId;
use crate::authorization::{Action, AuthorizationPolicy, DefaultAuthorization, Mode};
use crate::policy::model::{MeshSettings, Service};
use crate::snapshot::{AppProtocol, Egress, Mtls, PathNormalization, TrustedProxies};

/// Services that one warning names; the rest is a number.
const NAMED_MAX: usize = 8;

pub(super) fn of(
    mesh: &MeshSettings,
    services: &BTreeMap<ServiceId, Service>,
    authorization: &BTreeMap<ServiceId, Vec<Arc<AuthorizationPolicy>>>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let id = mesh.id();
    if mesh.egress == Egress::Allow {
        warnings.push(format!(
            "{id}: egress is Allow: every app reaches every host that it can name, in plaintext and without policy"
        ));
    }
    if mesh.path_normalization == PathNormalization::None {
        warnings.push(format!(
            "{id}: pathNormalization is None: rules by path decide on what the caller wrote, so `/a/../b` is not `/b`"
        ));
    }
    let by_default: Vec<&ServiceId> = services
        .keys()
        .filter(|service| {
            let mut policies = authorization.get(*service).into_iter().flatten();
            !policies.any(|policy| policy.mode == Mode::Enforce && policy.action == Action::Allow)
        })
        .filter(|service| services[*service].ports().iter().len() > 0)
        .collect();
    if mesh.default_authorization == DefaultAuthorization::AllowSameTrustDomain && !by_default.is_empty() {
        warnings.push(format!(
            "{id}: defaultAuthorization is AllowSameTrustDomain: every workload of {} may call {}",
            mesh.trust_domain(),
            listed(&by_default)
        ));
    }
    for service in services.values() {
        let id = service.id();
        let policies = authorization.get(id).map_or(&[][..], Vec::as_slice);
        for port in service.ports().iter().filter(|port| port.app_protocol == AppProtocol::Detect) {
            warnings.push(detected(id, port.port, policies));
        }
        for port in service.ports().iter().filter(|port| port.mtls == Mtls::Permissive) {
            let port = port.port;
            warnings.push(format!(
                "Service {id}, port {port}: mtls is Permissive: anybody who reaches its sidecar may send plaintext, as \
                 principal unauthenticated"
            ));
        }
        for edge in
            service.edges().iter().filter(|edge| matches!(edge.forwarded.trusted, TrustedProxies::Hops(_)))
        {
            let port = edge.port;
            warnings.push(format!(
                "Service {id}, edge {port}: trustedHops believes whoever reaches the port: see that only the proxies can, \
                 or name them in trustedProxies"
            ));
        }
    }
    warnings
}

/// What it means that nobody has said what a port speaks.
fn detected(id: &ServiceId, port: u16, policies: &[Arc<AuthorizationPolicy>]) -> String {
    let mut enforced = policies.iter().filter(|policy| policy.mode == Mode::Enforce);
    let names_operations = enforced.any(|policy| policy.rules.iter().any(|rule| !rule.to.is_empty()));
    let tunnels = if names_operations {
        "it is let in by no Allow rule with `to`, and refused by every Deny rule with `to`"
    } else {
        "whoever may call the service may open one"
    };
    format!(
        "Service {id}, port {port}: no appProtocol: what is not HTTP is a tunnel, whose content no rule and no route sees: \
         {tunnels}"
    )
}

fn listed(services: &[&ServiceId]) -> String {
    let named: Vec<String> = services.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    match services.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
