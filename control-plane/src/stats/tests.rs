//! What a service is said to do, from reports that are whole, missing, restarted, or wrong.

use std::time::{Duration, Instant};

use outrider_shared::session::{InboundTotals, Report, latency_bucket, latency_bucket_us};
use outrider_shared::{ServiceId, SidecarId};

use super::{WINDOW, Windows};

fn service() -> ServiceId {
    "shop/orders".parse().unwrap()
}

fn sidecar(n: u8) -> SidecarId {
    format!("{n:02x}").parse().unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

fn row(requests: u64, failures: u64) -> InboundTotals {
    InboundTotals {
        port: 80,
        peer: "p".to_owned(),
        mtls: true,
        requests,
        failures,
        ..InboundTotals::default()
    }
}

fn report(boot: &str, inbound: Vec<InboundTotals>) -> Report {
    Report { boot: boot.to_owned(), inbound, ..Report::default() }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn a_service_without_reports_has_no_success_and_no_latency() {
    let stat = Windows::default().stat(&service(), Instant::now());
    assert_eq!((stat.success, stat.p50_ms, stat.mtls), (None, None, None));
    assert!(close(stat.rps, 0.0));
}

#[test]
fn what_was_counted_before_the_first_report_is_not_of_this_window() {
    let now = Instant::now();
    let mut windows = Windows::default();
    windows.add(&sidecar(1), &service(), &report("a", vec![row(1_000_000, 0)]), now);
    assert_eq!(windows.stat(&service(), now).success, None);
    windows.add(&sidecar(1), &service(), &report("a", vec![row(1_000_010, 5)]), now + SECOND);
    let stat = windows.stat(&service(), now + SECOND);
    assert!(close(stat.rps, 10.0) && close(stat.success.unwrap(), 0.5), "{stat:?}");
    assert!(close(stat.mtls.unwrap(), 1.0));
    assert_eq!(stat.peers, ["p"]);
}

#[test]
fn a_sidecar_that_restarted_counts_from_zero_again() {
    let now = Instant::now();
    let mut windows = Windows::default();
    windows.add(&sidecar(1), &service(), &report("a", vec![row(500, 0)]), now);
    windows.add(&sidecar(1), &service(), &report("b", vec![row(3, 0)]), now + SECOND);
    windows.add(&sidecar(1), &service(), &report("b", vec![row(8, 4)]), now + SECOND * 2);
    let stat = windows.stat(&service(), now + SECOND * 2);
    assert!(close(stat.rps, 8.0) && close(stat.success.unwrap(), 0.5), "{stat:?}");
}

#[test]
fn a_restarted_sidecar_that_is_heard_of_late_makes_no_spike() {
    let now = Instant::now();
    let mut windows = Windows::default();
    windows.add(&sidecar(1), &service(), &report("a", vec![row(500, 0)]), now);
    let late = |requests, uptime_ms| Report { uptime_ms, ..report("b", vec![row(requests, 0)]) };
    windows.add(&sidecar(1), &service(), &late(60_000, 600_000), now + SECOND);
    assert_eq!(windows.stat(&service(), now + SECOND).success, None);
    windows.add(&sidecar(1), &service(), &late(60_100, 601_000), now + SECOND * 2);
    let stat = windows.stat(&service(), now + SECOND * 2);
    assert!(close(stat.rps, 100.0), "{stat:?}");
}

#[test]
fn a_restarted_sidecars_first_seconds_are_spread_over_the_time_that_it_has_run() {
    let now = Instant::now() + SECOND * 10;
    let mut windows = Windows::default();
    windows.add(&sidecar(1), &service(), &report("a", vec![row(500, 0)]), now);
    let first = Report { uptime_ms: 4_000, ..report("b", vec![row(80, 0)]) };
    windows.add(&sidecar(1), &service(), &first, now + SECOND);
    let stat = windows.stat(&service(), now + SECOND);
    assert!(close(stat.rps, 20.0), "{stat:?}");
}

#[test]
fn reports_that_are_missing_change_the_rate_only_by_the_time_between() {
    let now = Instant::now();
    let mut windows = Windows::default();
    windows.add(&sidecar(1), &service(), &report("a", vec![row(0, 0)]), now);
    windows.add(&sidecar(1), &service(), &report("a", vec![row(80, 0)]), now + SECOND * 8);
    let stat = windows.stat(&service(), now + SECOND * 8);
    assert!(close(stat.rps, 10.0), "{stat:?}");
}

#[test]
fn a_sidecar_that_fell_silent_leaves_the_window() {
    let now = Instant::now();
    let mut windows = Windows::default();
    for n in 0..3_u32 {
        let inbound = vec![row(u64::from(n) * 10, 0)];
        windows.add(&sidecar(1), &service(), &report("a", inbound), now + SECOND * n);
    }
    assert!(windows.stat(&service(), now + SECOND * 2).success.is_some());
    assert_eq!(windows.stat(&service(), now + SECOND * 3 + WINDOW).success, None);
}

#[test]
fn the_sidecars_of_a_service_are_added_up_and_those_of_another_are_not() {
    let now = Instant::now();
    let other: ServiceId = "shop/payments".parse().unwrap();
    let mut windows = Windows::default();
    for (n, service) in [(1, &service()), (2, &service()), (3, &other)] {
        windows.add(&sidecar(n), service, &report("a", vec![row(0, 0)]), now);
        windows.add(&sidecar(n), service, &report("a", vec![row(10, 1)]), now + SECOND);
    }
    let stat = windows.stat(&service(), now + SECOND);
    assert!(close(stat.rps, 20.0) && close(stat.success.unwrap(), 0.9), "{stat:?}");
    windows.retain(|sidecar| *sidecar == self::sidecar(3));
    assert_eq!(windows.stat(&service(), now + SECOND).success, None);
}

#[test]
fn quantiles_are_of_the_window_alone() {
    let now = Instant::now();
    let (fast, slow) = (latency_bucket(1_000), latency_bucket(400_000));
    let with = |requests, latency: Vec<(u16, u64)>| InboundTotals { latency, ..row(requests, 0) };
    let mut windows = Windows::default();
    // A slow past, which the window must not see.
    let before = with(1_000, vec![(slow, 1_000)]);
    windows.add(&sidecar(1), &service(), &report("a", vec![before]), now);
    let after = with(1_100, vec![(fast, 97), (slow, 1_003)]);
    windows.add(&sidecar(1), &service(), &report("a", vec![after]), now + SECOND);
    let stat = windows.stat(&service(), now + SECOND);
    let ms = |bucket| Duration::from_micros(latency_bucket_us(bucket)).as_secs_f64() * 1e3;
    assert!(close(stat.p50_ms.unwrap(), ms(fast)) && close(stat.p95_ms.unwrap(), ms(fast)));
    assert!(close(stat.p99_ms.unwrap(), ms(slow)), "{stat:?}");
}

#[test]
fn numbers_that_do_not_add_up_do_no_harm() {
    let now = Instant::now();
    let mut windows = Windows::default();
    let wrong = |n| {
        let latency = vec![(u16::MAX, u64::MAX), (0, u64::MAX), (0, u64::MAX)];
        InboundTotals { port: n, failures: u64::MAX, latency, ..row(u64::MAX, 0) }
    };
    for at in 0..2_u32 {
        let inbound = if at == 0 { Vec::new() } else { vec![wrong(1), wrong(2)] };
        windows.add(&sidecar(1), &service(), &report("a", inbound), now + SECOND * at);
    }
    let stat = windows.stat(&service(), now + SECOND);
    assert!(close(stat.success.unwrap(), 0.0), "{stat:?}");
    // Counters that go back count as nothing.
    windows.add(&sidecar(1), &service(), &report("a", vec![row(1, 0)]), now + SECOND * 2);
    assert_eq!(windows.stat(&service(), now + SECOND * 2).success, Some(1.0));
}
