//! `BackendTrafficPolicy` and Gateway API's `XBackendTrafficPolicy`: how a backend is called and protected. Checked in full
//! and without effect yet.

use super::targets::TargetRef;
use super::{DurationWithin, HttpCode, Int, List, Located, NotBuilt, Ratio};
use crate::policy::raw::authorization::SpiffeText;
use crate::policy::raw::metadata::Label;
use crate::policy::raw::route::{GrpcCodeWord, HeaderName};

/// What breaker, queue and budget wait for: 1 ms to 1 h.
type Wait = DurationWithin<1, 3_600_000>;

record! {
    /// Limits retries towards a service (`gateway.networking.x-k8s.io/v1alpha1`, as it stands). Not enforced yet.
    XBackendTrafficPolicySpec {
        /// Services.
        "targetRefs" target_refs: List<Located<TargetRef>, 1, 16>,
        /// How many retries are allowed.
        "retryConstraint" retry_constraint: Option<RetryConstraint>,
        /// Refused.
        "sessionPersistence" session_persistence: NotBuilt,
    }
}

record! {
    /// How a service is called and protected. Not enforced yet.
    BackendTrafficPolicySpec {
        /// Services.
        "targetRefs" target_refs: List<Located<TargetRef>, 1, 16>,
        /// At each caller's sidecar.
        "client" client: Option<ClientTraffic>,
        /// At the sidecar of each instance of the service.
        "server" server: Option<ServerTraffic>,
    }
}

record! {
    /// What callers' sidecars do.
    ClientTraffic {
        /// How many retries are allowed.
        "retryConstraint" retry_constraint: Option<RetryConstraint>,
        /// What the caller gets when no retry is left.
        "onBudgetExhausted" on_budget_exhausted: Option<OnBudgetExhausted>,
        /// When an endpoint or the service is no longer called.
        "circuitBreaker" circuit_breaker: Option<CircuitBreaker>,
        /// How an endpoint is chosen.
        "loadBalancing" load_balancing: Option<LoadBalancing>,
    }
}

record! {
    /// A retry budget, with the field names of GEP-3388.
    RetryConstraint {
        /// The share of requests that may be retries.
        "budget" budget: Option<RetryBudget>,
        /// Retries that are allowed whatever the share.
        "minRetryRate" min_retry_rate: Option<RetryRate>,
    }
}

record! {
    /// A share of requests over time.
    RetryBudget {
        /// `20` where it is left out.
        "percent" percent: Option<Int<0, 100>>,
        /// `10s` where it is left out.
        "interval" interval: Option<DurationWithin<1_000, 3_600_000>>,
    }
}

record! {
    /// A number over time.
    RetryRate {
        /// `10` where it is left out.
        "count" count: Option<Int<1, 1_000_000>>,
        /// `1s` where it is left out.
        "interval" interval: Option<DurationWithin<1_000, 3_600_000>>,
    }
}

record! {
    /// A circuit breaker.
    CircuitBreaker {
        /// What opens: one endpoint, or the whole service.
        "scope" scope: Option<BreakerScope>,
        /// Over what ratios are counted.
        "window" window: Option<BreakerWindow>,
        /// Opens at this share of failures in the window.
        "failureRatio" failure_ratio: Option<Ratio>,
        /// Opens at this share of slow calls in the window.
        "slowCall" slow_call: Option<SlowCall>,
        /// Opens after so many failures without a success between.
        "consecutiveFailures" consecutive_failures: Option<Int<1, 10_000>>,
        /// How long it stays open.
        "open" open: Option<Located<OpenWait>>,
        /// How it closes again.
        "halfOpen" half_open: Option<Located<HalfOpen>>,
        /// What counts as a failure.
        "failureWhen" failure_when: Option<FailureWhen>,
        /// The share of endpoints that may be open at once; beyond it all are used.
        "maxEjected" max_ejected: Option<Ratio>,
    }
}

record! {
    /// The breaker's window.
    BreakerWindow {
        /// `Time`.
        "type" kind: WindowType,
        /// How long it is.
        "duration" duration: Wait,
        /// No ratio opens the breaker below so many requests.
        "minRequests" min_requests: Option<Int<1, 1_000_000>>,
    }
}

