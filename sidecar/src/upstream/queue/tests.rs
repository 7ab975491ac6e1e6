//! The queue by example, and against the same rules by brute force.

mod model;

use outrider_shared::traffic::{self, FairBy, Priority, PriorityClass, QueueDrop, QueueOrder};
use outrider_shared::units::GepDuration;
use proptest::prelude::*;

use super::codel::{Codel, Only, Verdict};
use super::*;
use model::{Drops, Model, Waiter};

const MS: Duration = Duration::from_millis(1);

fn settings() -> traffic::Queue {
    traffic::Queue { depth_max: 4, wait_max: GepDuration::from_millis(1_000), ..traffic::Queue::default() }
}

/// Classes `c0`, `c1` and so on, of these weights.
fn classes(weights: &[Option<u32>]) -> Priority {
    let class = |(i, weight): (usize, &Option<u32>)| PriorityClass { name: format!("c{i}"), weight: *weight };
    Priority {
        header: "priority".into(),
        classes: weights.iter().enumerate().map(class).collect(),
        default: 0,
        trusted_from: Vec::new(),
    }
}

fn strict(classes_count: usize) -> traffic::Queue {
    traffic::Queue { priority: Some(classes(&vec![None; classes_count])), ..settings() }
}

fn peer(n: u8) -> PeerKey {
    PeerKey(format!("peer-{n:02}").into())
}

fn entry(class: usize, from: u8, waiter: u64) -> Entry<u64> {
    Entry { class, peer: peer(from), deadline: None, waiter }
}

fn drops(dropped: Vec<Dropped<u64>>) -> Drops {
    dropped.into_iter().map(|d| (d.waiter, d.cause)).collect()
}

/// Pushes and says who was dropped for it.
fn push(queue: &mut Queue<u64>, entry: Entry<u64>, now: Instant) -> Drops {
    drops(queue.push(entry, now).dropped)
}

/// Everybody, in the order of dispatch, at one instant.
fn drain(queue: &mut Queue<u64>, now: Instant) -> Vec<u64> {
    let mut order = Vec::new();
    while let (Some(popped), dropped) = queue.pop(now) {
        assert!(dropped.is_empty());
        order.push(popped.waiter);
    }
    order
}

#[test]
fn the_more_important_class_goes_first_always() {
    let now = Instant::now();
    let mut queue = Queue::new(&strict(3));
    for (waiter, class) in [(1, 2), (2, 0), (3, 1), (4, 0)] {
        assert!(push(&mut queue, entry(class, 0, waiter), now).is_empty());
    }
    assert_eq!(drain(&mut queue, now), [2, 4, 3, 1]);
}

#[test]
fn a_full_queue_takes_a_more_important_arrival_for_the_last_of_the_least_important() {
    let now = Instant::now();
    let mut queue = Queue::new(&strict(3));
    for (waiter, class) in [(1, 2), (2, 2), (3, 1), (4, 0)] {
        assert!(push(&mut queue, entry(class, 0, waiter), now).is_empty());
    }
    assert_eq!(push(&mut queue, entry(1, 0, 5), now), [(2, Cause::Overtaken)]);
    assert_eq!(push(&mut queue, entry(2, 0, 6), now), [(6, Cause::Full)], "an equal makes no room");
    assert_eq!(push(&mut queue, entry(0, 0, 7), now), [(1, Cause::Overtaken)]);
    assert_eq!(push(&mut queue, entry(0, 0, 8), now), [(5, Cause::Overtaken)]);
    assert_eq!(push(&mut queue, entry(0, 0, 9), now), [(3, Cause::Overtaken)]);
    assert_eq!(push(&mut queue, entry(0, 0, 10), now), [(10, Cause::Full)]);
    assert_eq!(drain(&mut queue, now), [4, 7, 8, 9]);
}

#[test]
fn a_class_that_no_policy_names_counts_as_the_last() {
    let now = Instant::now();
    let mut queue = Queue::new(&strict(2));
    let _ = queue.push(entry(7, 0, 1), now);
    assert_eq!(queue.view(now).classes[1].depth, 1);
    assert_eq!(queue.pop(now).0.map(|popped| popped.class), Some(1));
}

