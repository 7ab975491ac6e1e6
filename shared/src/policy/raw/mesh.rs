//! `MeshConfig`: what holds for the whole mesh.

use crate::TrustDomain;

use super::{DurationWithin, Int};

record! {
    /// What holds for the whole mesh. At most one document; it lies in no namespace.
    MeshConfigSpec {
        /// Of every identity in the mesh; `outrider.local` where it is left out.
        "trustDomain" trust_domain: Option<TrustDomainText>,
        /// Whether peers must come over mTLS; `Strict` where it is left out.
        "mtls" mtls: Option<Mtls>,
        /// Who may call a service that no enforced Allow policy names; `Deny` where it is left out.
        "defaultAuthorization" default_authorization: Option<DefaultAuthorizationWord>,
        /// What apps may reach outside of the mesh; `RegistryOnly` where it is left out.
        "egress" egress: Option<Egress>,
        /// Of the sidecars' leaf certificates.
        "certificates" certificates: Option<Certificates>,
        /// How addresses of callers from outside are believed.
        "forwarded" forwarded: Option<Forwarded>,
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
    /// `X-Forwarded-For` of requests from outside.
    Forwarded {
        /// How many of its entries are believed; more than 0 is not built yet.
        "trustedHops" trusted_hops: Option<super::Located<Int<0, 32>>>,
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
    } not built {
        "Permissive" => "write Strict: peers come over mTLS alone",
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
    } not built {
        "Allow" => "write RegistryOnly: apps reach declared services alone",
    }
}
