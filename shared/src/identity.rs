//! Who a peer is, and how that is proved: SPIFFE verification of chains, the trust bundle, join credentials, and the
//! TLS settings of both kinds of connection.
//!
//! A peer is judged in two steps that do not know of each other. [`chain`] builds a path to a root of the bundle
//! (rustls-webpki, then the rules of RFC 5280 in [`profile`] that webpki leaves out); [`spiffe`] reads the one name.
//! Both must pass. Every refusal is one value of [`PeerRefusal`], from the handshake to the metric.
//!
//! A certificate of the mesh therefore has: version 3, a positive serial number of at most 20 bytes, an issuer; an
//! authority key identifier, but for a root; in a CA a subject, a subject key identifier and critical basic constraints;
//! in a leaf exactly one URI name, and a critical subjectAltName where the subject is empty.

mod bundle;
pub mod chain;
mod credential;
mod material;
mod profile;
mod refusal;
mod signature;
mod spiffe;
mod tls;
mod verifiers;

pub use bundle::{BundleError, ROOTS_MAX, TrustBundle};
pub use chain::{Usage, verify_peer};
pub use credential::{BadCredential, JoinCredential};
pub use material::{Material, MaterialError};
pub use refusal::{PeerRefusal, peer_refusal, peer_refusal_of_io};
pub use signature::{SnapshotRefusal, verify_snapshot};
pub use spiffe::{Peer, verified_peer};
pub use tls::{
    control_client_config, control_server_config, join_client_config, mesh_client_config, mesh_server_config,
};
pub use verifiers::{ClientAuth, MeshClientVerifier, MeshServerVerifier, PinnedRootVerifier};

#[cfg(test)]
mod tests;
