//! What callers' sidecars do: relations between fields, and what they mean.

use super::super::Checker;
use crate::policy::raw::route::GrpcCodeWord;
use crate::policy::raw::traffic::{
    BreakerScope as RawScope, CircuitBreaker, ClientTraffic as RawClient, FailureWhen as RawFailureWhen,
    HealthCheck as RawHealthCheck, LoadBalancingAlgorithm, OnBudgetExhausted as RawExhausted,
    RetryConstraint,
};
use crate::policy::raw::{DurationWithin, HttpCode, Located};
use crate::traffic::{
    Balancing, Breaker, BreakerScope, ClientTraffic, FailureWhen, HealthCheck, HealthCheckKind,
    OnBudgetExhausted, RetryBudget, SlowCall, StatusRange,
};
use crate::units::GepDuration;

/// Between health checks of one endpoint. 5 s, half of what Kubernetes waits: an endpoint that fails is mostly found by its
/// own answers, much earlier.
const INTERVAL: GepDuration = GepDuration::from_millis(5_000);
/// For the answer to one. 1 s, Kubernetes' own.
const TIMEOUT: GepDuration = GepDuration::from_millis(1_000);
/// In a row, until an endpoint is left out: Kubernetes' 3.
const UNHEALTHY: u32 = 3;
/// In a row, until it is used again: one success may be luck.
const HEALTHY: u32 = 2;

pub(super) fn relations(file: &str, given: &RawClient, checker: &mut Checker<'_>) {
    if let Some(breaker) = &given.circuit_breaker {
        self::breaker(file, breaker, checker);
    }
    if let Some(limit) = &given.concurrency {
        super::server::concurrency(file, limit, checker);
    }
    if let Some(check) = &given.health_check {
        health(file, check, checker);
    }
}

fn breaker(file: &str, breaker: &CircuitBreaker, checker: &mut Checker<'_>) {
    if let Some(open) = breaker.open.as_ref().filter(|open| open.value.max.0 < open.value.initial.0) {
        let message = "`max` is below `initial`, so the wait could not grow";
        checker.report(file, &open.place, message, "make `max` at least `initial`".to_owned());
    }
    if let Some(half_open) = &breaker.half_open {
        let (probes, successes) = (half_open.value.max_probes.0, half_open.value.success_threshold.0);
        if successes > probes {
            let message =
                format!("{probes} probes can never have {successes} successes, so it would not close");
            checker.report(
                file,
                &half_open.place,
                message,
                format!("accepted: 1 to {probes} as successThreshold"),
            );
        }
    }
}

fn health(file: &str, check: &Located<RawHealthCheck>, checker: &mut Checker<'_>) {
    let given = &check.value;
    let kinds = [given.http.is_some(), given.grpc.is_some(), given.tcp == Some(true)];
    if kinds.iter().filter(|kind| **kind).count() != 1 {
        let message = "a health check is exactly one of http, grpc, tcp";
        checker.report(
            file,
            &check.place,
            message,
            "keep one of them; `tcp: true` asks for nothing more".to_owned(),
        );
    }
    let (interval, timeout) = (
        given.interval.map_or(INTERVAL, DurationWithin::gep),
        given.timeout.map_or(TIMEOUT, DurationWithin::gep),
    );
    if timeout > interval {
        let message = format!("an answer may take {timeout}, and the next is asked for after {interval}");
        checker.report(file, &check.place, message, format!("accepted: a timeout of at most {interval}"));
    }
}

pub(super) fn apply(client: &mut ClientTraffic, given: &RawClient) {
    if let Some(constraint) = &given.retry_constraint {
        budget(&mut client.retry_budget, constraint);
    }
    if let Some(exhausted) = given.on_budget_exhausted {
        client.on_budget_exhausted = match exhausted {
            RawExhausted::LastAnswer => OnBudgetExhausted::LastAnswer,
            RawExhausted::Status503 => OnBudgetExhausted::Status503,
        };
    }
    if let Some(breaker) = &given.circuit_breaker {
        apply_breaker(&mut client.breaker, breaker);
    }
    if let Some(balancing) = &given.load_balancing {
        client.balancing = match balancing.algorithm {
            LoadBalancingAlgorithm::PeakEwma => Balancing::PeakEwma,
            LoadBalancingAlgorithm::LeastRequest => Balancing::LeastRequest,
            LoadBalancingAlgorithm::RoundRobin => Balancing::RoundRobin,
        };
    }
    if let Some(limit) = &given.concurrency {
        client.concurrency = Some(super::server::limit(&limit.value));
    }
    if let Some(check) = &given.health_check {
        client.health_check = health_check(&check.value);
    }
}

