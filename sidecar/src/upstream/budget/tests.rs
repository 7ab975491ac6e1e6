//! Sentences about a budget, and its promise against shards whose messages come late, or never.

use std::time::{Duration, Instant};

use outrider_shared::traffic::RetryBudget;
use outrider_shared::units::GepDuration;
use proptest::prelude::*;

use super::machine::{BLOCK_MAX, Rest};
use super::*;

const MS: Duration = Duration::from_millis(1);

/// 20 % of 10 s, and at least 3 a second.
fn settings() -> RetryBudget {
    RetryBudget { rate_min_count: 3, ..RetryBudget::default() }
}

fn budget(percent: u32, interval_ms: u32, rate_min_count: u32, rate_min_ms: u32) -> RetryBudget {
    RetryBudget {
        percent,
        interval: GepDuration::from_millis(interval_ms),
        rate_min_count,
        rate_min_interval: GepDuration::from_millis(rate_min_ms),
    }
}

/// Takes all that is granted at one moment.
fn drain(machine: &mut Machine, now: Instant) -> u32 {
    std::iter::from_fn(|| machine.grant(now)).map(|block| block.tokens).sum()
}

#[test]
fn the_share_of_the_requests_is_granted_and_no_more() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 1, begun);
    let now = begun + MS;
    machine.began(1_000, begun, now);
    assert_eq!(drain(&mut machine, now), 200);
    assert_eq!(machine.grant(now), None);
    let view = machine.view(now);
    assert_eq!((view.left, view.of, view.retries, view.requests), (0, 200, 200, 1_000));
}

#[test]
fn without_requests_the_minimum_rate_is_granted_and_not_all_of_an_interval_at_once() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 1, begun);
    let mut granted = 0;
    for ms in 0..10_000 {
        let now = begun + ms * MS;
        while let Some(block) = machine.grant(now) {
            assert!(block.tokens <= 3);
            granted += block.tokens;
            machine.spent(block.number, block.tokens, Rest::Kept, now);
        }
    }
    assert!((27..=30).contains(&granted), "{granted} in ten seconds, at 3 a second");
}

#[test]
fn a_block_is_a_part_for_each_shard_and_bounded() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 3, begun);
    assert_eq!(machine.grant(begun).map(|block| block.tokens), Some(1));
    machine.began(100_000, begun, begun);
    assert_eq!(machine.grant(begun).map(|block| u64::from(block.tokens)), Some(BLOCK_MAX));
}

#[test]
fn what_a_shard_drops_unspent_is_granted_again_and_what_it_spent_is_not() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 1, begun);
    let block = machine.grant(begun).expect("the minimum rate");
    assert_eq!(block.tokens, 3);
    assert_eq!(machine.grant(begun), None);
    machine.spent(block.number, 1, Rest::Dropped, begun);
    machine.spent(block.number, 1, Rest::Dropped, begun);
    assert_eq!(drain(&mut machine, begun), 2);
}

#[test]
fn tokens_that_nobody_tells_of_count_as_spent_when_they_expire() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 1, begun);
    let mut block = machine.grant(begun).expect("the minimum rate");
    assert!(block.take(begun + 99 * MS).is_some());
    assert_eq!(block.take(block.expires), None);
    assert_eq!(machine.view(block.expires).outstanding, 0);
    assert_eq!(machine.grant(block.expires + Duration::from_millis(999)), None);
    assert_eq!(drain(&mut machine, block.expires + Duration::from_secs(1)), 3);
}

#[test]
fn requests_count_no_longer_than_their_interval() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 1, begun);
    machine.began(1_000, begun, begun);
    assert_eq!(machine.view(begun + Duration::from_secs(9)).requests, 1_000);
    let last = begun + 9_900 * MS;
    assert_eq!(machine.view(begun + 9_899 * MS).requests, 1_000);
    assert_eq!(machine.view(last).requests, 0, "a token of now can be spent when they are over");
}

#[test]
fn a_new_machine_in_the_place_of_one_that_is_gone_waits_until_nothing_of_it_counts() {
    let begun = Instant::now();
    let mut machine = Machine::resume(settings(), 1, 7, begun);
    machine.began(1_000, begun + MS, begun + MS);
    let (before, free) = (begun + 10_099 * MS, begun + 10_100 * MS);
    assert_eq!(machine.grant(before), None);
    assert_eq!(machine.view(before).left, 0);
    assert_eq!(machine.grant(free).map(|block| block.number), Some(7));
}

