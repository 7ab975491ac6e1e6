//! The ledger against the plainest model: the sum over boots of what each said last.

use std::collections::BTreeMap;
use std::time::Duration;

use outrider_shared::ServiceId;
use outrider_shared::session::InboundTotals;
use proptest::prelude::*;

use super::machine::{BOOTS_MAX, Ledger, PEERS_MAX, ROWS_MAX, SILENT_AFTER, Said};

fn service() -> ServiceId {
    "shop/orders".parse().unwrap()
}

fn row(port: u16, peer: &str, requests: u64) -> InboundTotals {
    InboundTotals {
        port,
        peer: peer.to_owned(),
        requests,
        refusals: requests / 2,
        bytes_sent: requests * 10,
        ..InboundTotals::default()
    }
}

fn requests(ledger: &Ledger) -> BTreeMap<String, u64> {
    ledger.rows(&service()).into_iter().map(|row| (row.peer, row.requests)).collect()
}

/// Counts of a boot that has just begun, or of which the ledger knows.
fn add(ledger: &mut Ledger, boot: &str, rows: &[InboundTotals]) -> bool {
    add_after(ledger, boot, Duration::ZERO, rows)
}

fn add_after(ledger: &mut Ledger, boot: &str, uptime: Duration, rows: &[InboundTotals]) -> bool {
    ledger.add(&Said { boot, uptime, rows })
}

fn total(ledger: &Ledger) -> u64 {
    requests(ledger).values().sum()
}

#[test]
fn a_report_that_comes_twice_counts_once() {
    let mut ledger = Ledger::default();
    assert!(add(&mut ledger, "a", &[row(80, "p", 5)]));
    assert!(!add(&mut ledger, "a", &[row(80, "p", 5)]));
    assert_eq!(requests(&ledger), [("p".to_owned(), 5)].into());
}

#[test]
fn ports_and_boots_of_one_peer_are_added_up() {
    let mut ledger = Ledger::default();
    add(&mut ledger, "a", &[row(80, "p", 5), row(81, "p", 6)]);
    add(&mut ledger, "b", &[row(80, "p", 7)]);
    let rows = ledger.rows(&service());
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].requests, rows[0].refusals, rows[0].bytes_sent), (18, 8, 180));
}

const DAY: Duration = Duration::from_hours(24);

/// As many boots as there may be, each with one request, one millisecond after the other.
fn boots(ledger: &mut Ledger, name: &str, count: usize) {
    for n in 0..count {
        ledger.pass(Duration::from_millis(1));
        add(ledger, &format!("{name}-{n}"), &[row(80, "crowd", 1)]);
    }
}

#[test]
fn a_boot_that_was_silent_for_days_is_not_counted_again() {
    let mut ledger = Ledger::default();
    add(&mut ledger, "a", &[row(80, "p", 5), row(80, "q", 1)]);
    add(&mut ledger, "b", &[row(80, "p", 7)]);
    ledger.pass(DAY * 3);
    add(&mut ledger, "b", &[row(80, "p", 8)]);
    add_after(&mut ledger, "a", DAY * 4, &[row(80, "p", 9), row(80, "q", 2)]);
    assert_eq!(requests(&ledger), [("p".to_owned(), 17), ("q".to_owned(), 2)].into());
}

