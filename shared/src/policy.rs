//! Policy documents: YAML in, one checked [`Policy`] out, or every problem at once.
//!
//! ```text
//! text -> yaml (tree with places) -> raw (records; unknown fields refused) -> check (references, relations) -> Policy
//! ```
//!
//! `HTTPRoute`, `GRPCRoute` and `XBackendTrafficPolicy` are Gateway API's, verbatim; the other kinds are ours, where there
//! is no standard. What a document asks for and nothing enforces is refused by name. No clock, no network: equal documents give equal policies.

mod check;
mod files;
mod model;
mod problem;
mod raw;
pub mod reference;
mod yaml;

pub use files::{DOCUMENTS_MAX, FILE_BYTES_MAX, TOTAL_BYTES_MAX, load, load_dir};
pub use model::{MeshSettings, Policy, Service};
pub use problem::{Color, PROBLEMS_MAX, Problem, Problems};

/// What was loaded, and from what.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub policy: Policy,
    /// Hex SHA-256 of the texts in the order of the files' names.
    pub hash: String,
    /// Names and texts, by name: what is kept of a revision.
    pub files: Vec<(String, String)>,
}

#[cfg(test)]
mod tests;