#[test]
fn one_greedy_peer_of_twenty_takes_neither_the_turns_nor_the_places_of_the_others() {
    let now = Instant::now();
    let mut queue = Queue::new(&traffic::Queue { depth_max: 40, ..settings() });
    for waiter in 0..100 {
        let _ = queue.push(entry(0, 0, waiter), now);
    }
    assert_eq!(queue.len(), 40, "alone it may hold all");
    for from in 1..20_u8 {
        for nth in 0..2 {
            let made_room = push(&mut queue, entry(0, from, 1_000 + u64::from(from) * 10 + nth), now);
            assert!(matches!(made_room[..], [(waiter, Cause::FairShare)] if waiter < 100));
        }
    }
    let mut shares = [0; 20];
    for served in 0..40 {
        let (Some(popped), _) = queue.pop(now) else { panic!("40 wait") };
        let from: usize = popped.peer.0[5..].parse().expect("a number");
        shares[from] += 1;
        assert!(shares.iter().all(|&share| share >= (served + 1) / 20), "each has its turn in each round");
    }
    assert_eq!(shares, [2; 20]);
}

#[test]
fn whoever_leaves_and_comes_back_is_last_in_the_round() {
    let now = Instant::now();
    let mut queue = Queue::new(&traffic::Queue { depth_max: 10, ..settings() });
    for (from, waiter) in [(1, 1), (2, 2), (2, 3), (3, 4)] {
        let _ = queue.push(entry(0, from, waiter), now);
    }
    assert_eq!(queue.pop(now).0.map(|p| p.waiter), Some(1));
    let _ = queue.push(entry(0, 1, 5), now);
    assert_eq!(drain(&mut queue, now), [2, 4, 5, 3]);
}

#[test]
fn where_peers_do_not_matter_the_first_come_is_the_first_served_and_nobody_makes_room() {
    let now = Instant::now();
    let mut queue =
        Queue::new(&traffic::Queue { fair_by: FairBy::None, order: QueueOrder::Fifo, ..settings() });
    for waiter in 0..4 {
        let _ = queue.push(entry(0, u8::from(waiter > 2), waiter), now);
    }
    assert_eq!(push(&mut queue, entry(0, 2, 9), now), [(9, Cause::Full)]);
    assert_eq!(drain(&mut queue, now), [0, 1, 2, 3]);
}

#[test]
fn a_peer_is_served_in_the_order_that_policy_names() {
    let now = Instant::now();
    let deadlines = [None, Some(now + 50 * MS), Some(now + 20 * MS), None];
    for (order, expected) in [
        (QueueOrder::Deadline, [2, 1, 0, 3]),
        (QueueOrder::Fifo, [0, 1, 2, 3]),
        (QueueOrder::Lifo, [3, 2, 1, 0]),
    ] {
        let mut queue = Queue::new(&traffic::Queue { order, ..settings() });
        for (waiter, deadline) in (0..).zip(deadlines) {
            let _ = queue.push(Entry { deadline, ..entry(0, 0, waiter) }, now);
        }
        assert_eq!(drain(&mut queue, now), expected, "{order:?}");
    }
}

#[test]
fn what_cannot_finish_before_its_deadline_is_dropped_at_once_and_never_dispatched() {
    let start = Instant::now();
    let mut queue = Queue::new(&settings());
    queue.expect(30 * MS);
    let until = |ms: u32, waiter| Entry { deadline: Some(start + ms * MS), ..entry(0, 0, waiter) };
    assert_eq!(push(&mut queue, until(30, 1), start), [(1, Cause::Deadline)], "no time to spare");
    assert!(push(&mut queue, until(40, 2), start).is_empty());
    assert!(push(&mut queue, until(90, 3), start).is_empty());
    assert_eq!(queue.poll_timeout(), Some(start + 10 * MS));
    let (popped, dropped) = queue.pop(start + 10 * MS);
    assert_eq!((popped.map(|p| p.waiter), drops(dropped)), (Some(3), vec![(2, Cause::Deadline)]));
    assert!(push(&mut queue, until(90, 4), start + 10 * MS).is_empty());
    queue.expect(Duration::MAX);
    assert_eq!(drops(queue.handle_timeout(start + 10 * MS)), [(4, Cause::Deadline)], "the app became slow");
}