#[test]
fn a_boot_that_comes_back_after_it_was_folded_is_not_counted_twice_and_goes_on_counting() {
    let mut ledger = Ledger::default();
    ledger.pass(DAY);
    add_after(&mut ledger, "a", DAY, &[row(80, "p", 100)]);
    boots(&mut ledger, "new", BOOTS_MAX);
    assert!(!serde_json::to_string(&ledger).unwrap().contains("\"a\""), "it was folded");
    assert_eq!(requests(&ledger)["p"], 100);
    let crowd = BOOTS_MAX as u64;
    // As it was, then as it goes on; across a restart too.
    add_after(&mut ledger, "a", DAY * 2, &[row(80, "p", 100)]);
    assert_eq!(requests(&ledger), [("crowd".to_owned(), crowd), ("p".to_owned(), 100)].into());
    let mut ledger: Ledger = serde_json::from_str(&serde_json::to_string(&ledger).unwrap()).unwrap();
    add_after(&mut ledger, "a", DAY * 2, &[row(80, "p", 130), row(81, "p", 4)]);
    add_after(&mut ledger, "a", DAY * 2, &[row(80, "p", 130), row(81, "p", 4)]);
    assert_eq!(requests(&ledger), [("crowd".to_owned(), crowd), ("p".to_owned(), 134)].into());
    // Folded a second time, and back again.
    boots(&mut ledger, "newer", BOOTS_MAX);
    add_after(&mut ledger, "a", DAY * 3, &[row(80, "p", 130), row(81, "p", 4)]);
    assert_eq!(requests(&ledger)["p"], 134);
}

#[test]
fn a_boot_that_began_after_the_last_folded_one_was_heard_of_counts_from_its_start() {
    let mut ledger = Ledger::default();
    boots(&mut ledger, "old", BOOTS_MAX + 1);
    ledger.pass(DAY);
    add_after(&mut ledger, "young", DAY / 2, &[row(80, "p", 6)]);
    assert_eq!(requests(&ledger)["p"], 6);
}

#[test]
fn a_boot_that_reports_after_the_control_plane_was_away_for_long_is_not_counted_twice() {
    let mut ledger = Ledger::default();
    add(&mut ledger, "a", &[row(80, "p", 5)]);
    // Away for a week: the ledger did not run, so no time has passed for it.
    let text = serde_json::to_string(&ledger).unwrap();
    let mut ledger: Ledger = serde_json::from_str(&text).unwrap();
    ledger.pass(Duration::from_secs(5));
    add_after(&mut ledger, "a", DAY * 7, &[row(80, "p", 6)]);
    assert_eq!(total(&ledger), 6);
}

#[test]
fn peers_past_the_bound_are_counted_together_and_exactly() {
    let mut ledger = Ledger::default();
    let many = |requests| -> Vec<InboundTotals> {
        (0..PEERS_MAX + 10).map(|n| row(80, &format!("peer-{n}"), requests)).collect()
    };
    add(&mut ledger, "a", &many(1));
    assert_eq!(ledger.rows(&service()).len(), PEERS_MAX + 1);
    assert_eq!(requests(&ledger)["_other"], 10);
    add(&mut ledger, "a", &many(2));
    assert_eq!(total(&ledger), 2 * (PEERS_MAX as u64 + 10));
    // Names are bounded over all boots, those that are over included; a name that is known has its row in each.
    add(&mut ledger, "b", &[row(80, "peer-0", 5), row(80, "newcomer", 7)]);
    assert_eq!(ledger.rows(&service()).len(), PEERS_MAX + 1);
    assert_eq!((requests(&ledger)["peer-0"], requests(&ledger)["_other"]), (7, 27));
}

#[test]
fn many_sidecars_with_the_same_few_peers_keep_their_names() {
    let mut ledger = Ledger::default();
    let peers: Vec<InboundTotals> = (0..10).map(|n| row(80, &format!("peer-{n}"), 1)).collect();
    for n in 0..1_000 {
        add(&mut ledger, &format!("boot-{n}"), &peers);
    }
    assert_eq!(requests(&ledger).len(), 10);
    assert_eq!(requests(&ledger)["peer-9"], 1_000);
}

/// Boots with 1,000 ports each, until no row is left.
fn full(ledger: &mut Ledger) {
    for n in 0..ROWS_MAX / 1_000 {
        let rows: Vec<InboundTotals> = (0..1_000).map(|port| row(port, "p", 1)).collect();
        add(ledger, &format!("full-{n}"), &rows);
    }
}