pub(super) fn budget(budget: &mut RetryBudget, given: &RetryConstraint) {
    if let Some(share) = &given.budget {
        if let Some(percent) = share.percent {
            budget.percent = percent.0;
        }
        if let Some(interval) = share.interval {
            budget.interval = interval.gep();
        }
    }
    if let Some(rate) = &given.min_retry_rate {
        if let Some(count) = rate.count {
            budget.rate_min_count = count.0;
        }
        if let Some(interval) = rate.interval {
            budget.rate_min_interval = interval.gep();
        }
    }
}

fn apply_breaker(breaker: &mut Breaker, given: &CircuitBreaker) {
    if let Some(scope) = given.scope {
        breaker.scope = match scope {
            RawScope::Endpoint => BreakerScope::Endpoint,
            RawScope::Service => BreakerScope::Service,
        };
    }
    if let Some(window) = &given.window {
        breaker.window = window.duration.gep();
        if let Some(least) = window.min_requests {
            breaker.requests_min = least.0;
        }
    }
    if let Some(ratio) = given.failure_ratio {
        breaker.failure_ratio = (ratio.0 > 0.0).then_some(ratio.0);
    }
    if let Some(slow) = &given.slow_call {
        breaker.slow_call = Some(SlowCall { threshold: slow.threshold.gep(), ratio: slow.ratio.0 })
            .filter(|slow| slow.ratio > 0.0);
    }
    if let Some(failures) = given.consecutive_failures {
        breaker.consecutive_failures = Some(failures.0);
    }
    if let Some(open) = &given.open {
        breaker.open_initial = open.value.initial.gep();
        breaker.open_max = open.value.max.gep();
        if let Some(jitter) = open.value.jitter {
            breaker.open_jitter = jitter.0;
        }
    }
    if let Some(half_open) = &given.half_open {
        breaker.probes_max = half_open.value.max_probes.0;
        breaker.success_threshold = half_open.value.success_threshold.0;
    }
    if let Some(when) = &given.failure_when {
        breaker.failure_when = failure_when(when);
    }
    if let Some(most) = given.max_ejected {
        breaker.ejected_max = most.0;
    }
}

fn failure_when(given: &RawFailureWhen) -> FailureWhen {
    let range = |code: &HttpCode| match *code {
        HttpCode::One(code) => StatusRange { from: code, to: code },
        HttpCode::Class(class) => {
            let from = u16::from(class) * 100;
            StatusRange { from, to: from + 99 }
        }
    };
    FailureWhen {
        http: given.http_codes.0.iter().map(range).collect(),
        grpc: given.grpc_codes.0.iter().map(|word| grpc_code(*word)).collect(),
        timeouts: given.timeouts.unwrap_or(true),
        resets: given.resets.unwrap_or(true),
        shed: given.shed.unwrap_or(false),
    }
}

/// As gRPC numbers them.
pub(super) fn grpc_code(word: GrpcCodeWord) -> u8 {
    match word {
        GrpcCodeWord::Cancelled => 1,
        GrpcCodeWord::Unknown => 2,
        GrpcCodeWord::InvalidArgument => 3,
        GrpcCodeWord::DeadlineExceeded => 4,
        GrpcCodeWord::NotFound => 5,
        GrpcCodeWord::AlreadyExists => 6,
        GrpcCodeWord::PermissionDenied => 7,
        GrpcCodeWord::ResourceExhausted => 8,
        GrpcCodeWord::FailedPrecondition => 9,
        GrpcCodeWord::Aborted => 10,
        GrpcCodeWord::OutOfRange => 11,
        GrpcCodeWord::Unimplemented => 12,
        GrpcCodeWord::Internal => 13,
        GrpcCodeWord::Unavailable => 14,
        GrpcCodeWord::DataLoss => 15,
        GrpcCodeWord::Unauthenticated => 16,
    }
}

/// `None`: it names no kind, which was reported.
fn health_check(given: &RawHealthCheck) -> Option<HealthCheck> {
    let kind = if let Some(http) = &given.http {
        HealthCheckKind::Http { path: http.path.0.clone() }
    } else if let Some(grpc) = &given.grpc {
        let service = grpc.service.as_ref().map(|service| service.full_name().to_owned());
        HealthCheckKind::Grpc { service: service.unwrap_or_default() }
    } else {
        given.tcp?.then_some(HealthCheckKind::Tcp)?
    };
    Some(HealthCheck {
        kind,
        interval: given.interval.map_or(INTERVAL, DurationWithin::gep),
        timeout: given.timeout.map_or(TIMEOUT, DurationWithin::gep),
        unhealthy_threshold: given.unhealthy_threshold.map_or(UNHEALTHY, |given| given.0),
        healthy_threshold: given.healthy_threshold.map_or(HEALTHY, |given| given.0),
    })
}