#[test]
fn whoever_waits_for_wait_max_is_told_without_a_permit_becoming_free() {
    let start = Instant::now();
    let mut queue = Queue::new(&settings());
    let _ = queue.push(entry(0, 0, 1), start);
    let _ = queue.push(entry(0, 0, 2), start + MS);
    let due = queue.poll_timeout().expect("somebody waits");
    assert_eq!(due, start + 1_000 * MS);
    assert!(queue.handle_timeout(start + 999 * MS).is_empty());
    assert_eq!(drops(queue.handle_timeout(due)), [(1, Cause::MaxWait)]);
    assert_eq!(drops(queue.handle_timeout(due + MS)), [(2, Cause::MaxWait)]);
    assert_eq!(queue.poll_timeout(), None);
}

#[test]
fn who_no_longer_waits_leaves_no_place_behind() {
    let now = Instant::now();
    let mut queue = Queue::new(&settings());
    let tickets: Vec<Ticket> = (0..4).filter_map(|w| queue.push(entry(0, 0, w), now).ticket).collect();
    assert_eq!(queue.cancel(tickets[1]), Some(1));
    assert_eq!(queue.cancel(tickets[1]), None);
    assert!(push(&mut queue, entry(0, 0, 9), now).is_empty(), "the place is free");
    assert_eq!(drain(&mut queue, now), [0, 2, 3, 9]);
    assert_eq!(queue.cancel(tickets[0]), None, "it was dispatched");
    let counters = queue.view(now).counters;
    assert_eq!((counters.admitted, counters.dispatched, counters.cancelled), (5, 4, 1));
}

#[test]
fn weights_share_the_turns_in_proportion_while_all_have_somebody() {
    let now = Instant::now();
    let weights = [6, 3, 1];
    let mut queue = Queue::new(&traffic::Queue {
        depth_max: 1_000,
        priority: Some(classes(&weights.map(Some))),
        ..settings()
    });
    let mut served = [0_u32; 3];
    for class in 0..3 {
        for nth in 0..100 {
            let _ = queue.push(entry(class, 0, nth), now);
        }
    }
    for turn in 1..=150 {
        let (Some(popped), _) = queue.pop(now) else { panic!("somebody waits") };
        served[popped.class] += 1;
        for (class, weight) in weights.into_iter().enumerate() {
            let due = f64::from(turn) * f64::from(weight) / 10.0;
            assert!((f64::from(served[class]) - due).abs() <= 1.5, "turn {turn}: {served:?}");
        }
    }
}

#[test]
fn a_class_without_requests_saves_no_turns_up() {
    let now = Instant::now();
    let mut queue = Queue::new(&traffic::Queue {
        depth_max: 100,
        priority: Some(classes(&[Some(1), Some(1)])),
        ..settings()
    });
    for waiter in 0..40 {
        let _ = queue.push(entry(1, 0, waiter), now);
    }
    for _ in 0..30 {
        assert!(queue.pop(now).0.is_some());
    }
    for waiter in 100..110 {
        let _ = queue.push(entry(0, 0, waiter), now);
    }
    let next: Vec<u64> = (0..10).filter_map(|_| queue.pop(now).0).map(|p| p.waiter).collect();
    let served = next.iter().filter(|&&waiter| waiter >= 100).count();
    assert!((5..=6).contains(&served), "half, and the odd one: {served}");
}

