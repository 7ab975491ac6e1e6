//! What an upstream has to give, and who gets it: permits by its limit and its queue, retry tokens by its budget. The actor's
//! decisions about them, pure but for the permits' atomics.
//!
//! [`super::actor`] is the shell: it adds a clock, a mailbox, and whoever waits for an answer. The simulation in
//! `tests/simulation.rs` adds others, which come late, get lost, and crash.

use std::time::{Duration, Instant};

use super::Snapshot;
use super::admission::{Admission, Asking, Told, WaiterId};
use super::budget::{self, Block};
use super::concurrency::window::Window;
use super::concurrency::{self, Limiter, Sample};
use super::digest::{Digest, Spent};
use super::lease::Leases;
use super::queue;
use super::settings::Settings;

/// What is in flight of one shard counts for so long after its last digest. 200 ms: four of them.
const PEAK_LASTS: Duration = Duration::from_millis(200);
/// How long an answer takes is believed for so long after the last one; what has given none while others wait for as long is
/// expected to give none for as long again. 500 ms: half of what a request waits by default.
const EXPECTED_LASTS: Duration = Duration::from_millis(500);
/// For what lies between the answer's head and the caller, which nobody here sees: it gives up by its own clock. 3 ms: a way
/// through two sidecars on a busy machine. Without it, those who wait in a queue that drains by deadline are each served
/// just too late.
pub const WAY_BACK: Duration = Duration::from_millis(3);

/// Answers that make more to be expected. 10: among them one that is 250 times as slow as the others moves what nine of ten take to
/// fifteen times as much, and among fewer to more than that.
const EXPECTED_SAMPLES: u64 = 10;

#[derive(Debug, Clone, Copy)]
struct Silence {
    since: Instant,
    /// When somebody asked last.
    asked: Instant,
    /// It has lasted for long enough to be expected to last.
    lasts: bool,
}

/// `W`: who waits for a permit, to be told.
#[derive(Debug)]
pub struct Supply<W> {
    admission: Admission<W>,
    limiter: Limiter,
    budget: budget::Machine,
    /// The most that each shard had in flight at once, and when it said so.
    peaks: Vec<Option<(u32, Instant)>>,
    /// What answers take, as all shards have seen it lately.
    usual: Window,
    /// What an answer takes, as admission was told last.
    expected: Duration,
    /// Since when no answer has come, while some asked for permits.
    silence: Option<Silence>,
}

impl<W> Supply<W> {
    /// Goes on from what was published last. Whoever waited with one that crashed asks again.
    pub fn resume(last: &Snapshot, leases: &Leases, now: Instant) -> Self {
        let (settings, shards) = (&last.settings, leases.idle().len());
        let limiter = Limiter::resume(&settings.concurrency, leases.limit());
        let retries = settings.client.retry_budget;
        let budget = match last.incarnation {
            0 => budget::Machine::new(retries, shards, now),
            // Longer ago than any block lasts, and numbers that no block of the last one has.
            incarnation => budget::Machine::resume(retries, shards, incarnation << 32, now),
        };
        leases.flow();
        // What the last one was told it never heard.
        leases.hear();
        leases.set_limit(limiter.limit());
        let mut admission = Admission::new(&settings.queue);
        admission.expect(WAY_BACK);
        Self {
            admission,
            limiter,
            budget,
            peaks: vec![None; shards],
            usual: Window::default(),
            expected: WAY_BACK,
            silence: None,
        }
    }

