//! What is compared: the same apps under the same load, with different things between them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Callers call the backend itself; or, where one runtime is compared, sidecars whose protections policy has turned
    /// off.
    Unprotected,
    /// The sidecars, with a line first come first served.
    Fifo,
    /// The sidecars, with a line in which the last is first.
    Lifo,
    /// The sidecars, with a line that is kept short as RFC 8289 says.
    CoDel,
    /// A real Envoy beside each app, with its usual protections.
    Envoy,
    /// The sidecars, with the product's defaults.
    Ours,
}

impl System {
    pub const ALL: [Self; 6] =
        [Self::Unprotected, Self::Fifo, Self::Lifo, Self::CoDel, Self::Envoy, Self::Ours];

    pub fn name(self) -> &'static str {
        match self {
            Self::Unprotected => "unprotected",
            Self::Fifo => "fifo",
            Self::Lifo => "lifo",
            Self::CoDel => "codel",
            Self::Envoy => "envoy",
            Self::Ours => "ours",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for System {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A name that no system has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownSystem {
    given: String,
}

impl std::error::Error for UnknownSystem {}

impl fmt::Display for UnknownSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = System::ALL.map(System::name).join(", ");
        write!(f, "there is no system {:?}; there are {known}", self.given)
    }
}

impl FromStr for System {
    type Err = UnknownSystem;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|system| system.name() == given);
        found.ok_or_else(|| UnknownSystem { given: given.to_owned() })
    }
}

/// What stands between the apps.
#[derive(Debug, Clone, PartialEq)]
pub enum Between {
    /// Nothing: each calls the next one itself.
    Nothing,
    /// Our sidecars, under this policy.
    Sidecars(String),
    Envoys(super::envoy::Traits),
}