#[test]
fn weights_share_the_places_too() {
    let now = Instant::now();
    let mut queue = Queue::new(&traffic::Queue {
        depth_max: 10,
        priority: Some(classes(&[Some(4), Some(1)])),
        ..settings()
    });
    for waiter in 0..20 {
        let _ = queue.push(entry(0, 0, waiter), now);
    }
    assert_eq!(push(&mut queue, entry(1, 0, 100), now), [(9, Cause::Overtaken)]);
    assert_eq!(push(&mut queue, entry(1, 0, 101), now), [(8, Cause::Overtaken)]);
    assert_eq!(push(&mut queue, entry(1, 0, 102), now), [(102, Cause::Full)], "two of ten are its share");
    let mut queue = Queue::new(&traffic::Queue {
        depth_max: 10,
        priority: Some(classes(&[Some(4), Some(1)])),
        ..settings()
    });
    for waiter in 0..20 {
        let _ = queue.push(entry(1, 0, waiter), now);
    }
    for waiter in 100..120 {
        let _ = queue.push(entry(0, 0, waiter), now);
    }
    let depths: Vec<usize> = queue.view(now).classes.iter().map(|class| class.depth).collect();
    assert_eq!(depths, [8, 2]);
}

#[test]
fn new_settings_keep_everybody_who_still_fits_in_the_class_of_the_same_name() {
    let start = Instant::now();
    let mut queue = Queue::new(&strict(3));
    let mut tickets = Vec::new();
    for (waiter, class) in [(1, 0), (2, 1), (3, 2), (4, 2)] {
        tickets.extend(queue.push(entry(class, 0, waiter), start).ticket);
    }
    let mut fewer = strict(3);
    let priority = fewer.priority.as_mut().expect("classes");
    priority.classes.remove(1);
    priority.classes.reverse();
    fewer.depth_max = 3;
    // `c2` comes first now, and the class of the second is gone: it is in the default one, which is `c2` too.
    assert_eq!(drops(queue.reconfigure(&fewer, start)), [(1, Cause::Full)]);
    assert_eq!(queue.cancel(tickets[2]), Some(3), "tickets stay good");
    assert_eq!(drain(&mut queue, start), [2, 4]);
    let _ = queue.push(entry(0, 0, 5), start);
    fewer.wait_max = GepDuration::from_millis(10);
    assert_eq!(drops(queue.reconfigure(&fewer, start + 10 * MS)), [(5, Cause::MaxWait)]);
}

#[test]
fn a_queue_without_places_refuses_everybody() {
    let now = Instant::now();
    let mut queue = Queue::new(&traffic::Queue { depth_max: 0, ..settings() });
    assert_eq!(push(&mut queue, entry(0, 0, 1), now), [(1, Cause::Full)]);
    assert!(queue.pop(now).0.is_none());
    let counters = queue.view(now).counters;
    assert_eq!((counters.admitted, counters.refused.get(Cause::Full), counters.depth()), (0, 1, 0));
}

#[test]
fn a_closed_queue_has_told_everybody() {
    let now = Instant::now();
    let mut queue = Queue::new(&settings());
    let _ = queue.push(entry(0, 0, 1), now);
    let _ = queue.push(entry(0, 1, 2), now);
    assert_eq!(drops(queue.close(now)), [(1, Cause::Closed), (2, Cause::Closed)]);
    assert!(queue.is_empty());
    assert!(push(&mut queue, entry(0, 0, 3), now).is_empty(), "and takes whoever comes later");
}

#[test]
fn time_that_goes_back_makes_nobody_younger() {
    let earlier = Instant::now();
    let start = earlier + 5_000 * MS;
    let mut queue = Queue::new(&settings());
    let _ = queue.push(entry(0, 0, 1), start);
    let _ = queue.push(entry(0, 0, 2), earlier);
    assert_eq!(queue.poll_timeout(), Some(start + 1_000 * MS));
    let waited: Vec<Duration> = (0..2).filter_map(|_| queue.pop(earlier).0).map(|p| p.waited).collect();
    assert_eq!(waited, [Duration::ZERO; 2]);
}

