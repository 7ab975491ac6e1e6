//! Who calls, as far as the sidecar has proof of it.

use std::fmt;
use std::sync::Arc;

use outrider_shared::{SpiffeId, names};

/// Known once for a connection, and the same for every request on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Proved by the certificate of the peer's sidecar. Shared, since each request of a connection carries it.
    Mesh(Arc<SpiffeId>),
    /// Came in through an edge listener: nothing is proved.
    External,
    /// Came in as plaintext where a port permits it: nothing is proved.
    Unauthenticated,
}

impl Principal {
    /// The SPIFFE ID, `external` or `unauthenticated`: what logs, metrics and reports call it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Mesh(id) => id.as_str(),
            Self::External => names::EXTERNAL,
            Self::Unauthenticated => names::UNAUTHENTICATED,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
