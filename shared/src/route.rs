//! Routes as a sidecar gets them: `HTTPRoute` and `GRPCRoute` of Gateway API, attached to a service (GAMMA).
//!
//! What the documents allow and is not built is refused when policy is loaded, so everything here is enforced.

use serde::{Deserialize, Serialize};

use crate::traffic::Retry;
use crate::units::GepDuration;
use crate::{RuleId, ServiceId};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `HTTPRoute/name` or `GRPCRoute/name`.
    pub id: RuleId,
    /// The service that callers ask for.
    pub service: ServiceId,
    /// Only requests to this port; `None`: to any.
    pub port: Option<u16>,
    /// Seconds since 1970 of `metadata.creationTimestamp`, which breaks ties first; then `namespace/name`.
    pub created_unix_s: Option<i64>,
    pub rules: Vec<RouteRule>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteRule {
    /// `HTTPRoute/name#rule`, the rule's name or its index from 0.
    pub id: RuleId,
    /// Any of these; never empty (an absent list becomes one that matches all).
    pub matches: Vec<RouteMatch>,
    pub request_headers: HeaderChanges,
    pub response_headers: HeaderChanges,
    /// From the first byte of the request to the last of the answer. `None` or zero: unlimited.
    pub request_timeout: Option<GepDuration>,
    /// One attempt: from dispatch to the last byte of the answer. `None` or zero: unlimited.
    pub backend_request_timeout: Option<GepDuration>,
    /// By weight. Empty: 500, as Gateway API asks. All weights 0: 500.
    pub backends: Vec<Backend>,
    /// `None`: nothing is sent again.
    #[serde(default)]
    pub retry: Option<Retry>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    pub service: ServiceId,
    pub port: u16,
    pub weight: u32,
    pub request_headers: HeaderChanges,
    pub response_headers: HeaderChanges,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderChanges {
    /// Names are lower-case. Applied in this order: remove is last, as in Gateway API's filter.
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

impl HeaderChanges {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub method: Option<String>,
    /// All must match; names lower-case, values exact.
    pub headers: Vec<(String, String)>,
    /// All must match, exactly.
    pub query: Vec<(String, String)>,
}

/// What a path must be. gRPC's service and method are paths too (`/service/method`), so one matcher serves both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    Any,
    Exact(String),
    /// By whole segments: `/a` matches `/a` and `/a/b`, not `/ab`.
    Prefix(String),
    /// gRPC: this method of any service.
    GrpcMethod(String),
}
