//! `BackendTrafficPolicy` and Gateway API's `XBackendTrafficPolicy`: how a backend is called and protected.

use super::targets::TargetRef;
use super::{DurationWithin, HttpCode, Int, List, Located, NotBuilt, Ratio};
use crate::policy::raw::authorization::SpiffeText;
use crate::policy::raw::metadata::Label;
use crate::policy::raw::route::{GrpcCodeWord, GrpcServiceName, HeaderName, PathText};

/// What breaker, queue and budget wait for: 1 ms to 1 h.
type Wait = DurationWithin<1, 3_600_000>;

record! {
    /// Limits retries towards a service (`gateway.networking.x-k8s.io/v1alpha1`, as it stands); when no retry is left the caller
    /// gets 503. Of two policies of one service, `BackendTrafficPolicy` wins field by field.
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
    /// How a service is called and protected. What is left out has the product's default, as it has without any policy.
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
        /// What the caller gets when no retry is left; `LastAnswer` where it is left out.
        "onBudgetExhausted" on_budget_exhausted: Option<OnBudgetExhausted>,
        /// When an endpoint or the service is no longer called.
        "circuitBreaker" circuit_breaker: Option<CircuitBreaker>,
        /// How an endpoint is chosen.
        "loadBalancing" load_balancing: Option<LoadBalancing>,
        /// How many requests one sidecar has under way to the service. Left out: as many as the sidecar takes at all.
        "concurrency" concurrency: Option<Located<Concurrency>>,
        /// Asks each endpoint by itself whether it is well. Left out: nobody asks.
        "healthCheck" health_check: Option<Located<HealthCheck>>,
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
        /// What opens: one endpoint, or the whole service. `Endpoint` where it is left out.
        "scope" scope: Option<BreakerScope>,
        /// Over what ratios are counted; 10 s, and 20 requests at least, where it is left out.
        "window" window: Option<BreakerWindow>,
        /// Opens at this share of failures in the window; 0.5 where it is left out, 0: no share of failures opens it.
        "failureRatio" failure_ratio: Option<Ratio>,
        /// Opens at this share of slow calls in the window.
        "slowCall" slow_call: Option<SlowCall>,
        /// Opens after so many failures without a success between.
        "consecutiveFailures" consecutive_failures: Option<Int<1, 10_000>>,
        /// How long it stays open; from 1 s to 30 s where it is left out.
        "open" open: Option<Located<OpenWait>>,
        /// How it closes again; after 2 successes of at most 3 probes at once where it is left out.
        "halfOpen" half_open: Option<Located<HalfOpen>>,
        /// What counts as a failure; 502 to 504, `UNAVAILABLE` and `DEADLINE_EXCEEDED`, timeouts and resets where it is left out.
        /// Failed connections always count, a client that went away never does.
        "failureWhen" failure_when: Option<FailureWhen>,
        /// The share of endpoints that may be left out at once; beyond it all are used. With 1, requests are refused while all
        /// are left out. 0.5 where it is left out.
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
        /// No ratio opens the breaker below so many requests; 20 where it is left out.
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
        /// The share of it that is drawn at random; 0.5 where it is left out.
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
    /// Ends that count as failures.
    FailureWhen {
        /// HTTP statuses.
        "httpCodes" http_codes: List<HttpCode, 0, 64>,
        /// gRPC statuses.
        "grpcCodes" grpc_codes: List<GrpcCodeWord, 0, 17>,
        /// Whether no answer within the attempt's or the request's time counts; `true` where it is left out.
        "timeouts" timeouts: Option<bool>,
        /// Whether a stream that ended before its answer did counts; `true` where it is left out.
        "resets" resets: Option<bool>,
        /// Whether what the far sidecar refused on purpose, by its limit or its queue, counts too; `false` where it is left
        /// out.
        "shed" shed: Option<bool>,
    }
}

record! {
    /// Load balancing.
    LoadBalancing {
        /// `PeakEWMA`: the better of two at random, by latency and requests under way; `LeastRequest`: by requests under way
        /// alone; `RoundRobin`: one after the other.
        "algorithm" algorithm: LoadBalancingAlgorithm,
    }
}