record! {
    /// Slow calls.
    SlowCall {
        /// From here on a call is slow.
        "threshold" threshold: Wait,
        /// The share of slow calls that opens.
        "ratio" ratio: Ratio,
    }
}

record! {
    /// Backoff of an open breaker; doubles each time, up to `max`.
    OpenWait {
        /// First.
        "initial" initial: Wait,
        /// At most; not below `initial`.
        "max" max: Wait,
        /// The share of it that is drawn at random.
        "jitter" jitter: Option<Ratio>,
    }
}

record! {
    /// Probing.
    HalfOpen {
        /// Requests let through at once.
        "maxProbes" max_probes: Int<1, 1_000>,
        /// Successes that close the breaker; at most `maxProbes`.
        "successThreshold" success_threshold: Int<1, 1_000>,
    }
}

record! {
    /// Answers that count as failures.
    FailureWhen {
        /// HTTP statuses.
        "httpCodes" http_codes: List<HttpCode, 0, 64>,
        /// gRPC statuses.
        "grpcCodes" grpc_codes: List<GrpcCodeWord, 0, 17>,
    }
}

record! {
    /// Load balancing.
    LoadBalancing {
        /// `PeakEWMA`: the less loaded of two, by latency and requests under way.
        "algorithm" algorithm: LoadBalancingAlgorithm,
    }
}

record! {
    /// What the service's own sidecars do.
    ServerTraffic {
        /// How many requests the app gets at once.
        "concurrency" concurrency: Option<Located<Concurrency>>,
        /// Where requests above that wait.
        "queue" queue: Option<Queue>,
    }
}

record! {
    /// A concurrency limit; `min` <= `initial` <= `max`.
    Concurrency {
        /// How the limit moves.
        "algorithm" algorithm: ConcurrencyAlgorithm,
        /// Where it begins.
        "initial" initial: Int<1, 100_000>,
        /// The least.
        "min" min: Option<Int<1, 100_000>>,
        /// The most.
        "max" max: Option<Int<1, 100_000>>,
    }
}

record! {
    /// A queue in front of the app.
    Queue {
        /// Requests that wait at most.
        "maxDepth" max_depth: Int<0, 100_000>,
        /// How long each waits at most.
        "maxWait" max_wait: Option<Wait>,
        /// Inside a class.
        "order" order: Option<QueueOrder>,
        /// What is dropped early.
        "drop" drop: Option<QueueDrop>,
        /// Among whom the queue is shared evenly.
        "fairBy" fair_by: Option<FairBy>,
        /// Classes of requests.
        "priority" priority: Option<Priority>,
    }
}

record! {
    /// Classes of requests: the first goes first.
    Priority {
        /// Names the class.
        "header" header: HeaderName,
        /// Each once.
        "classes" classes: Located<List<Located<Label>, 1, 16>>,
        /// Of requests that name none; one of `classes`.
        "default" default: Located<Label>,
        /// Whose header is believed.
        "trustedFrom" trusted_from: List<SpiffeText, 0, 64>,
    }
}

choice! {
    /// What a caller gets when the retry budget is spent.
    OnBudgetExhausted {
        "LastAnswer" => LastAnswer,
        "Status503" => Status503,
    }
}

choice! {
    /// What a breaker opens for.
    BreakerScope {
        "Endpoint" => Endpoint,
        "Service" => Service,
    }
}

choice! {
    /// A kind of window.
    WindowType {
        "Time" => Time,
    }
}

choice! {
    /// A way to choose an endpoint.
    LoadBalancingAlgorithm {
        "PeakEWMA" => PeakEwma,
    }
}

choice! {
    /// How a concurrency limit moves.
    ConcurrencyAlgorithm {
        "Fixed" => Fixed,
        "AIMD" => Aimd,
        "Gradient" => Gradient,
    }
}

choice! {
    /// Who goes first inside a class.
    QueueOrder {
        "Deadline" => Deadline,
        "FIFO" => Fifo,
        "LIFO" => Lifo,
    }
}

choice! {
    /// What a queue drops early.
    QueueDrop {
        "None" => None,
        "CoDel" => CoDel,
    }
}

choice! {
    /// Among whom a queue is shared.
    FairBy {
        "Peer" => Peer,
        "None" => None,
    }
}
