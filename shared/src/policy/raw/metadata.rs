//! `metadata`, as Kubernetes writes it.

use crate::ids::is_dns_label;

use super::{Ignored, Located, Pairs};

record! {
    /// Names a document. What a cluster adds is accepted and ignored, so that a document copied from one loads as it stands.
    Metadata {
        /// Unique among documents of its kind in its namespace.
        "name" name: Located<DnsName>,
        /// `default` where it is left out; the mesh's own namespace, `outrider-system`, is refused.
        "namespace" namespace: Option<Located<Namespace>>,
        /// Read by nobody here.
        "labels" labels: Pairs,
        /// Those of `outrider.mesh` are checked; others are left alone.
        "annotations" annotations: Pairs,
        /// The older of two routes wins a tie.
        "creationTimestamp" creation_timestamp: Option<Timestamp>,
        /// Added by clusters.
        "generateName" generate_name: Ignored,
        /// Added by clusters.
        "generation" generation: Ignored,
        /// Added by clusters.
        "resourceVersion" resource_version: Ignored,
        /// Added by clusters.
        "selfLink" self_link: Ignored,
        /// Added by clusters.
        "uid" uid: Ignored,
        /// Added by clusters.
        "managedFields" managed_fields: Ignored,
        /// Added by clusters.
        "ownerReferences" owner_references: Ignored,
        /// Added by clusters.
        "finalizers" finalizers: Ignored,
        /// Added by clusters.
        "deletionTimestamp" deletion_timestamp: Ignored,
        /// Added by clusters.
        "deletionGracePeriodSeconds" deletion_grace_period_seconds: Ignored,
    }
}

text! {
    /// A name of a document.
    DnsName, "a DNS name: labels of a-z, 0-9 and '-', with dots between, at most 253 characters",
    |given| given.len() <= 253 && given.split('.').all(is_dns_label)
}

text! {
    /// A namespace.
    Namespace, "a DNS label: 1 to 63 of a-z, 0-9 and '-', not at the ends", is_dns_label
}

text! {
    /// A name of a service or of a service account.
    Label, "a DNS label: 1 to 63 of a-z, 0-9 and '-', not at the ends", is_dns_label
}

text! {
    /// A name of a rule or of a port (Gateway API's `SectionName`).
    SectionName, "a DNS name: labels of a-z, 0-9 and '-', with dots between, at most 253 characters",
    |given| given.len() <= 253 && given.split('.').all(is_dns_label)
}

text! {
    /// A moment.
    Timestamp, "a moment as 2026-05-01T12:00:00Z (RFC 3339)", |given| given.parse::<jiff::Timestamp>().is_ok()
}

impl Timestamp {
    pub fn unix_s(&self) -> Option<i64> {
        self.0.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
    }
}
