//! References from a policy or a route to what it applies to.

use super::metadata::{DnsName, Namespace, SectionName};
use super::{Int, Located, Text};

record! {
    /// What a policy applies to, in its own namespace.
    TargetRef {
        /// `""` of `Service` and `Namespace`, `outrider.mesh` of `MeshConfig`; may be left out.
        "group" group: Option<Located<Text<0, 253>>>,
        /// `Service`; in `AuthorizationPolicy` and `TelemetryPolicy` `Namespace` and `MeshConfig` too.
        "kind" kind: Located<Text<1, 63>>,
        /// Its name.
        "name" name: Located<DnsName>,
        /// Ports of a service are not told apart yet; refused.
        "sectionName" section_name: super::NotBuilt,
    }
}

record! {
    /// The service that a route belongs to: requests for it are what the route matches.
    ParentRef {
        /// `""`: our `Service`. Left out, it means a Gateway, which is not built yet.
        "group" group: Option<Located<Text<0, 253>>>,
        /// `Service`.
        "kind" kind: Option<Located<Text<1, 63>>>,
        /// The route's own namespace, or left out.
        "namespace" namespace: Option<Located<Namespace>>,
        /// The service's name.
        "name" name: Located<DnsName>,
        /// Ports are told apart by number; refused.
        "sectionName" section_name: Option<Located<SectionName>>,
        /// Only requests to this port; left out: to all.
        "port" port: Option<Located<Int<1, 65535>>>,
    }
}
