//! What the sidecar and the control plane must agree on. No async code, no sockets.
//!
//! Glossary (a new noun goes here first):
//! - *service*: a name in a namespace that callers ask for ([`ServiceId`]); declared by a `Service` document.
//! - *endpoint*: one running instance of a service, reached through its sidecar's mesh port.
//! - *upstream*: what a request is sent on to: outbound a service, inbound a port of the local app.
//! - *target*: one port of a service, as a request asks for it, written `namespace/name:port`; *destination*: a target with
//!   the route rules attached to it.
//! - *rejection*: why a sidecar answers a request by itself; *refusal*: a rejection with where it happened and which rule
//!   decided.
//! - *principal*: who calls: a SPIFFE identity, or `external` (an edge listener), or `unauthenticated` (plaintext at a port
//!   that permits it).
//! - *edge*: a port where callers from outside of the mesh come in; *egress*: the app's way to hosts outside of it.
//! - *policy*: the checked content of all documents; *revision*: one accepted version of it, numbered from 1.
//! - *snapshot*: everything one sidecar needs, made by the control plane from a revision and the registry.
//! - *directory*: the part of a snapshot that lists services and endpoints.
//! - *rule id*: `Kind/name#rule`, stable across revisions; with `@r12` it names the revision that decided.
//! - *join credential*: what a new sidecar shows first: a *token* (once) or a *join secret* (any number of times).
//! - *instance credential*: what a sidecar that has joined shows to renew its leaf.
//! - *leaf*: the short-lived certificate of one sidecar; *bundle*: the roots that it trusts.
//! - *boot*: one run of a sidecar process; counters count from its start.
//! - *report*: a boot's cumulative counters, sent each second.

pub mod api;
pub mod authorization;
pub mod identity;
pub mod ids;
pub mod join;
pub mod names;
pub mod network;
pub mod policy;
pub mod route;
pub mod session;
pub mod snapshot;
pub mod traffic;
pub mod units;

pub use ids::{BadId, RuleId, ServiceId, SidecarId, SpiffeId, TrustDomain};
