//! Names of things, checked when they are made, so that nothing after it checks again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} {why}")]
pub struct BadId {
    pub what: &'static str,
    /// What was given, cut at 80 characters.
    pub given: String,
    pub why: &'static str,
}

impl BadId {
    fn new(what: &'static str, given: &str, why: &'static str) -> Self {
        Self { what, given: given.chars().take(80).collect(), why }
    }
}

/// Makes a string newtype that is checked by `$check` on the way in, from JSON too.
macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadId;
            fn from_str(given: &str) -> Result<Self, BadId> {
                let check: fn(&str) -> Result<(), BadId> = $check;
                check(given)?;
                Ok(Self(given.to_owned()))
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(given: String) -> Result<Self, BadId> {
                given.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// A SPIFFE trust domain: lower-case letters, digits, `.`, `-`, `_`; at most 255 bytes (SPIFFE-ID, section 2.1).
    TrustDomain,
    |given| {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if given.is_empty() || given.len() > 255 {
            return Err(BadId::new("trust domain", given, "has 1 to 255 characters"));
        }
        if !given.bytes().all(legal) {
            return Err(BadId::new(
                "trust domain",
                given,
                "has only lower-case letters, digits, '.', '-' and '_'",
            ));
        }
        Ok(())
    }
);

checked_name!(
    /// A SPIFFE ID, in the one spelling that the specification allows: no port, query, fragment, percent-encoding,
    /// empty or dot segment; at most 2,048 bytes (SPIFFE-ID, sections 2 to 2.3).
    SpiffeId,
    |given| {
        let bad = |why| Err(BadId::new("SPIFFE ID", given, why));
        if given.len() > 2048 {
            return bad("has at most 2,048 bytes");
        }
        let Some(rest) = given.strip_prefix("spiffe://") else {
            return bad("begins with spiffe://");
        };
        let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if domain.parse::<TrustDomain>().is_err() {
            return bad("has a trust domain of lower-case letters, digits, '.', '-' and '_'");
        }
        if path.is_empty() {
            return Ok(());
        }
        for segment in path[1..].split('/') {
            if matches!(segment, "" | "." | "..") {
                return bad("has no empty, '.' or '..' segment");
            }
            if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
                return bad("has segments of letters, digits, '.', '-' and '_' only");
            }
        }
        Ok(())
    }
);

checked_name!(
    /// One instance of a sidecar, chosen by the control plane at join: lower-case hex.
    SidecarId,
    |given| {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if given.is_empty() || given.len() > 64 || !given.bytes().all(hex) {
            return Err(BadId::new("sidecar id", given, "is 1 to 64 lower-case hex digits"));
        }
        Ok(())
    }
);

checked_name!(
    /// `Kind/name#rule` of a rule, `Kind/name` of a document: printable ASCII, at most 512 bytes.
    RuleId,
    |given| {
        if given.is_empty() || given.len() > 512 || !given.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadId::new("rule id", given, "is 1 to 512 printable ASCII characters"));
        }
        Ok(())
    }
);

impl SpiffeId {
    /// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; both parts are DNS labels by the policy's check.
    pub fn of_service_account(domain: &TrustDomain, namespace: &str, account: &str) -> Result<Self, BadId> {
        format!("spiffe://{domain}/ns/{namespace}/sa/{account}").parse()
    }

    /// The control plane's own identity in a trust domain. Its namespace is reserved: no policy may declare it.
    pub fn of_control_plane(domain: &TrustDomain) -> Self {
        Self(format!("spiffe://{domain}/ns/{RESERVED_NAMESPACE}/sa/control-plane"))
    }

    pub fn trust_domain(&self) -> &str {
        let rest = &self.0["spiffe://".len()..];
        &rest[..rest.find('/').unwrap_or(rest.len())]
    }
}

/// The namespace of the mesh's own parts.
pub const RESERVED_NAMESPACE: &str = "outrider-system";

/// Whether `given` is a DNS label (RFC 1123): what Kubernetes asks of names of services and namespaces.
pub fn is_dns_label(given: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&given.len())
        && given.bytes().all(inner)
        && !given.starts_with('-')
        && !given.ends_with('-')
}

/// A service: namespace and name, both DNS labels. Written `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceId {
    namespace: String,
    name: String,
}

impl ServiceId {
    pub fn new(namespace: &str, name: &str) -> Result<Self, BadId> {
        for part in [namespace, name] {
            if !is_dns_label(part) {
                return Err(BadId::new(
                    "service",
                    part,
                    "is a DNS label: 1 to 63 of a-z, 0-9 and '-', not at the ends",
                ));
            }
        }
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for ServiceId {
    type Err = BadId;
    fn from_str(given: &str) -> Result<Self, BadId> {
        let (namespace, name) =
            given.split_once('/').ok_or_else(|| BadId::new("service", given, "is written namespace/name"))?;
        Self::new(namespace, name)
    }
}
impl TryFrom<String> for ServiceId {
    type Error = BadId;
    fn try_from(given: String) -> Result<Self, BadId> {
        given.parse()
    }
}
impl From<ServiceId> for String {
    fn from(id: ServiceId) -> Self {
        id.to_string()
    }
}
impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests;
