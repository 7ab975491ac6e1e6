//! Failures in a row over all shards, by time of completion.

use std::time::Instant;

/// Streaks that are kept apart; further ones of a shard are joined, and then count for less where a success falls into
/// them. 64: more than any sensible threshold needs, with two failures in each.
pub const STREAKS_MAX: usize = 64;

/// Failures of one shard with no success of this shard between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    pub first_at: Instant,
    pub last_at: Instant,
    /// At least 1.
    pub failures: u32,
}

impl Streak {
    pub fn one(at: Instant) -> Self {
        Self { first_at: at, last_at: at, failures: 1 }
    }

    /// `other` follows.
    pub fn join(&mut self, other: Self) {
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        self.failures = self.failures.saturating_add(other.failures);
    }

    /// What of it certainly came after a success of another shard. Exact for up to two failures, which is what a shard
    /// sends in one digest while its messages are taken; of more, the last alone is certain.
    fn after(self, success_at: Instant) -> Option<Self> {
        if self.first_at >= success_at {
            return Some(self);
        }
        (self.last_at >= success_at).then(|| Self::one(self.last_at))
    }
}

/// The streaks that no success has ended.
#[derive(Debug, Clone, Default)]
pub struct Streaks {
    /// The latest of all shards.
    success_at: Option<Instant>,
    open: Vec<(usize, Streak)>,
}

impl Streaks {
    /// `shard` saw a success: its own failures before it are over whatever their times, and those of others by time.
    pub fn success(&mut self, shard: usize, at: Instant) {
        self.open.retain(|(of, _)| *of != shard);
        let latest = self.success_at.map_or(at, |known| known.max(at));
        if self.success_at != Some(latest) {
            self.success_at = Some(latest);
            self.open = self.open.iter().filter_map(|(of, s)| Some((*of, s.after(latest)?))).collect();
        }
    }

    /// `shard` saw failures after its last success.
    pub fn failures(&mut self, shard: usize, streak: Streak) {
        let left = match self.success_at {
            Some(success_at) => streak.after(success_at),
            None => Some(streak),
        };
        let Some(left) = left else { return };
        if self.open.len() >= STREAKS_MAX
            && let Some((_, last)) = self.open.iter_mut().rev().find(|(of, _)| *of == shard)
        {
            last.join(left);
        } else {
            self.open.push((shard, left));
        }
    }

    /// Failures since the last success.
    pub fn in_a_row(&self) -> u32 {
        self.open.iter().fold(0, |sum: u32, (_, streak)| sum.saturating_add(streak.failures))
    }

    /// How many streaks are kept: at most [`STREAKS_MAX`], and one more for each shard.
    pub fn kept(&self) -> usize {
        self.open.len()
    }
}