#[test]
fn another_share_holds_at_once_and_another_interval_begins_anew() {
    let begun = Instant::now();
    let mut machine = Machine::new(settings(), 1, begun);
    machine.began(100, begun, begun);
    machine.reconfigure(budget(50, 10_000, 3, 1_000), begun);
    assert_eq!(machine.view(begun).left, 50);
    machine.reconfigure(budget(50, 20_000, 3, 1_000), begun);
    assert_eq!(machine.view(begun + Duration::from_secs(20)).left, 0);
    assert!(machine.grant(begun + Duration::from_millis(20_100)).is_some());
}

#[test]
fn what_steady_traffic_may_retry_is_nearly_all_granted() {
    let begun = Instant::now();
    let mut machine = Machine::new(budget(20, 10_000, 0, 1_000), 2, begun);
    let mut held: [Option<Block>; 2] = [None, None];
    let mut retries = 0;
    for ms in 1..30_000_u32 {
        let now = begun + ms * MS;
        if ms % 50 == 0 {
            machine.began(50, begun + (ms - 50) * MS, now);
        }
        // Each request fails, on one of the shards in turn.
        let shard = &mut held[usize::from(ms % 2 == 0)];
        if shard.as_mut().and_then(|block| block.take(now)).is_none() {
            if let Some(old) = shard.take() {
                machine.spent(old.number, 16, Rest::Dropped, now);
            }
            *shard = machine.grant(now);
            if shard.as_mut().and_then(|block| block.take(now)).is_none() {
                continue;
            }
        }
        retries += u32::from(ms > 20_000);
    }
    assert!((1_700..=2_000).contains(&retries), "{retries} retries of 10,000 requests");
}

/// A shard, with what it has sent and the actor has not got yet.
#[derive(Default)]
struct Shard {
    block: Option<Block>,
    /// Of `block`.
    spent: u32,
    begun: u32,
    told_at: Option<Instant>,
    mail: Vec<Mail>,
}

enum Mail {
    Began { requests: u32, since: Instant },
    Spent { number: u64, spent: u32, rest: Rest },
    Asked,
}

/// What one shard does, with waits between.
#[derive(Debug, Clone)]
struct Round {
    shard: usize,
    before: Wait,
    begin: u32,
    digest: Delivery,
    ask: Delivery,
    /// With what it was granted.
    hold: Wait,
    spend: u8,
}

#[derive(Debug, Clone, Copy)]
enum Delivery {
    /// It is not written.
    None,
    /// It lies until the next that is delivered.
    Late,
    Now,
    Lost,
}

/// Some of these at which something changes, and less one millisecond or not.
#[derive(Debug, Clone, Copy)]
struct Wait(Option<Span>, u32);

#[derive(Debug, Clone, Copy)]
enum Span {
    Interval,
    IntervalMin,
    Bucket,
    BucketMin,
    Block,
    Millisecond,
}

impl Span {
    fn of(self, settings: &RetryBudget) -> Duration {
        let (interval, interval_min) = (settings.interval.get(), settings.rate_min_interval.get());
        match self {
            Self::Interval => interval,
            Self::IntervalMin => interval_min,
            Self::Bucket => interval / 20,
            Self::BucketMin => interval_min / 20,
            Self::Block => interval.min(interval_min) / 10,
            Self::Millisecond => MS,
        }
    }
}

fn any_wait() -> impl Strategy<Value = Wait> {
    let span = prop_oneof![
        4 => Just(None),
        2 => Just(Some(Span::Interval)),
        2 => Just(Some(Span::IntervalMin)),
        2 => Just(Some(Span::Bucket)),
        2 => Just(Some(Span::BucketMin)),
        4 => Just(Some(Span::Block)),
        2 => Just(Some(Span::Millisecond)),
    ];
    (span, 0_u32..2).prop_map(|(span, before)| Wait(span, before))
}

fn any_delivery() -> impl Strategy<Value = Delivery> {
    prop_oneof![2 => Just(Delivery::None), 2 => Just(Delivery::Late), 6 => Just(Delivery::Now), 1 => Just(Delivery::Lost)]
}

fn any_round() -> impl Strategy<Value = Round> {
    let begin = prop_oneof![2 => Just(0), 1 => 1_u32..20];
    let spend = prop_oneof![1 => Just(0), 1 => Just(1), 4 => Just(u8::MAX)];
    (0_usize..3, any_wait(), begin, any_delivery(), any_delivery(), any_wait(), spend).prop_map(
        |(shard, before, begin, digest, ask, hold, spend)| Round {
            shard,
            before,
            begin,
            digest,
            ask,
            hold,
            spend,
        },
    )
}

impl Wait {
    fn of(self, settings: &RetryBudget) -> Duration {
        self.0.map_or(Duration::ZERO, |span| span.of(settings).saturating_sub(self.1 * MS))
    }
}