#[test]
fn a_view_names_the_peers_that_hold_most() {
    let start = Instant::now();
    let mut queue = Queue::new(&traffic::Queue { depth_max: 100, ..strict(2) });
    for from in 0..12_u8 {
        for nth in 0..=from {
            let _ = queue.push(entry(usize::from(nth % 2), from, 0), start + MS * u32::from(from));
        }
    }
    let view = queue.view(start + 20 * MS);
    assert_eq!((view.depth, view.depth_max, view.peers_waiting), (78, 100, 12));
    assert_eq!(view.peers.len(), PEERS_SHOWN_MAX);
    assert_eq!(view.peers[0], PeerView { peer: peer(11), depth: 12, oldest: 9 * MS });
    assert_eq!(view.peers[7].peer, peer(4));
    assert_eq!(view.oldest, Some(20 * MS));
    assert_eq!(view.classes[1].oldest, Some(19 * MS));
    assert_eq!(view.classes.iter().map(|class| class.depth).sum::<usize>(), 78);
    assert_eq!(view.classes[1].name.as_ref(), "c1");
}

/// RFC 8289, section 5, as it is printed, over waits at instants.
#[derive(Default)]
struct Printed {
    first_above: Option<Instant>,
    drop_next: Option<Instant>,
    count: u32,
    lastcount: u32,
    dropping: bool,
}

impl Printed {
    fn ok_to_drop(&mut self, waited: Duration, left: usize, now: Instant) -> bool {
        if waited < 5 * MS || left == 0 {
            self.first_above = None;
        } else if let Some(first_above) = self.first_above {
            return now >= first_above;
        } else {
            self.first_above = Some(now + 100 * MS);
        }
        false
    }

    fn law(&self, from: Instant) -> Instant {
        from + (100 * MS).div_f64(f64::from(self.count).sqrt())
    }

    /// How many are dropped before the one that is dequeued, from those that have waited so.
    fn dequeue(&mut self, waits: &[Duration], now: Instant) -> usize {
        let mut at = 0;
        let mut ok = self.ok_to_drop(waits[at], waits.len() - at - 1, now);
        if self.dropping {
            if !ok {
                self.dropping = false;
            }
            while self.dropping && self.drop_next.is_some_and(|next| now >= next) {
                at += 1;
                self.count += 1;
                let due = self.drop_next.expect("dropping");
                ok = self.ok_to_drop(waits[at], waits.len() - at - 1, now);
                if !ok {
                    self.dropping = false;
                }
                // There only while dropping goes on, which matters to nothing but whether 16 intervals have passed since.
                self.drop_next = Some(self.law(due));
            }
        } else if ok {
            at += 1;
            self.ok_to_drop(waits[at], waits.len() - at - 1, now);
            self.dropping = true;
            let delta = self.count.saturating_sub(self.lastcount);
            let recent = self.drop_next.is_some_and(|next| now.saturating_duration_since(next) < 1_600 * MS);
            self.count = if delta > 1 && recent { delta } else { 1 };
            self.drop_next = Some(self.law(now));
            self.lastcount = self.count;
        }
        at
    }
}

#[test]
fn codel_drops_from_a_queue_that_stands_for_an_interval_and_not_from_a_burst() {
    let start = Instant::now();
    let mut codel = Codel::default();
    let judged: Vec<u32> =
        (0..600).filter(|&ms| codel.judge(20 * MS, Only::No, start + ms * MS) == Verdict::Drop).collect();
    // 100, then after 100, 100/√2, 100/√3, … more.
    assert_eq!(judged[..5], [100, 200, 271, 329, 379]);
    let mut codel = Codel::default();
    let burst = |ms: u32| if ms.is_multiple_of(90) { MS } else { 40 * MS };
    assert!((0..600).all(|ms| codel.judge(burst(ms), Only::No, start + ms * MS) == Verdict::Keep));
}

#[test]
fn codel_drops_from_the_queue_of_the_peer_that_stands() {
    let start = Instant::now();
    let mut queue = Queue::new(&traffic::Queue { depth_max: 400, drop: QueueDrop::CoDel, ..settings() });
    let mut dropped_from = [0; 2];
    for ms in 0..900_u32 {
        let now = start + ms * MS;
        // One sends twice what it gets; the other a tenth of it.
        for _ in 0..2 {
            let _ = queue.push(entry(0, 0, 0), now);
        }
        if ms.is_multiple_of(10) {
            let _ = queue.push(entry(0, 1, 1), now);
        }
        for dropped in queue.pop(now).1 {
            if dropped.cause == Cause::CoDel {
                dropped_from[usize::from(dropped.waiter == 1)] += 1;
            }
        }
    }
    assert!(dropped_from[0] > 10 && dropped_from[1] == 0, "{dropped_from:?}");
}

