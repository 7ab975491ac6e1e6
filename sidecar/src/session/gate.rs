//! Whether a snapshot may come into force, by its version alone: never an older one, and never another of the same
//! version.

use outrider_shared::snapshot::Version;
use serde::{Deserialize, Serialize};

/// A version, and the content that bears it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub version: Version,
    /// SHA-256 of the signed body, in hex.
    pub hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Put it in force.
    Take,
    /// It is in force already: acknowledge it.
    Have,
    Refuse(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("snapshot {got} is older than {seen}, which was in force here")]
    Older { got: Version, seen: Version },
    #[error("snapshot {version} has another content than the one of this version that was in force here")]
    Changed { version: Version },
}

/// What has been in force.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The newest ever, from disk too.
    seen: Option<Mark>,
    in_force: Option<Version>,
}

impl Gate {
    pub fn new(seen: Option<Mark>) -> Self {
        Self { seen, in_force: None }
    }

    pub fn judge(&self, offered: &Mark) -> Verdict {
        let Some(seen) = &self.seen else { return Verdict::Take };
        if offered.version < seen.version {
            return Verdict::Refuse(Refusal::Older { got: offered.version, seen: seen.version });
        }
        if offered.version == seen.version {
            if offered.hash != seen.hash {
                return Verdict::Refuse(Refusal::Changed { version: offered.version });
            }
            if self.in_force == Some(offered.version) {
                return Verdict::Have;
            }
        }
        Verdict::Take
    }

    /// What [`Gate::judge`] said to take is in force now.
    pub fn took(&mut self, mark: Mark) {
        debug_assert!(self.judge(&mark) == Verdict::Take, "what was taken had been let through");
        self.in_force = Some(mark.version);
        self.seen = Some(mark);
    }

    pub fn in_force(&self) -> Option<Version> {
        self.in_force
    }
}
