//! The pure machine of one budget: no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use outrider_shared::traffic::RetryBudget;

use super::super::sliding::Sliding;

/// Tokens in one block at most. 16: at a budget of 1,000 retries a second still only 60 messages.
pub const BLOCK_MAX: u64 = 16;
/// Blocks whose tokens may still count. 256: each shard settles its block before it asks for the next, so more than one for
/// each shard remain only where messages were lost. At the bound nothing is granted until the oldest is forgotten.
const BLOCKS_MAX: usize = 256;
/// Buckets of an interval: what lies in the oldest is forgotten up to a twentieth of the interval too early or too late,
/// whichever is more careful.
const PARTS: u32 = 20;

/// Tokens of one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub number: u64,
    pub tokens: u32,
    /// From then on none may be spent.
    pub expires: Instant,
}

impl Block {
    /// Spends one for a retry that is sent now.
    pub fn take(&mut self, now: Instant) -> Option<Taken> {
        if now >= self.expires {
            return None;
        }
        self.tokens = self.tokens.checked_sub(1)?;
        Some(Taken(()))
    }
}

/// A token that was spent.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it is spent whether or not a retry is sent"]
pub struct Taken(());

/// Whether a shard may go on spending of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    Kept,
    /// It dropped the rest unspent.
    Dropped,
}

/// What people see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Retries that may be granted now.
    pub left: u64,
    /// Retries that are allowed within the interval now.
    pub of: u64,
    /// Retries within the interval, with tokens that may still be spent.
    pub retries: u64,
    /// Tokens that shards hold.
    pub outstanding: u64,
    /// Requests within the interval.
    pub requests: u64,
}

#[derive(Debug, Clone, Copy)]
struct Granted {
    block: Block,
    /// Of its tokens, as its shard has told.
    spent: u32,
}

#[derive(Debug)]
pub struct Machine {
    settings: RetryBudget,
    shards: u64,
    /// By the earliest time at which they can have begun.
    requests: Sliding<u64>,
    /// That shards have told, by the latest time at which they can have been sent.
    retries: Sliding<u64>,
    /// The same, in the finer buckets of the minimum rate.
    retries_min: Sliding<u64>,
    /// The oldest first.
    granted: VecDeque<Granted>,
    number: u64,
    /// Nothing is granted before: another machine's tokens may be out.
    not_before: Instant,
    latest: Instant,
}

impl Machine {
    pub fn new(settings: RetryBudget, shards: usize, now: Instant) -> Self {
        let (interval, interval_min) = (settings.interval.get(), settings.rate_min_interval.get());
        Self {
            settings,
            shards: u64::try_from(shards).unwrap_or(u64::MAX).max(1),
            requests: Sliding::new(interval, PARTS, now),
            retries: Sliding::new(interval, PARTS, now),
            retries_min: Sliding::new(interval_min, PARTS, now),
            granted: VecDeque::new(),
            number: 0,
            not_before: now,
            latest: now,
        }
    }

    /// In place of a machine that is gone, and of whose tokens nothing is known: grants nothing until no retry of theirs is
    /// within an interval any more. `number` is greater than any that it gave to a block.
    pub fn resume(settings: RetryBudget, shards: usize, number: u64, now: Instant) -> Self {
        let mut machine = Self::new(settings, shards, now);
        machine.number = number;
        machine.reset(now);
        machine
    }

    /// Forgets all, and grants nothing until none of what it granted can count any more.
    pub fn reset(&mut self, now: Instant) {
        let now = self.clock(now);
        let number = self.number;
        *self = Self::new(self.settings, usize::try_from(self.shards).unwrap_or(usize::MAX), now);
        self.number = number;
        self.not_before = now + self.tokens_last() + self.longest();
        self.check_invariants();
    }

    /// Policy has changed. Where an interval has, the counts begin anew with nothing granted, as after [`Self::reset`].
    pub fn reconfigure(&mut self, settings: RetryBudget, now: Instant) {
        let same = settings.interval == self.settings.interval
            && settings.rate_min_interval == self.settings.rate_min_interval;
        if same {
            self.settings = settings;
            return;
        }
        // For as long as the old settings or the new count what was granted under the old.
        let (last, longest) = (self.tokens_last(), self.longest());
        self.settings = settings;
        self.reset(now);
        self.not_before = self.not_before.max(self.latest + last + longest.max(self.longest()));
    }

    /// `requests` began after `since`, first attempts alone. From a shard, each 50 ms. Lost: they allow no retries.
    pub fn began(&mut self, requests: u32, since: Instant, now: Instant) {
        self.clock(now);
        // What began in the future is counted as of now: a shard's clock is this one, read a moment later.
        self.requests.add(u64::from(requests), since.min(self.latest));
        self.check_invariants();
    }

    /// A shard has a retry and no token. The answer is lost: the tokens expire.
    pub fn grant(&mut self, now: Instant) -> Option<Block> {
        let now = self.clock(now);
        self.forget(now);
        if self.granted.len() >= BLOCKS_MAX || now < self.not_before {
            return None;
        }
        let left = self.allowed(now).left;
        // A part for each, so that the first to ask does not get all of a small budget.
        let tokens = left.div_ceil(self.shards).min(BLOCK_MAX);
        let tokens = u32::try_from(tokens).expect("at most a block");
        if tokens == 0 {
            return None;
        }
        let block = Block { number: self.number, tokens, expires: now + self.tokens_last() };
        self.number += 1;
        self.granted.push_back(Granted { block, spent: 0 });
        self.check_invariants();
        Some(block)
    }

