//! Traffic policy as a sidecar gets it: how a backend is called, and how an app is protected.
//!
//! Every value is set: what no policy says is here as the product's default, so both ends agree on it and the sidecar has
//! no defaults of its own.

use serde::{Deserialize, Serialize};

use crate::units::GepDuration;
use crate::{RuleId, SpiffeId};

/// How one service is called, and how it is protected.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Traffic {
    pub client: ClientTraffic,
    pub server: ServerTraffic,
}

/// How a service is called, at each caller's sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTraffic {
    /// `BackendTrafficPolicy/name`; `None`: the product's defaults.
    pub id: Option<RuleId>,
    pub breaker: Breaker,
    pub retry_budget: RetryBudget,
    pub on_budget_exhausted: OnBudgetExhausted,
    pub balancing: Balancing,
    /// Requests under way from one sidecar to the service; `None`: the sidecar's own bound alone.
    pub concurrency: Option<Concurrency>,
    pub health_check: Option<HealthCheck>,
}

/// How the app is protected, at its own sidecar.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTraffic {
    /// `BackendTrafficPolicy/name`; `None`: the product's defaults.
    pub id: Option<RuleId>,
    pub concurrency: Concurrency,
    pub queue: Queue,
}

/// When an endpoint, or the whole service, is no longer called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    pub scope: BreakerScope,
    /// Over what the ratios are counted.
    pub window: GepDuration,
    /// No ratio opens it below so many requests in the window.
    pub requests_min: u32,
    /// From 0 (exclusive) to 1; `None`: no ratio opens it.
    pub failure_ratio: Option<f64>,
    pub slow_call: Option<SlowCall>,
    /// Failures without a success between them; `None`: they do not open it.
    pub consecutive_failures: Option<u32>,
    pub open_initial: GepDuration,
    pub open_max: GepDuration,
    /// The share of the wait that is drawn at random, from 0 to 1.
    pub open_jitter: f64,
    /// Requests let through at once while it is half open.
    pub probes_max: u32,
    /// Successes in a row that close it.
    pub success_threshold: u32,
    pub failure_when: FailureWhen,
    /// The share of endpoints that may be left out at once, from 0 to 1; beyond it all are used.
    pub ejected_max: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BreakerScope {
    Endpoint,
    Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowCall {
    pub threshold: GepDuration,
    /// Of all in the window, from 0 (exclusive) to 1.
    pub ratio: f64,
}

/// What counts as a failure, beside connections that could not be had. A client that went away never does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FailureWhen {
    pub http: Vec<StatusRange>,
    /// Codes of gRPC, from 0 to 16.
    pub grpc: Vec<u8>,
    /// No answer within the attempt's or the request's time.
    pub timeouts: bool,
    /// Streams that ended before the answer did.
    pub resets: bool,
    /// Whether what the far sidecar refused on purpose (its limit, its queue) counts too.
    pub shed: bool,
}

/// HTTP statuses, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusRange {
    pub from: u16,
    pub to: u16,
}

/// GEP-3388: at most this share of the requests within the interval may be retries, or the minimum rate if that is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryBudget {
    pub percent: u32,
    pub interval: GepDuration,
    pub rate_min_count: u32,
    pub rate_min_interval: GepDuration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBudgetExhausted {
    LastAnswer,
    Status503,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balancing {
    PeakEwma,
    LeastRequest,
    RoundRobin,
}

/// How many requests may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    pub algorithm: ConcurrencyAlgorithm,
    pub initial: u32,
    pub min: u32,
    pub max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConcurrencyAlgorithm {
    /// Stays at `initial`.
    Fixed,
    /// One more a window that was full and went well, a tenth less when something failed by overload.
    Aimd,
    /// By the ratio of the least latency to the present one.
    Gradient,
}

/// Where requests wait that find no permit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// 0: nobody waits.
    pub depth_max: u32,
    pub wait_max: GepDuration,
    pub order: QueueOrder,
    pub drop: QueueDrop,
    pub fair_by: FairBy,
    /// `None`: one class.
    pub priority: Option<Priority>,
}

