//! The mesh's settings: one `MeshConfig`, or the defaults.

use std::time::Duration;

use super::{Checker, Entry};
use crate::authorization::DefaultAuthorization;
use crate::network::IpNetwork;
use crate::policy::model::MeshSettings;
use crate::policy::raw::Located;
use crate::policy::raw::mesh::{
    DefaultAuthorizationWord, Egress as EgressWord, Forwarded as ForwardedSpec, ForwardedHeaderWord,
    MeshConfigSpec, Mtls as MtlsWord, PathNormalizationWord,
};
use crate::snapshot::{Egress, Forwarded, ForwardedHeader, Mtls, PathNormalization, TrustedProxies};

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
        mtls: Mtls::Strict,
        egress: Egress::RegistryOnly,
        path_normalization: PathNormalization::Base,
        forwarded: Forwarded::default(),
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
    mesh.mtls = mtls(config.spec.mtls).unwrap_or_default();
    mesh.egress = match config.spec.egress {
        Some(EgressWord::Allow) => Egress::Allow,
        Some(EgressWord::RegistryOnly) | None => Egress::RegistryOnly,
    };
    mesh.path_normalization = match config.spec.path_normalization {
        Some(PathNormalizationWord::None) => PathNormalization::None,
        Some(PathNormalizationWord::Base) | None => PathNormalization::Base,
        Some(PathNormalizationWord::MergeSlashes) => PathNormalization::MergeSlashes,
        Some(PathNormalizationWord::DecodeAndMergeSlashes) => PathNormalization::DecodeAndMergeSlashes,
    };
    if let Some(given) = &config.spec.forwarded {
        mesh.forwarded = forwarded(given, config.file, checker);
    }
    mesh
}

pub(super) fn mtls(word: Option<MtlsWord>) -> Option<Mtls> {
    word.map(|word| match word {
        MtlsWord::Strict => Mtls::Strict,
        MtlsWord::Permissive => Mtls::Permissive,
    })
}

/// Who is believed; counted or by network, not both.
pub(super) fn forwarded(given: &Located<ForwardedSpec>, file: &str, checker: &mut Checker<'_>) -> Forwarded {
    let spec = &given.value;
    let hops = spec.trusted_hops.map_or(0, |hops| u8::try_from(hops.0).expect("at most 32 were read"));
    let networks: Vec<IpNetwork> =
        spec.trusted_proxies.0.iter().filter_map(|network| network.0.parse().ok()).collect();
    if hops > 0 && !networks.is_empty() {
        let message = "`trustedHops` and `trustedProxies` are two ways to say who is believed";
        checker.report(file, &given.place, message, "keep one of them".to_owned());
    }
    let trusted = match (hops, networks.is_empty()) {
        (_, false) => TrustedProxies::Networks(networks),
        (0, true) => TrustedProxies::None,
        (hops, true) => TrustedProxies::Hops(hops),
    };
    let header = match spec.header {
        Some(ForwardedHeaderWord::Forwarded) => ForwardedHeader::Forwarded,
        Some(ForwardedHeaderWord::XForwardedFor) | None => ForwardedHeader::XForwardedFor,
    };
    Forwarded { trusted, header }
}
