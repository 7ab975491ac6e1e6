//! The last ten seconds of each service, from its sidecars' cumulative reports. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use outrider_shared::api::ServiceStat;
use outrider_shared::session::{InboundTotals, Report, latency_quantile_us};
use outrider_shared::{ServiceId, SidecarId};

/// How far back it looks.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Reports kept of one sidecar: one each second, and the one before the window.
const SAMPLES_MAX: usize = 12;

/// One sidecar's recent reports.
#[derive(Debug)]
struct Window {
    service: ServiceId,
    boot: String,
    samples: VecDeque<(Instant, Vec<InboundTotals>)>,
}

/// All sidecars'.
#[derive(Debug, Default)]
pub struct Windows(HashMap<SidecarId, Window>);

/// What happened in a window.
#[derive(Debug, Default)]
struct Delta {
    requests: u64,
    failures: u64,
    refusals: u64,
    mtls: u64,
    latency: BTreeMap<u16, u64>,
    peers: Vec<String>,
    seconds: f64,
}

impl Windows {
    pub fn add(&mut self, sidecar: &SidecarId, service: &ServiceId, report: &Report, now: Instant) {
        let window = self.0.entry(sidecar.clone()).or_insert_with(|| Window {
            service: service.clone(),
            boot: report.boot.clone(),
            samples: VecDeque::new(),
        });
        if window.boot != report.boot || window.service != *service {
            window.samples.clear();
            // A restart counts from zero again, and it was at zero when it began. Of one that was heard of late, what it
            // counted before is not of this window.
            let uptime = Duration::from_millis(report.uptime_ms);
            let began = now.checked_sub(uptime).filter(|_| uptime <= WINDOW);
            window.samples.extend(began.map(|began| (began, Vec::new())));
            window.boot.clone_from(&report.boot);
            window.service.clone_from(service);
        }
        window.samples.push_back((now, report.inbound.clone()));
        while window.samples.len() > SAMPLES_MAX {
            window.samples.pop_front();
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&SidecarId) -> bool) {
        self.0.retain(|sidecar, _| keep(sidecar));
    }

    /// What its sidecars saw together.
    pub fn stat(&self, service: &ServiceId, now: Instant) -> ServiceStat {
        let mut total = Delta::default();
        for window in self.0.values().filter(|window| window.service == *service) {
            window.add_to(&mut total, now);
        }
        let latency: Vec<(u16, u64)> = total.latency.into_iter().collect();
        let share = |part: u64| (total.requests > 0).then(|| ratio(part, total.requests));
        let quantile_ms = |q| {
            (total.requests > 0)
                .then(|| Duration::from_micros(latency_quantile_us(&latency, q)).as_secs_f64() * 1e3)
        };
        let per_s = |n: u64| if total.seconds > 0.0 { ratio(n, 1) / total.seconds } else { 0.0 };
        total.peers.sort_unstable();
        total.peers.dedup();
        ServiceStat {
            name: service.name().to_owned(),
            namespace: service.namespace().to_owned(),
            success: share(total.requests.saturating_sub(total.failures)),
            rps: per_s(total.requests),
            p50_ms: quantile_ms(0.5),
            p95_ms: quantile_ms(0.95),
            p99_ms: quantile_ms(0.99),
            peers: total.peers,
            mtls: share(total.mtls),
            sidecars: 0,
            endpoints: 0,
            cert_remaining_s: None,
            refusals_per_s: per_s(total.refusals),
            // The registry's to say.
            overload_level: 0,
        }
    }
}

impl Window {
    fn add_to(&self, total: &mut Delta, now: Instant) {
        let Some((last_at, last)) = self.samples.back() else { return };
        if now.saturating_duration_since(*last_at) > WINDOW {
            return;
        }
        let inside = |at: &Instant| now.saturating_duration_since(*at) <= WINDOW;
        let first = self.samples.iter().find(|(at, _)| inside(at));
        let Some((first_at, first)) = first.filter(|(at, _)| at < last_at) else { return };
        total.seconds = total.seconds.max(last_at.saturating_duration_since(*first_at).as_secs_f64());
        for row in last {
            let before = first.iter().find(|before| before.port == row.port && before.peer == row.peer);
            let since = |now: u64, of: fn(&InboundTotals) -> u64| now.saturating_sub(before.map_or(0, of));
            let requests = since(row.requests, |row| row.requests);
            if requests == 0 {
                continue;
            }
            // A peer's numbers: they may not add up.
            let grow = |sum: &mut u64, by: u64| *sum = sum.saturating_add(by);
            grow(&mut total.requests, requests);
            grow(&mut total.failures, since(row.failures, |row| row.failures));
            grow(&mut total.refusals, since(row.refusals, |row| row.refusals));
            grow(&mut total.mtls, if row.mtls { requests } else { 0 });
            total.peers.push(row.peer.clone());
            for &(bucket, n) in &row.latency {
                let known =
                    before.and_then(|before| before.latency.iter().find(|(known, _)| *known == bucket));
                let fresh = n.saturating_sub(known.map_or(0, |(_, n)| *n));
                grow(total.latency.entry(bucket).or_default(), fresh);
            }
        }
    }
}

/// Exact for all counts that a window can hold.
fn ratio(part: u64, whole: u64) -> f64 {
    let float = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    float(part) / float(whole)
}

#[cfg(test)]
mod tests;