/// Inside a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueOrder {
    Deadline,
    Fifo,
    Lifo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueueDrop {
    None,
    /// RFC 8289.
    CoDel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FairBy {
    Peer,
    None,
}

/// Classes of requests, the most important first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Priority {
    /// Lower-case.
    pub header: String,
    pub classes: Vec<PriorityClass>,
    /// Index into `classes`.
    pub default: usize,
    /// Whose header is believed.
    pub trusted_from: Vec<SpiffeId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorityClass {
    pub name: String,
    /// `None`: whoever is before goes first, always; else a share in proportion, where all have one.
    pub weight: Option<u32>,
}

/// Asks each endpoint by itself whether it is well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    pub kind: HealthCheckKind,
    pub interval: GepDuration,
    pub timeout: GepDuration,
    /// In a row, until an endpoint is left out.
    pub unhealthy_threshold: u32,
    /// In a row, until it is used again.
    pub healthy_threshold: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheckKind {
    /// `GET` of a path, where a status from 200 to 399 is well.
    Http { path: String },
    /// `grpc.health.v1.Health/Check` of a service; empty: of the server.
    Grpc { service: String },
    /// A connection, and the handshake with the sidecar.
    Tcp,
}

/// A request of this rule is sent again after some failures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Beside the first attempt.
    pub attempts: u32,
    /// HTTP statuses after which is retried; connection failures and resets always are.
    pub http: Vec<u16>,
    /// Codes of gRPC.
    pub grpc: Vec<u8>,
    /// The least wait before a retry. A random one is added, below a ceiling that is this at first and doubles with each
    /// further one.
    pub backoff: GepDuration,
    /// Only with an `Idempotency-Key`, whatever the method.
    pub idempotency_key_required: bool,
}

impl Default for ClientTraffic {
    fn default() -> Self {
        Self {
            id: None,
            breaker: Breaker::default(),
            retry_budget: RetryBudget::default(),
            on_budget_exhausted: OnBudgetExhausted::LastAnswer,
            balancing: Balancing::PeakEwma,
            concurrency: None,
            health_check: None,
        }
    }
}

impl Default for Breaker {
    /// Opens for an endpoint half of whose answers are failures of its own (502 to 504, timeouts, resets), where others
    /// can take its place: an answer of 500 is often one request's own fault.
    fn default() -> Self {
        Self {
            scope: BreakerScope::Endpoint,
            window: GepDuration::from_millis(10_000),
            requests_min: 20,
            failure_ratio: Some(0.5),
            slow_call: None,
            consecutive_failures: None,
            open_initial: GepDuration::from_millis(1_000),
            open_max: GepDuration::from_millis(30_000),
            open_jitter: 0.5,
            probes_max: 3,
            success_threshold: 2,
            failure_when: FailureWhen::default(),
            ejected_max: 0.5,
        }
    }
}

impl Default for FailureWhen {
    /// Gateway errors, of gRPC UNAVAILABLE and `DEADLINE_EXCEEDED`, timeouts and resets.
    fn default() -> Self {
        let http = vec![StatusRange { from: 502, to: 504 }];
        Self { http, grpc: vec![14, 4], timeouts: true, resets: true, shed: false }
    }
}

impl Default for RetryBudget {
    /// GEP-3388's.
    fn default() -> Self {
        Self {
            percent: 20,
            interval: GepDuration::from_millis(10_000),
            rate_min_count: 10,
            rate_min_interval: GepDuration::from_millis(1_000),
        }
    }
}

impl Default for Concurrency {
    /// Learns. Begins where an app of medium size is not held back at its start; what a small one is sent too much is found out
    /// within some hundred milliseconds of overload. The most is what a sidecar takes at all.
    fn default() -> Self {
        Self { algorithm: ConcurrencyAlgorithm::Gradient, initial: 128, min: 2, max: 1_024 }
    }
}

impl Default for Queue {
    /// Long enough for a burst, short enough that whoever waits is still waited for.
    fn default() -> Self {
        Self {
            depth_max: 256,
            wait_max: GepDuration::from_millis(1_000),
            order: QueueOrder::Deadline,
            drop: QueueDrop::None,
            fair_by: FairBy::Peer,
            priority: None,
        }
    }
}
