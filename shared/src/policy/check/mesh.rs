//! The mesh's settings: one `MeshConfig`, or the defaults.

use std::time::Duration;

use super::{Checker, Entry};
use crate::authorization::DefaultAuthorization;
use crate::policy::model::MeshSettings;
use crate::policy::raw::mesh::{DefaultAuthorizationWord, MeshConfigSpec};

/// Not a domain that anybody else could own: `.local` is nobody's (RFC 6762).
const TRUST_DOMAIN: &str = "outrider.local";
/// 24 h: an outage of the control plane of half a day goes unseen, and a stolen key is worth a day.
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(24);

pub(super) fn check(configs: &[Entry<'_, MeshConfigSpec>], checker: &mut Checker<'_>) -> MeshSettings {
    let mut mesh = MeshSettings {
        id: "MeshConfig/default".parse().expect("a short printable name"),
        trust_domain: TRUST_DOMAIN.parse().expect("lower-case letters and a dot"),
        default_authorization: DefaultAuthorization::Deny,
        certificate_lifetime: CERTIFICATE_LIFETIME,
    };
    let Some(config) = configs.first() else { return mesh };
    for other in &configs[1..] {
        let help = format!("the other one is at {}:{}", config.file, config.place.mark.line);
        checker.report(other.file, &other.place, "a mesh has one MeshConfig", help);
    }
    let id = format!("MeshConfig/{}", config.name());
    if let Some(id) = checker.rule_id(&id, config.file, &config.metadata.name.place) {
        mesh.id = id;
    }
    if let Some(domain) = config.spec.trust_domain.as_ref().and_then(|given| given.0.parse().ok()) {
        mesh.trust_domain = domain;
    }
    if let Some(DefaultAuthorizationWord::AllowSameTrustDomain) = config.spec.default_authorization {
        mesh.default_authorization = DefaultAuthorization::AllowSameTrustDomain;
    }
    if let Some(lifetime) = config.spec.certificates.as_ref().and_then(|given| given.lifetime) {
        mesh.certificate_lifetime = lifetime.0;
    }
    if let Some(hops) = config.spec.forwarded.as_ref().and_then(|given| given.trusted_hops.as_ref())
        && hops.value.0 > 0
    {
        let message = "`trustedHops` above 0 is not built yet";
        checker.report(
            config.file,
            &hops.place,
            message,
            "write 0: no X-Forwarded-For is believed".to_owned(),
        );
    }
    mesh
}