record! {
    /// What the service's own sidecars do.
    ServerTraffic {
        /// How many requests the app gets at once. Left out: learnt, from 128, between 2 and 1,024.
        "concurrency" concurrency: Option<Located<Concurrency>>,
        /// Where requests above that wait. Left out: 256 of them, 1 s at most.
        "queue" queue: Option<Queue>,
    }
}

record! {
    /// A concurrency limit; `min` <= `initial` <= `max`.
    Concurrency {
        /// `Fixed`: stays at `initial`; `AIMD`: grows by one while all goes well, shrinks by a tenth at overload; `Gradient`:
        /// by the least latency seen, compared with the present one. With the latter two a request counts up to its answer's
        /// head, with `Fixed` to its end.
        "algorithm" algorithm: ConcurrencyAlgorithm,
        /// Where it begins.
        "initial" initial: Int<1, 100_000>,
        /// The least; 1 where it is left out.
        "min" min: Option<Int<1, 100_000>>,
        /// The most; 1,024 where it is left out, or `initial` if that is more.
        "max" max: Option<Int<1, 100_000>>,
    }
}

record! {
    /// A queue in front of the app.
    Queue {
        /// Requests that wait at most; 0: none waits.
        "maxDepth" max_depth: Int<0, 100_000>,
        /// How long each waits at most; `1s` where it is left out.
        "maxWait" max_wait: Option<Wait>,
        /// Inside a class; `Deadline` where it is left out.
        "order" order: Option<QueueOrder>,
        /// What is dropped early, beside what cannot be answered before its deadline; `None` where it is left out.
        "drop" drop: Option<QueueDrop>,
        /// Among whom the queue is shared evenly; `Peer` where it is left out.
        "fairBy" fair_by: Option<FairBy>,
        /// Classes of requests.
        "priority" priority: Option<Priority>,
    }
}

record! {
    /// Classes of requests: the first goes first, or each gets its share by `weights`.
    Priority {
        /// Names the class.
        "header" header: HeaderName,
        /// Each once.
        "classes" classes: Located<List<Located<Label>, 1, 16>>,
        /// One for each class. Left out: a class waits until those before it have nobody waiting.
        "weights" weights: Option<Located<List<Int<1, 1_000>, 1, 16>>>,
        /// Of requests that name none; one of `classes`.
        "default" default: Located<Label>,
        /// Whose header is believed, and whose sidecar where there is none. All others are in the default class, or in a less
        /// important one that they name.
        "trustedFrom" trusted_from: List<SpiffeText, 0, 64>,
    }
}

record! {
    /// Asks each endpoint whether it is well. Exactly one of `http`, `grpc`, `tcp`.
    HealthCheck {
        /// `GET` of a path; a status from 200 to 399 is well.
        "http" http: Option<HttpHealthCheck>,
        /// `grpc.health.v1.Health/Check`; SERVING is well.
        "grpc" grpc: Option<GrpcHealthCheck>,
        /// A connection to the sidecar, and its handshake; `true`.
        "tcp" tcp: Option<bool>,
        /// `5s` where it is left out.
        "interval" interval: Option<DurationWithin<100, 3_600_000>>,
        /// Of one answer; `1s` where it is left out.
        "timeout" timeout: Option<DurationWithin<10, 60_000>>,
        /// Failures in a row until an endpoint is left out; `3` where it is left out.
        "unhealthyThreshold" unhealthy_threshold: Option<Int<1, 100>>,
        /// Successes in a row until it is used again; `2` where it is left out.
        "healthyThreshold" healthy_threshold: Option<Int<1, 100>>,
    }
}

record! {
    /// A health check over HTTP.
    HttpHealthCheck {
        /// Where it asks.
        "path" path: PathText,
    }
}

record! {
    /// A health check over gRPC.
    GrpcHealthCheck {
        /// Left out: of the server as a whole.
        "service" service: Option<GrpcServiceName>,
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
        "LeastRequest" => LeastRequest,
        "RoundRobin" => RoundRobin,
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
