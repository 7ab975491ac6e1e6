//! Counters by a label that is only known when it is counted.

use std::sync::OnceLock;

use super::Counter;

/// Labels of one kind on one shard. 64: there are about 30 refusals, and a rule that audits is rare; a search from the
/// front over so few is cheaper than a hash.
pub const LABELS_MAX: usize = 64;
/// Where everything past a bound is counted.
pub const OTHER: &str = "_other";

/// A count for each label, in the order in which they were first counted; one writer, as [`Counter`].
#[derive(Debug)]
pub struct LabelledCounters {
    slots: Box<[Slot]>,
    other: Counter,
}

#[derive(Debug, Default)]
struct Slot {
    label: OnceLock<Box<str>>,
    count: Counter,
}

impl Default for LabelledCounters {
    fn default() -> Self {
        Self { slots: (0..LABELS_MAX).map(|_| Slot::default()).collect(), other: Counter::default() }
    }
}

impl LabelledCounters {
    pub fn increment(&self, label: &str) {
        for slot in &self.slots {
            if &**slot.label.get_or_init(|| label.into()) == label {
                slot.count.increment();
                return;
            }
        }
        self.other.increment();
    }

    /// What has been counted, [`OTHER`] last and only where there is any. From any thread.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        let named = self.slots.iter().map_while(|slot| Some((&**slot.label.get()?, slot.count.get())));
        let other = self.other.get();
        named.chain((other > 0).then_some((OTHER, other)))
    }

    pub fn total(&self) -> u64 {
        self.counts().map(|(_, n)| n).sum()
    }
}