    /// A shard found no permit.
    #[must_use]
    pub fn asked<'l>(&mut self, asking: Asking<W>, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        let lasts = |since| now.saturating_duration_since(since) > EXPECTED_LASTS;
        let silence = self.silence.get_or_insert(Silence { since: now, asked: now, lasts: false });
        let expected = if lasts(silence.asked) {
            // Nobody wanted anything meanwhile, so nothing is known.
            (silence.since, silence.lasts) = (now, false);
            Some(WAY_BACK)
        } else if lasts(silence.since) {
            silence.lasts = true;
            // Those who have so little time left wait in vain. Without them the queue runs dry, and the next to come are tried.
            Some(now.saturating_duration_since(silence.since))
        } else {
            None
        };
        silence.asked = now;
        if let Some(expected) = expected {
            self.expect(expected);
        }
        self.admission.enqueue(asking, leases, now)
    }

    /// One that asked no longer waits.
    #[must_use]
    pub fn cancelled<'l>(&mut self, id: WaiterId, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        self.admission.cancel(id, leases, now)
    }

    /// Permits came back while others wait.
    #[must_use]
    pub fn returned<'l>(&mut self, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        // Before they are looked at: one that comes back after that is told anew.
        leases.hear();
        self.admission.permits_returned(leases, now)
    }

    /// What a shard has seen; how requests ended is for the breakers.
    #[must_use]
    pub fn seen<'l>(&mut self, digest: &Digest, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        if digest.began > 0 {
            self.budget.began(digest.began, digest.since, now);
        }
        self.spent(digest.spent, now);
        // More is expected by what all shards have seen, and enough of it: one slow answer says nothing of the next. Less at once.
        let likely = digest.sample.likely().map(|likely| likely + WAY_BACK);
        let seen = self.usual.add(&digest.sample, Duration::ZERO, now);
        let by_all = seen.filter(|seen| seen.count >= EXPECTED_SAMPLES).and_then(|seen| seen.likely());
        let by_all = by_all.map(|likely| likely + WAY_BACK);
        let mut expected = by_all.or(likely.filter(|likely| *likely < self.expected));
        let is_heard = digest.sample.heard || likely.is_some();
        if is_heard {
            let silence = self.silence.replace(Silence { since: now, asked: now, lasts: false });
            if silence.is_some_and(|silence| silence.lasts) {
                expected = expected.or(likely).or(Some(WAY_BACK));
            }
        }
        if let Some(expected) = expected {
            self.expect(expected);
        }
        let sample = self.of_all(digest.shard, digest.sample, leases, now);
        let changed = self.limiter.observe(sample, now);
        self.limit(changed, leases, now)
    }

    /// A shard has a retry and no token.
    pub fn tokens(&mut self, spent: Option<Spent>, now: Instant) -> Option<Block> {
        self.spent(spent, now);
        self.budget.grant(now)
    }

    /// Other settings hold from now on.
    #[must_use]
    pub fn configured<'l>(
        &mut self,
        settings: &Settings,
        leases: &'l Leases,
        now: Instant,
    ) -> Vec<Told<'l, W>> {
        let changed = self.limiter.reconfigure(&settings.concurrency);
        let mut told = self.limit(changed, leases, now);
        told.extend(self.admission.reconfigure(&settings.queue, leases, now));
        self.budget.reconfigure(settings.client.retry_budget, now);
        told
    }

    /// When [`Supply::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.admission.poll_timeout().into_iter().chain(self.limiter.poll_timeout()).min()
    }

    #[must_use]
    pub fn handle_timeout<'l>(&mut self, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        let changed = self.limiter.handle_timeout(now);
        let mut told = self.limit(changed, leases, now);
        told.extend(self.admission.handle_timeout(leases, now));
        told
    }

    /// Nobody waits for a permit.
    pub fn is_empty(&self) -> bool {
        self.admission.is_empty()
    }

    pub fn queue_view(&self, now: Instant) -> queue::View {
        self.admission.view(now)
    }

    pub fn limiter_view(&self) -> concurrency::View {
        self.limiter.view()
    }

    pub fn budget_view(&self, now: Instant) -> budget::View {
        self.budget.view(now)
    }

    fn expect(&mut self, expected: Duration) {
        self.expected = expected;
        self.admission.expect(expected);
    }

    fn spent(&mut self, spent: Option<Spent>, now: Instant) {
        if let Some(Spent { number, tokens, rest }) = spent {
            self.budget.spent(number, tokens, rest, now);
        }
    }

    fn limit<'l>(&mut self, changed: Option<u32>, leases: &'l Leases, now: Instant) -> Vec<Told<'l, W>> {
        let Some(limit) = changed else { return Vec::new() };
        leases.set_limit(limit);
        self.admission.permits_returned(leases, now)
    }

    /// What all shards have seen.
    fn of_all(&mut self, shard: usize, mut sample: Sample, leases: &Leases, now: Instant) -> Sample {
        if let Some(peak) = self.peaks.get_mut(shard) {
            *peak = Some((sample.in_flight_max, now));
        }
        let recent = |at: Instant| now.saturating_duration_since(at) <= PEAK_LASTS;
        let peaks = self.peaks.iter().flatten().filter(|(_, at)| recent(*at)).map(|(peak, _)| peak);
        // Peaks of several shards need not be of one moment: together no more than may be, or are while a limit was cut.
        sample.in_flight_max = peaks.sum::<u32>().min(leases.limit().max(leases.in_use()));
        sample.queued = leases.is_queueing();
        sample.waited = self.admission.waited(now);
        sample
    }
}
