//! The pure ledger of one service.

use std::collections::BTreeMap;
use std::time::Duration;

use outrider_shared::ServiceId;
use outrider_shared::api::QuotaRow;
use outrider_shared::session::InboundTotals;
use serde::{Deserialize, Serialize};

/// Boots at once: as many as there may be sessions, so that only one without a session is ever folded for another. Past it
/// the one that was silent for longest is folded.
pub const BOOTS_MAX: usize = 10_000;
/// Peers by name, over all boots, those that are over included; what comes after is counted as `_other`.
pub const PEERS_MAX: usize = 2_000;
/// Rows (boot, port and peer) by name; a boot has one more for what comes after. 20,000: 3 MB of JSON, which is what is
/// written every five seconds at most.
pub const ROWS_MAX: usize = 20_000;
/// A boot that was silent for so long gives its rows up when there is no room for others'. An hour of this ledger's own
/// running, in which sidecars could have reported.
pub const SILENT_AFTER: Duration = Duration::from_hours(1);
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

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            refusals: self.refusals.saturating_sub(other.refusals),
            failures: self.failures.saturating_sub(other.failures),
            bytes_received: self.bytes_received.saturating_sub(other.bytes_received),
            bytes_sent: self.bytes_sent.saturating_sub(other.bytes_sent),
        }
    }
}

/// By `port peer`.
type Rows = BTreeMap<String, Counts>;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    /// When it was last heard of, on the ledger's own clock.
    heard: Duration,
    rows: Rows,
    /// Of a boot that came back after it was folded: where its counts stood then. Only what is beyond counts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    counted: Rows,
}

impl Boot {
    /// What it has used, by peer.
    fn used(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.rows.iter().map(|(key, counts)| {
            let peer = key.split_once(' ').map_or(key.as_str(), |(_, peer)| peer);
            (peer, counts.minus(self.counted.get(key).copied().unwrap_or_default()))
        })
    }
}

/// One boot's counts since its start.
pub struct Said<'a> {
    pub boot: &'a str,
    /// How long it has run.
    pub uptime: Duration,
    pub rows: &'a [InboundTotals],
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// For how long this ledger has run, over all starts of the control plane.
    running: Duration,
    boots: BTreeMap<String, Boot>,
    /// What boots used that were folded, by peer. Whoever has a row by name is in it, with nothing at first.
    folded: BTreeMap<String, Counts>,
    /// Rows of all boots.
    #[serde(default)]
    row_count: usize,
    /// When a folded boot was last heard of, on the ledger's own clock: one that began later was never folded.
    #[serde(default)]
    folded_until: Option<Duration>,
}

impl Ledger {
    /// Takes a boot's counts; says whether anything grew.
    pub fn add(&mut self, said: &Said<'_>) -> bool {
        let is_new = !self.boots.contains_key(said.boot);
        let may_be_folded = is_new && self.may_have_been_folded(said.uptime);
        if is_new && self.boots.len() >= BOOTS_MAX {
            let longest = self.longest_silent().expect("there are as many as may be");
            self.fold(&longest);
        }
        let mut boot = self.boots.remove(said.boot).unwrap_or_default();
        boot.heard = self.running;
        let fresh = self.by_row(&boot, said.rows);
        if may_be_folded {
            boot.counted.clone_from(&fresh);
        }
        let mut grew = is_new;
        for (key, counts) in fresh {
            let known = boot.rows.entry(key).or_insert_with(|| {
                self.row_count += 1;
                Counts::default()
            });
            let next = known.max(counts);
            grew |= next != *known;
            *known = next;
        }
        self.boots.insert(said.boot.to_owned(), boot);
        grew
    }

    /// The counts by the rows in which they are kept.
    fn by_row(&mut self, boot: &Boot, rows: &[InboundTotals]) -> Rows {
        let overflow = format!("0 {OTHER}");
        // A row that was counted among the rest stays there: by a name of its own it would be counted twice.
        let closed = boot.rows.contains_key(&overflow);
        let (mut fresh, mut other, mut added) = (Rows::new(), Counts::default(), 0);
        for row in rows {
            let key = format!("{} {}", row.port, row.peer);
            let has_row = boot.rows.contains_key(&key) || fresh.contains_key(&key);
            if has_row || (!closed && self.makes_room(added) && self.has_name(&row.peer)) {
                added += usize::from(!has_row);
                fresh.insert(key, Counts::of(row));
            } else {
                other = other.plus(Counts::of(row));
            }
        }
        if other != Counts::default() {
            fresh.insert(overflow, other);
        }
        fresh
    }

    /// Whether there is room for one row more than `added`, after boots that have been silent gave theirs up.
    fn makes_room(&mut self, added: usize) -> bool {
        while self.row_count + added >= ROWS_MAX {
            let Some(longest) = self.longest_silent() else { return false };
            if self.running.saturating_sub(self.boots[&longest].heard) <= SILENT_AFTER {
                return false;
            }
            self.fold(&longest);
        }
        true
    }

    /// Whether a peer has a row by its name, in all totals.
    fn has_name(&mut self, peer: &str) -> bool {
        if !self.folded.contains_key(peer) {
            if self.folded.len() >= PEERS_MAX {
                return false;
            }
            self.folded.insert(peer.to_owned(), Counts::default());
        }
        true
    }

    /// Of an unknown boot. The ledger's clock is never ahead of a boot's, so this errs only towards yes: such a boot's
    /// counts up to now may be in the totals already, and are not added again.
    fn may_have_been_folded(&self, uptime: Duration) -> bool {
        self.folded_until.is_some_and(|until| self.running.saturating_sub(uptime) <= until)
    }

    fn longest_silent(&self) -> Option<String> {
        self.boots.iter().min_by_key(|(_, boot)| boot.heard).map(|(name, _)| name.clone())
    }

    fn fold(&mut self, name: &str) {
        let boot = self.boots.remove(name).expect("only a boot that is there is folded");
        self.row_count = self.row_count.saturating_sub(boot.rows.len());
        self.folded_until = self.folded_until.max(Some(boot.heard));
        for (peer, counts) in boot.used() {
            let sum = self.folded.entry(peer.to_owned()).or_default();
            *sum = sum.plus(counts);
        }
    }

    /// Takes note that so much time has passed.
    pub fn pass(&mut self, time: Duration) {
        self.running += time;
    }

    /// Totals by peer.
    pub fn rows(&self, service: &ServiceId) -> Vec<QuotaRow> {
        let mut totals = self.folded.clone();
        for (peer, counts) in self.boots.values().flat_map(Boot::used) {
            let sum = totals.entry(peer.to_owned()).or_default();
            *sum = sum.plus(counts);
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