impl Shard {
    /// All that lies in the mail, and the answers.
    fn catch_up(&mut self, machine: &mut Machine, now: Instant) {
        for mail in self.mail.drain(..) {
            match mail {
                Mail::Began { requests, since } => machine.began(requests, since, now),
                Mail::Spent { number, spent, rest } => machine.spent(number, spent, rest, now),
                Mail::Asked => {
                    if let Some(block) = machine.grant(now) {
                        (self.block, self.spent) = (Some(block), 0);
                    }
                }
            }
        }
    }

    fn deliver(&mut self, written: Vec<Mail>, delivery: Delivery, machine: &mut Machine, now: Instant) {
        match delivery {
            Delivery::None | Delivery::Lost => {}
            Delivery::Late => self.mail.extend(written),
            Delivery::Now => {
                self.mail.extend(written);
                self.catch_up(machine, now);
            }
        }
    }

    fn told(&self, rest: Rest) -> Option<Mail> {
        self.block.map(|block| Mail::Spent { number: block.number, spent: self.spent, rest })
    }
}

/// The promise, word for word, with all that really happened.
fn promised(settings: &RetryBudget, requests: &[Instant], retries: &[Instant]) -> bool {
    let Some(&now) = retries.last() else { return true };
    let within = |times: &[Instant], span: Duration| -> u64 {
        times.iter().rev().take_while(|at| now.duration_since(**at) < span).count() as u64
    };
    let (interval, interval_min) = (settings.interval.get(), settings.rate_min_interval.get());
    let made = within(retries, interval);
    let share = within(requests, interval) * u64::from(settings.percent) / 100;
    let count = u64::from(settings.rate_min_count);
    let by_rate = (u128::from(count) * interval.as_millis()).div_ceil(interval_min.as_millis());
    made <= share || (u128::from(made) <= by_rate && within(retries, interval_min) <= count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Digests and grants are delivered whenever and in whatever order among shards, or lost, and the actor is replaced.
    #[test]
    fn the_budget_is_never_exceeded_whatever_is_late_or_lost(
        percent in prop::sample::select(vec![0_u32, 10, 20, 50, 100]),
        interval_ms in prop::sample::select(vec![100_u32, 400, 1_000]),
        rate_min in (0_u32..6, prop::sample::select(vec![60_u32, 200, 1_000, 3_000])),
        // 1: whoever asks first gets all, up to a block, and so comes closest to the bound.
        parts in prop::sample::select(vec![1_usize, 1, 3]),
        replaced_at in prop::option::weighted(0.2, 0_usize..40),
        rounds in prop::collection::vec(any_round(), 0..40),
    ) {
        let settings = budget(percent, interval_ms, rate_min.0, rate_min.1);
        let mut now = Instant::now();
        let mut machine = Machine::new(settings, parts, now);
        let mut shards: [Shard; 3] = Default::default();
        for shard in &mut shards {
            shard.told_at = Some(now);
        }
        let (mut requests, mut retries) = (Vec::new(), Vec::new());
        for (index, round) in rounds.into_iter().enumerate() {
            if replaced_at == Some(index) {
                machine = Machine::resume(settings, parts, machine.number(), now);
            }
            let shard = &mut shards[round.shard];
            now += round.before.of(&settings);
            shard.begun += round.begin;
            requests.extend((0..round.begin).map(|_| now));
            if !matches!(round.digest, Delivery::None) {
                let since = shard.told_at.replace(now).expect("set at the start");
                let began = Mail::Began { requests: std::mem::take(&mut shard.begun), since };
                let written = [began].into_iter().chain(shard.told(Rest::Kept)).collect();
                shard.deliver(written, round.digest, &mut machine, now);
            }
            if !matches!(round.ask, Delivery::None) {
                let written = shard.told(Rest::Dropped).into_iter().chain([Mail::Asked]).collect();
                shard.block = None;
                shard.deliver(written, round.ask, &mut machine, now);
            }
            now += round.hold.of(&settings);
            for _ in 0..round.spend {
                if shard.block.as_mut().and_then(|block| block.take(now)).is_none() {
                    break;
                }
                shard.spent += 1;
                retries.push(now);
                prop_assert!(promised(&settings, &requests, &retries));
            }
            let view = machine.view(now);
            prop_assert!(view.left == 0 || view.retries + view.left <= view.of);
        }
        // Drain: left alone, nothing is outstanding, and the minimum rate is there again.
        let idle = now + Duration::from_secs(5);
        prop_assert_eq!(machine.view(idle).outstanding, 0);
        prop_assert_eq!(machine.grant(idle).is_some(), settings.rate_min_count > 0);
    }
}
