//! The pure ledger of one service.

use std::collections::BTreeMap;
use std::time::Duration;

use outrider_shared::ServiceId;
use outrider_shared::api::QuotaRow;
use outrider_shared::session::InboundTotals;
use serde::{Deserialize, Serialize};

/// A boot that was silent for so long is folded. A day of this ledger's own running, in which sidecars could have
/// reported: neither a clock that jumps nor a control plane that was away for a week folds a boot that lives, whose next
/// report would then be counted twice.
pub const FOLD_AFTER: Duration = Duration::from_hours(24);
/// Boots at once; past it the one that was silent for longest is folded early. More than a service has sidecars, and room
/// for some that start again and again.
pub const BOOTS_MAX: usize = 2_000;
/// Rows by name over all boots; what comes after is counted as `_other`.
pub const ROWS_MAX: usize = 2_000;
/// Where counts go whose peer has no row of its own.
const OTHER: &str = "_other";

/// Counts of one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub requests: u64,
    pub refusals: u64,
    pub failures: u64,
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

impl Counts {
    fn of(row: &InboundTotals) -> Self {
        Self {
            requests: row.requests,
            refusals: row.refusals,
            failures: row.failures,
            bytes_received: row.bytes_received,
            bytes_sent: row.bytes_sent,
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            requests: self.requests.max(other.requests),
            refusals: self.refusals.max(other.refusals),
            failures: self.failures.max(other.failures),
            bytes_received: self.bytes_received.max(other.bytes_received),
            bytes_sent: self.bytes_sent.max(other.bytes_sent),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            refusals: self.refusals.saturating_add(other.refusals),
            failures: self.failures.saturating_add(other.failures),
            bytes_received: self.bytes_received.saturating_add(other.bytes_received),
            bytes_sent: self.bytes_sent.saturating_add(other.bytes_sent),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    /// When it was last heard of, on the ledger's own clock.
    heard: Duration,
    /// By `port peer`.
    rows: BTreeMap<String, Counts>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// For how long this ledger has run, over all starts of the control plane.
    running: Duration,
    boots: BTreeMap<String, Boot>,
    /// Of boots that are over, by peer.
    folded: BTreeMap<String, Counts>,
}

impl Ledger {
    /// Takes a boot's counts since its start; says whether anything grew.
    pub fn add(&mut self, boot: &str, rows: &[InboundTotals]) -> bool {
        let mut grew = !self.boots.contains_key(boot);
        if grew && self.boots.len() >= BOOTS_MAX {
            let longest = self.boots.iter().min_by_key(|(_, boot)| boot.heard).map(|(name, _)| name.clone());
            self.fold_boot(&longest.expect("there are as many as may be"));
        }
        let known: usize = self.boots.values().map(|boot| boot.rows.len()).sum();
        let boot = self.boots.entry(boot.to_owned()).or_default();
        boot.heard = self.running;
        let overflow = format!("0 {OTHER}");
        // A row that was counted among the rest stays there: by a name of its own it would be counted twice.
        let mut room = if boot.rows.contains_key(&overflow) { 0 } else { ROWS_MAX.saturating_sub(known) };
        let mut other = Counts::default();
        for row in rows {
            let key = format!("{} {}", row.port, row.peer);
            let fresh = Counts::of(row);
            match boot.rows.get_mut(&key) {
                Some(counts) => {
                    let next = counts.max(fresh);
                    grew |= next != *counts;
                    *counts = next;
                }
                None if room > 0 => {
                    room -= 1;
                    grew = true;
                    boot.rows.insert(key, fresh);
                }
                None => other = other.plus(fresh),
            }
        }
        if other != Counts::default() {
            let counts = boot.rows.entry(overflow).or_default();
            let next = counts.max(other);
            grew |= next != *counts;
            *counts = next;
        }
        grew
    }

    /// Takes note that so much time has passed, and folds boots that have been silent; says whether there were any.
    pub fn pass(&mut self, time: Duration) -> bool {
        self.running += time;
        let silent = |boot: &Boot| self.running.saturating_sub(boot.heard) > FOLD_AFTER;
        let over: Vec<String> =
            self.boots.iter().filter(|(_, boot)| silent(boot)).map(|(name, _)| name.clone()).collect();
        for name in &over {
            self.fold_boot(name);
        }
        !over.is_empty()
    }

    fn fold_boot(&mut self, name: &str) {
        let rows = self.boots.remove(name).map(|boot| boot.rows);
        for (key, counts) in rows.into_iter().flatten() {
            let peer = key.split_once(' ').map_or(key.as_str(), |(_, peer)| peer);
            let by_name = self.folded.len() < ROWS_MAX || self.folded.contains_key(peer);
            let sum = self.folded.entry(if by_name { peer } else { OTHER }.to_owned()).or_default();
            *sum = sum.plus(counts);
        }
    }

    /// Totals by peer.
    pub fn rows(&self, service: &ServiceId) -> Vec<QuotaRow> {
        let mut totals = self.folded.clone();
        for (key, counts) in self.boots.values().flat_map(|boot| &boot.rows) {
            let peer = key.split_once(' ').map_or(key.as_str(), |(_, peer)| peer);
            let sum = totals.entry(peer.to_owned()).or_default();
            *sum = sum.plus(*counts);
        }
        let row = |(peer, counts): (String, Counts)| QuotaRow {
            service: service.clone(),
            peer,
            requests: counts.requests,
            refusals: counts.refusals,
            failures: counts.failures,
            bytes_received: counts.bytes_received,
            bytes_sent: counts.bytes_sent,
        };
        totals.into_iter().map(row).collect()
    }
}
