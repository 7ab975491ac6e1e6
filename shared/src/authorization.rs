//! Authorization as a sidecar gets it: who may call what on the local service. Evaluated on the inbound side alone.
//!
//! Deny wins. Then, where at least one enforced Allow policy names the service, one of its rules must match; where none
//! does, [`DefaultAuthorization`] decides. A policy in mode Audit never decides: what it would have refused is counted.

use serde::{Deserialize, Serialize};

use crate::{RuleId, SpiffeId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DefaultAuthorization {
    Deny,
    /// Any authenticated peer of the own trust domain; never `external` or `unauthenticated`.
    AllowSameTrustDomain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    Audit,
    Enforce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    Allow,
    Deny,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationPolicy {
    /// `AuthorizationPolicy/name`.
    pub id: RuleId,
    pub mode: Mode,
    pub action: Action,
    pub rules: Vec<AuthorizationRule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationRule {
    /// `AuthorizationPolicy/name#rule`.
    pub id: RuleId,
    /// Any of these. Empty: any authenticated peer of the own trust domain.
    pub from: Vec<Source>,
    /// Any of these. Empty: any operation.
    pub to: Vec<Operation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    Spiffe(SpiffeId),
    External,
    Unauthenticated,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Empty lists match all. A prefix matches by whole segments, as a route's does.
    Http { methods: Vec<String>, path_prefixes: Vec<String> },
    /// An empty list of methods matches all of the service.
    Grpc { service: String, methods: Vec<String> },
}