#[derive(Debug, Clone)]
enum Op {
    Push { class: usize, peer: u8, deadline_ms: Option<u32> },
    Pop,
    Cancel(usize),
    Timeout,
    Expect(u32),
    Reconfigure,
    Close,
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (0_usize..4, 0_u8..5, prop::option::of(0_u32..120))
            .prop_map(|(class, peer, deadline_ms)| Op::Push { class, peer, deadline_ms }),
        6 => Just(Op::Pop),
        2 => (0_usize..12).prop_map(Op::Cancel),
        1 => Just(Op::Timeout),
        1 => (0_u32..40).prop_map(Op::Expect),
        1 => Just(Op::Reconfigure),
        1 => Just(Op::Close),
    ]
}

fn any_settings() -> impl Strategy<Value = traffic::Queue> {
    let order = prop::sample::select(vec![QueueOrder::Deadline, QueueOrder::Fifo, QueueOrder::Lifo]);
    let drop = prop::sample::select(vec![QueueDrop::None, QueueDrop::CoDel]);
    let fair_by = prop::sample::select(vec![FairBy::Peer, FairBy::None]);
    let weighted = prop::collection::vec((1_u32..9).prop_map(Some), 1..4);
    let unweighted = (1_usize..4).prop_map(|count| vec![None; count]);
    let priority = prop::option::of(prop_oneof![weighted, unweighted]);
    (0_u32..12, 1_u32..400, order, drop, fair_by, priority).prop_map(
        |(depth_max, wait_ms, order, drop, fair_by, weights)| traffic::Queue {
            depth_max,
            wait_max: GepDuration::from_millis(wait_ms),
            order,
            drop,
            fair_by,
            priority: weights.map(|weights| classes(&weights)),
        },
    )
}

/// The machine and the model side by side.
struct Pair {
    queue: Queue<u64>,
    model: Model,
    tickets: Vec<(u64, Ticket)>,
    id_next: u64,
}

impl Pair {
    fn new(settings: &traffic::Queue) -> Self {
        Self { queue: Queue::new(settings), model: Model::new(settings), tickets: Vec::new(), id_next: 0 }
    }

    fn push(&mut self, class: usize, from: u8, deadline: Option<Instant>, now: Instant) -> [Drops; 2] {
        let id = self.id_next;
        self.id_next += 1;
        let pushed = self.queue.push(Entry { class, peer: peer(from), deadline, waiter: id }, now);
        self.tickets.extend(pushed.ticket.map(|ticket| (id, ticket)));
        let modelled = self.model.push(Waiter { id, class, peer: from, deadline, since: now });
        assert_eq!(pushed.ticket.is_none(), modelled.last().is_some_and(|&(last, _)| last == id));
        [drops(pushed.dropped), modelled]
    }

    /// What each of them dropped.
    fn apply(&mut self, op: &Op, other: &traffic::Queue, now: Instant) -> [Drops; 2] {
        match *op {
            Op::Push { class, peer, deadline_ms } => {
                self.push(class, peer, deadline_ms.map(|ms| now + ms * MS), now)
            }
            Op::Pop => {
                let more_important: Vec<usize> = (0..3).map(|class| self.model.held(class)).collect();
                let (popped, dropped) = self.queue.pop(now);
                let (modelled, model_drops) = self.model.pop(now);
                assert_eq!(popped.as_ref().map(|p| p.waiter), modelled);
                if let Some(popped) = popped {
                    let expected = self.model.expected;
                    assert!(popped.deadline.is_none_or(|deadline| now + expected < deadline));
                    assert!(more_important[popped.class] > 0);
                }
                [drops(dropped), model_drops]
            }
            Op::Cancel(back) => {
                if let Some(&(id, ticket)) = self.tickets.iter().rev().nth(back) {
                    assert_eq!(self.queue.cancel(ticket).is_some(), self.model.cancel(id));
                }
                [Drops::new(), Drops::new()]
            }
            Op::Timeout => [drops(self.queue.handle_timeout(now)), self.model.expire(now)],
            Op::Expect(ms) => {
                self.queue.expect(ms * MS);
                self.model.expected = ms * MS;
                [Drops::new(), Drops::new()]
            }
            Op::Reconfigure => {
                [drops(self.queue.reconfigure(other, now)), self.model.reconfigure(other, now)]
            }
            Op::Close => [drops(self.queue.close(now)), self.model.close()],
        }
    }

