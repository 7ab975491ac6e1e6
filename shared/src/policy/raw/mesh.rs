//! `MeshConfig`: what holds for the whole mesh.

use crate::TrustDomain;
use crate::network::IpNetwork;

use super::{DurationWithin, Int, List, Located};

record! {
    /// What holds for the whole mesh. At most one document; it lies in no namespace.
    MeshConfigSpec {
        /// Of every identity in the mesh; `outrider.local` where it is left out.
        "trustDomain" trust_domain: Option<TrustDomainText>,
        /// Whether peers must come over mTLS; `Strict` where it is left out. A service, and a port of it, may say otherwise.
        "mtls" mtls: Option<Mtls>,
        /// Who may call a service that no enforced Allow policy names; `Deny` where it is left out.
        "defaultAuthorization" default_authorization: Option<DefaultAuthorizationWord>,
        /// What apps may reach outside of the mesh; `RegistryOnly` where it is left out.
        "egress" egress: Option<Egress>,
        /// Of the sidecars' leaf certificates.
        "certificates" certificates: Option<Certificates>,
        /// Which spellings of a path count as one, before anything is decided on it; `Base` where it is left out.
        "pathNormalization" path_normalization: Option<PathNormalizationWord>,
        /// Which proxies outside of the mesh are believed in what they say about a caller; none where it is left out. An edge
        /// port may say otherwise.
        "forwarded" forwarded: Option<Located<Forwarded>>,
    }
}

record! {
    /// Leaf certificates.
    Certificates {
        /// How long each is valid, `24h` where it is left out; renewed at half of it.
        "lifetime" lifetime: Option<DurationWithin<60_000, 2_592_000_000>>,
    }
}

record! {
    /// Who is believed about where a request from outside began. `Forwarded`, `X-Forwarded-*` and `X-Real-IP` of everybody
    /// else are taken out.
    Forwarded {
        /// How many proxies of one's own stand before the edge, each of which adds the address that it sees. Whoever reaches
        /// the edge without passing them may claim any address: `trustedProxies` is the safer way.
        "trustedHops" trusted_hops: Option<Int<0, 32>>,
        /// Networks of those proxies, as `10.0.0.0/8`: a request from elsewhere is believed nothing.
        "trustedProxies" trusted_proxies: List<NetworkText, 0, 64>,
        /// The field to which these proxies add, `X-Forwarded-For` where it is left out; the other one is never believed.
        "header" header: Option<ForwardedHeaderWord>,
    }
}

text! {
    /// A SPIFFE trust domain.
    TrustDomainText, "a trust domain: 1 to 255 lower-case letters, digits, '.', '-' and '_'",
    |given| given.parse::<TrustDomain>().is_ok()
}

choice! {
    /// Whether plaintext from peers is refused.
    Mtls {
        "Strict" => Strict,
        "Permissive" => Permissive,
    }
}

choice! {
    /// What holds for a service without policy.
    DefaultAuthorizationWord {
        "Deny" => Deny,
        "AllowSameTrustDomain" => AllowSameTrustDomain,
    }
}

choice! {
    /// What lies outside of the mesh.
    Egress {
        "RegistryOnly" => RegistryOnly,
        "Allow" => Allow,
    }
}

choice! {
    /// Which spellings of a path count as one.
    PathNormalizationWord {
        "Base" => Base,
        "None" => None,
        "MergeSlashes" => MergeSlashes,
        "DecodeAndMergeSlashes" => DecodeAndMergeSlashes,
    }
}

choice! {
    /// The field in which proxies say for whom they forward.
    ForwardedHeaderWord {
        "X-Forwarded-For" => XForwardedFor,
        "Forwarded" => Forwarded,
    }
}

text! {
    /// A network.
    NetworkText, "a network as 10.0.0.0/8 or 2001:db8::/32, or one address", |given| given.parse::<IpNetwork>().is_ok()
}