    /// Of the block `number`, `spent` tokens were spent in all so far. From the shard that holds it, with its digest and
    /// before it asks for another. Lost: the next one says it again, and unspent tokens count until they no longer could.
    pub fn spent(&mut self, number: u64, spent: u32, rest: Rest, now: Instant) {
        let now = self.clock(now);
        self.forget(now);
        let Some(index) = self.granted.iter().position(|granted| granted.block.number == number) else {
            return;
        };
        let granted = &mut self.granted[index];
        let spent = spent.min(granted.block.tokens);
        let more = u64::from(spent.saturating_sub(granted.spent));
        granted.spent = granted.spent.max(spent);
        let latest = now.min(granted.block.expires);
        if rest == Rest::Dropped || granted.spent == granted.block.tokens {
            self.granted.remove(index);
        }
        self.retries.add(more, latest);
        self.retries_min.add(more, latest);
        self.check_invariants();
    }

    pub fn view(&self, now: Instant) -> View {
        let now = now.max(self.latest);
        let allowed = self.allowed(now);
        View {
            left: if now < self.not_before { 0 } else { allowed.left },
            of: allowed.of,
            retries: allowed.retries,
            outstanding: self.unspent(now),
            requests: allowed.requests,
        }
    }

    /// The number of the next block, for [`Self::resume`].
    pub fn number(&self) -> u64 {
        self.number
    }

    fn allowed(&self, now: Instant) -> Allowed {
        let (interval, interval_min) = (self.settings.interval.get(), self.settings.rate_min_interval.get());
        let (width, width_min) = (self.retries.width(), self.retries_min.width());
        let still = now + self.tokens_last();
        let requests = self.requests.sum(|begin, _| still.saturating_duration_since(begin) < interval);
        // By the end of its bucket, since a retry in it may be as late.
        let told = self.retries.sum(|begin, _| now.saturating_duration_since(begin) < interval + width);
        let told_min =
            self.retries_min.sum(|begin, _| now.saturating_duration_since(begin) < interval_min + width_min);
        let since = |span: Duration| now.checked_sub(span);
        let retries = told + self.may_be_spent_after(since(interval));
        let retries_min = told_min + self.may_be_spent_after(since(interval_min));

        let by_share = requests.saturating_mul(u64::from(self.settings.percent)) / 100;
        let by_rate = self.by_rate();
        let count = u64::from(self.settings.rate_min_count);
        let left_of_rate = by_rate.saturating_sub(retries).min(count.saturating_sub(retries_min));
        let left = by_share.saturating_sub(retries).max(left_of_rate);
        Allowed { left, of: by_share.max(by_rate), retries, requests }
    }

    /// What the minimum rate allows within the interval: `count` x I / m, rounded up.
    fn by_rate(&self) -> u64 {
        let count = u128::from(self.settings.rate_min_count);
        let per = self.settings.rate_min_interval.get().as_nanos().max(1);
        let by_rate = (count * self.settings.interval.get().as_nanos()).div_ceil(per);
        u64::try_from(by_rate).unwrap_or(u64::MAX)
    }

    /// Tokens that nobody told of, and that may have been spent after `since` or may still be.
    fn may_be_spent_after(&self, since: Option<Instant>) -> u64 {
        let unspent = |granted: &Granted| u64::from(granted.block.tokens - granted.spent);
        let counts = |granted: &&Granted| since.is_none_or(|since| granted.block.expires > since);
        self.granted.iter().filter(counts).map(unspent).sum()
    }

    /// Tokens that shards hold and may spend.
    fn unspent(&self, now: Instant) -> u64 {
        self.may_be_spent_after(Some(now))
    }

    /// Drops blocks that count no more.
    fn forget(&mut self, now: Instant) {
        let longest = self.longest();
        self.granted.retain(|granted| granted.block.expires + longest > now);
    }

    /// How long tokens can be spent: short against both intervals, since what they keep back nobody else can spend.
    fn tokens_last(&self) -> Duration {
        self.settings.interval.get().min(self.settings.rate_min_interval.get()) / 10
    }

    fn longest(&self) -> Duration {
        self.settings.interval.get().max(self.settings.rate_min_interval.get())
    }

    fn clock(&mut self, now: Instant) -> Instant {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn check_invariants(&self) {
        debug_assert!(self.granted.len() <= BLOCKS_MAX, "blocks are bounded");
        debug_assert!(
            self.granted.iter().all(|g| g.spent < g.block.tokens && g.block.number < self.number),
            "a block that is spent is gone"
        );
        debug_assert!(
            self.granted.iter().is_sorted_by_key(|granted| granted.block.number),
            "blocks are in the order of their grants"
        );
    }
}

/// What is counted at one moment.
struct Allowed {
    left: u64,
    of: u64,
    retries: u64,
    requests: u64,
}