    fn check(&self, now: Instant) {
        let view = self.queue.view(now);
        assert_eq!(view.depth, self.model.waiting.len());
        assert!(view.depth <= view.depth_max);
        assert_eq!(view.counters.depth(), view.depth as u64);
        assert_eq!(view.counters.admitted + view.counters.refused.total(), self.id_next);
        assert_eq!(view.oldest, self.model.waiting.iter().map(|w| now - w.since).max());
        assert_eq!(self.queue.poll_timeout(), self.model.due());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_dispatches_and_drops_as_the_rules_by_brute_force_do(
        settings in any_settings(), other in any_settings(), ops in prop::collection::vec((any_op(), 0_u32..30), 0..150),
    ) {
        let mut now = Instant::now() + Duration::from_secs(1);
        let mut pair = Pair::new(&settings);
        for (op, wait_ms) in ops {
            now += wait_ms / 10 * MS;
            let [dropped, modelled] = pair.apply(&op, &other, now);
            prop_assert_eq!(dropped, modelled, "{:?}", op);
            pair.check(now);
        }
        // Time alone drains it, and each timer that is due does something.
        while let Some(due) = pair.queue.poll_timeout() {
            now = now.max(due);
            prop_assert!(!pair.queue.handle_timeout(now).is_empty());
        }
        prop_assert!(pair.queue.is_empty());
    }

    #[test]
    fn permits_alone_drain_it_to_zero(settings in any_settings(), arrivals in prop::collection::vec((0_usize..4, 0_u8..5), 0..60)) {
        let now = Instant::now();
        let mut queue = Queue::new(&settings);
        for (class, from) in arrivals {
            let _ = queue.push(entry(class, from, 0), now);
        }
        let waiting = queue.len();
        prop_assert_eq!(drain(&mut queue, now).len(), waiting);
        let counters = queue.view(now).counters;
        prop_assert_eq!((counters.depth(), counters.dispatched), (0, waiting as u64));
    }

    #[test]
    fn with_strict_priority_nobody_goes_while_a_more_important_one_waits(
        arrivals in prop::collection::vec((0_usize..3, 0_u8..5, any::<bool>()), 0..80),
    ) {
        let now = Instant::now();
        let mut queue = Queue::new(&strict(3));
        for (class, from, pops) in arrivals {
            let _ = queue.push(entry(class, from, 0), now);
            if pops {
                let before: Vec<usize> = queue.view(now).classes.iter().map(|class| class.depth).collect();
                let (popped, _) = queue.pop(now);
                prop_assert_eq!(popped.map(|p| p.class), before.iter().position(|&depth| depth > 0));
            }
        }
    }

    #[test]
    fn codel_judges_as_the_loop_that_the_rfc_prints(steps in prop::collection::vec((0_u64..60, 0_u64..12, 1_usize..9), 0..200)) {
        let mut now = Instant::now();
        let (mut codel, mut printed) = (Codel::default(), Printed::default());
        for (wait_ms, waited_ms, waiting) in steps {
            now += Duration::from_millis(wait_ms);
            let waits = vec![Duration::from_millis(waited_ms); waiting];
            let mut dropped = 0;
            while codel.judge(waits[dropped], if dropped + 1 == waiting { Only::Yes } else { Only::No }, now) == Verdict::Drop {
                dropped += 1;
            }
            prop_assert_eq!(dropped, printed.dequeue(&waits, now));
        }
    }
}