#[test]
fn rows_past_the_bound_are_counted_together_and_stay_so_when_there_is_room() {
    let mut ledger = Ledger::default();
    full(&mut ledger);
    add(&mut ledger, "new", &[row(80, "late", 3)]);
    assert_eq!(requests(&ledger)["_other"], 3);
    ledger.pass(SILENT_AFTER * 2);
    add(&mut ledger, "new", &[row(80, "late", 4)]);
    assert_eq!(total(&ledger), ROWS_MAX as u64 + 4);
}

#[test]
fn boots_that_have_been_silent_give_their_rows_up_and_nothing_is_lost() {
    let mut ledger = Ledger::default();
    full(&mut ledger);
    ledger.pass(SILENT_AFTER * 2);
    add(&mut ledger, "new", &[row(80, "late", 3)]);
    assert_eq!(requests(&ledger), [("late".to_owned(), 3), ("p".to_owned(), ROWS_MAX as u64)].into());
    let text = serde_json::to_string(&ledger).unwrap();
    assert!(!text.contains("full-0\"") && text.contains("full-1\""), "one was enough");
}

#[test]
fn boots_without_end_neither_grow_the_ledger_without_bound_nor_lose_a_count() {
    let mut ledger = Ledger::default();
    boots(&mut ledger, "boot", BOOTS_MAX + 100);
    assert_eq!(total(&ledger), BOOTS_MAX as u64 + 100);
    let text = serde_json::to_string(&ledger).unwrap();
    assert!(!text.contains("\"boot-0\"") && text.contains(&format!("\"boot-{}\"", BOOTS_MAX + 99)));
    assert_eq!(text.matches("\"boot-").count(), BOOTS_MAX);
}

#[test]
fn counts_that_are_too_large_stay_at_the_largest() {
    let mut ledger = Ledger::default();
    add(&mut ledger, "a", &[InboundTotals { requests: u64::MAX, ..row(80, "p", 0) }]);
    add(&mut ledger, "b", &[InboundTotals { requests: u64::MAX, ..row(80, "p", 0) }]);
    assert_eq!(requests(&ledger)["p"], u64::MAX);
}

/// Reports of one boot, each with at least what the one before had.
fn history() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let step = prop::collection::vec(0..5_u64, 6);
    prop::collection::vec(step, 1..6).prop_map(|steps| {
        let mut sums = vec![0; 6];
        let grow = |step: Vec<u64>| {
            sums.iter_mut().zip(step).for_each(|(sum, by)| *sum += by);
            sums.clone()
        };
        steps.into_iter().map(grow).collect()
    })
}

/// Two ports and three peers.
fn rows(counts: &[u64]) -> Vec<InboundTotals> {
    let at = |(n, count): (usize, &u64)| row(80 + u16::from(n >= 3), ["p", "q", "external"][n % 3], *count);
    counts.iter().enumerate().map(at).collect()
}

proptest! {
    #[test]
    fn reports_in_any_order_repeated_or_lost_give_the_sum_over_boots_of_the_greatest(
        histories in prop::collection::vec(history(), 1..5),
        deliveries in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
        folds in prop::collection::vec(any::<bool>(), 40),
    ) {
        let mut ledger = Ledger::default();
        let mut heard: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        for ((boot, report), pass) in deliveries.iter().zip(folds) {
            let boot = boot.index(histories.len());
            let counts = report.get(&histories[boot]);
            add(&mut ledger, &format!("boot-{boot}"), &rows(counts));
            let last = heard.entry(boot).or_insert_with(|| vec![0; 6]);
            last.iter_mut().zip(counts).for_each(|(last, count)| *last = (*last).max(*count));
            if pass {
                ledger.pass(DAY);
            }
        }
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (peer, count) in heard.values().flat_map(|counts| rows(counts)).map(|row| (row.peer, row.requests)) {
            *expected.entry(peer).or_default() += count;
        }
        prop_assert_eq!(requests(&ledger), expected);
    }
}
