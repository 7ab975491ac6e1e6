//! `CoDel` (RFC 8289, section 5): tells a standing queue from a burst by the least time that anybody waited in an interval.
//!
//! It judges one head of the queue at a time, which is the RFC's loop turned inside out.

use std::time::{Duration, Instant};

/// A wait that is not worth ending. 5 ms: RFC 8289, section 4.3.
const TARGET: Duration = Duration::from_millis(5);
/// How long each wait must exceed the target before the first is dropped. 100 ms: RFC 8289, section 4.3.
const INTERVAL: Duration = Duration::from_millis(100);
/// A drop within so many intervals after the last goes on at the rate that had been reached. 16: RFC 8289, section 5.5.
const INTERVALS_REMEMBERED: u32 = 16;

#[derive(Debug, Clone, Copy, Default)]
pub struct Codel {
    /// When a wait above the target will have lasted for an interval.
    above_until: Option<Instant>,
    dropping: bool,
    drop_next: Option<Instant>,
    /// Drops since dropping began.
    count: u32,
    /// `count` when dropping began.
    count_last: u32,
}

/// What to do with the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Drop,
}

impl Codel {
    /// The head has waited for `waited`, and is the `only` one: that is never dropped, so a queue never starves.
    pub fn judge(&mut self, waited: Duration, only: Only, now: Instant) -> Verdict {
        if !self.stands(waited, only, now) {
            self.dropping = false;
            return Verdict::Keep;
        }
        if self.dropping {
            let Some(due) = self.drop_next.filter(|due| *due <= now) else { return Verdict::Keep };
            self.count = self.count.saturating_add(1);
            self.drop_next = Some(due + self.spacing());
            return Verdict::Drop;
        }
        let recent = self
            .drop_next
            .is_some_and(|next| now.saturating_duration_since(next) < INTERVAL * INTERVALS_REMEMBERED);
        let reached = self.count.saturating_sub(self.count_last);
        self.count = if recent && reached > 1 { reached } else { 1 };
        self.count_last = self.count;
        self.dropping = true;
        self.drop_next = Some(now + self.spacing());
        Verdict::Drop
    }

    fn stands(&mut self, waited: Duration, only: Only, now: Instant) -> bool {
        if waited < TARGET || only == Only::Yes {
            self.above_until = None;
            return false;
        }
        now >= *self.above_until.get_or_insert(now + INTERVAL)
    }

    /// Drops come closer with the root of their number, which makes a sender's rate fall about linearly.
    fn spacing(&self) -> Duration {
        INTERVAL.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}

/// Whether nobody else waits behind the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    Yes,
    No,
}
