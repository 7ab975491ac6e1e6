//! What the registry answers to whoever asks: services, sidecars, upstreams, quota.

use std::time::Instant;

use outrider_shared::api::{QuotaRow, SidecarUpstreams, SidecarView, StatAnswer};
use outrider_shared::{ServiceId, SidecarId};
use ractor::call_t;

use super::actor::{Known, State};
use super::machine::Member;
use crate::stats::WINDOW;
use crate::{authority, quota};

/// A ledger answers from memory; one that does not is left out, and the disk's rows are shown.
const LEDGER_MAX_MS: u64 = 500;

impl State {
    pub(super) fn stat(&self, now: Instant) -> StatAnswer {
        let policy = self.parts.policy.load();
        let published = self.machine.published();
        let unix_s = authority::now_unix_s();
        let services = policy.policy.services().map(|service| {
            let id = service.id();
            let mut stat = self.windows.stat(id, now);
            stat.sidecars =
                count(self.known.values().filter(|known| known.session.is_some() && known.service == *id));
            let endpoints = published.iter().filter(|(of, _)| of == id).flat_map(|(_, endpoints)| endpoints);
            stat.endpoints = count(endpoints);
            let leaves = self.known.values().filter(|known| known.service == *id).filter_map(|known| {
                // A peer's number.
                let leaf = known.report.as_ref()?.1.leaf.as_ref()?;
                Some(leaf.not_after_unix_s.saturating_sub(unix_s))
            });
            stat.cert_remaining_s = leaves.min();
            let connected =
                self.known.values().filter(|known| known.session.is_some() && known.service == *id);
            let overloads = connected.filter_map(|known| known.report.as_ref()?.1.overload.as_ref());
            stat.overload_level = overloads.map(|overload| overload.level).max().unwrap_or(0);
            stat
        });
        StatAnswer { window_s: WINDOW.as_secs_f64(), revision: policy.revision, services: services.collect() }
    }

    pub(super) fn views(&self) -> Vec<SidecarView> {
        let members = self.machine.members();
        let view = |(sidecar, known): (&SidecarId, &Known)| {
            let member = members.get(sidecar);
            let report = known.report.as_ref().map(|(_, report)| report);
            SidecarView {
                sidecar: sidecar.clone(),
                service: known.service.clone(),
                address: member.map(|member| member.address.to_string()),
                connected: known.session.is_some(),
                published: member.is_some_and(Member::is_published),
                unpublished_because: member.and_then(Member::unpublished_because),
                acked: member.and_then(|member| member.acked),
                nack: known.nack.clone(),
                build: known.build.clone(),
                leaf: report.and_then(|report| report.leaf.clone()),
                draining: report.is_some_and(|report| report.draining),
                bypassable: report.is_some_and(|report| report.bypassable),
            }
        };
        let mut views: Vec<_> = self.known.iter().map(view).collect();
        views.sort_by(|a, b| (&a.service, &a.sidecar).cmp(&(&b.service, &b.sidecar)));
        views
    }

    pub(super) async fn quota(&self) -> Vec<(ServiceId, Vec<QuotaRow>)> {
        let mut all = Vec::with_capacity(self.ledgers.len());
        for (service, ledger) in &self.ledgers {
            if let Ok(rows) = call_t!(ledger, quota::Message::Rows, LEDGER_MAX_MS) {
                all.push((service.clone(), rows));
            }
        }
        all
    }

    pub(super) fn upstreams(&self, now: Instant) -> Vec<SidecarUpstreams> {
        let mut all: Vec<_> = self
            .known
            .iter()
            .filter_map(|(sidecar, known)| {
                let (at, report) = known.report.as_ref()?;
                let age = now.saturating_duration_since(*at).as_millis();
                Some(SidecarUpstreams {
                    sidecar: sidecar.clone(),
                    service: known.service.clone(),
                    age_ms: u64::try_from(age).unwrap_or(u64::MAX),
                    upstreams: report.upstreams.clone(),
                    events: report.events.clone(),
                    overload: report.overload.clone(),
                })
            })
            .collect();
        all.sort_by(|a, b| (&a.service, &a.sidecar).cmp(&(&b.service, &b.sidecar)));
        all
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
