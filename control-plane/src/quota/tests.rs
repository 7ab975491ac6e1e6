//! The ledger against the plainest model: the sum over boots of what each said last.

use std::collections::BTreeMap;
use std::time::Duration;

use outrider_shared::ServiceId;
use outrider_shared::session::InboundTotals;
use proptest::prelude::*;

use super::machine::{BOOTS_MAX, FOLD_AFTER, Ledger, ROWS_MAX};

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

fn total(ledger: &Ledger) -> u64 {
    requests(ledger).values().sum()
}

#[test]
fn a_report_that_comes_twice_counts_once() {
    let mut ledger = Ledger::default();
    assert!(ledger.add("a", &[row(80, "p", 5)]));
    assert!(!ledger.add("a", &[row(80, "p", 5)]));
    assert_eq!(requests(&ledger), [("p".to_owned(), 5)].into());
}

#[test]
fn ports_and_boots_of_one_peer_are_added_up() {
    let mut ledger = Ledger::default();
    ledger.add("a", &[row(80, "p", 5), row(81, "p", 6)]);
    ledger.add("b", &[row(80, "p", 7)]);
    let rows = ledger.rows(&service());
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].requests, rows[0].refusals, rows[0].bytes_sent), (18, 8, 180));
}

#[test]
fn a_boot_that_was_silent_for_a_day_is_folded_and_nothing_is_lost() {
    let mut ledger = Ledger::default();
    ledger.add("a", &[row(80, "p", 5), row(80, "q", 1)]);
    ledger.add("b", &[row(80, "p", 7)]);
    assert!(!ledger.pass(FOLD_AFTER));
    ledger.add("b", &[row(80, "p", 8)]);
    let before = ledger.rows(&service());
    assert!(ledger.pass(Duration::from_secs(1)));
    assert_eq!(ledger.rows(&service()), before);
    ledger.add("b", &[row(80, "p", 9)]);
    assert_eq!(requests(&ledger), [("p".to_owned(), 14), ("q".to_owned(), 1)].into());
}

#[test]
fn a_boot_that_reports_after_the_control_plane_was_away_for_long_is_not_counted_twice() {
    let mut ledger = Ledger::default();
    ledger.add("a", &[row(80, "p", 5)]);
    // Away for a week: the ledger did not run, so no time has passed for it.
    let text = serde_json::to_string(&ledger).unwrap();
    let mut ledger: Ledger = serde_json::from_str(&text).unwrap();
    ledger.pass(Duration::from_secs(5));
    ledger.add("a", &[row(80, "p", 6)]);
    assert_eq!(total(&ledger), 6);
}

#[test]
fn peers_past_the_bound_are_counted_together_and_exactly() {
    let mut ledger = Ledger::default();
    let many = |requests| -> Vec<InboundTotals> {
        (0..ROWS_MAX + 10).map(|n| row(80, &format!("peer-{n}"), requests)).collect()
    };
    ledger.add("a", &many(1));
    assert_eq!(ledger.rows(&service()).len(), ROWS_MAX + 1);
    assert_eq!(requests(&ledger)["_other"], 10);
    ledger.add("a", &many(2));
    assert_eq!(total(&ledger), 2 * (ROWS_MAX as u64 + 10));
}

#[test]
fn a_peer_counted_among_the_rest_is_not_counted_again_when_there_is_room() {
    let mut ledger = Ledger::default();
    let full: Vec<InboundTotals> = (0..ROWS_MAX).map(|n| row(80, &format!("peer-{n}"), 1)).collect();
    ledger.add("old", &full);
    ledger.add("new", &[row(80, "late", 3)]);
    ledger.pass(FOLD_AFTER);
    ledger.add("new", &[row(80, "late", 3)]);
    assert!(ledger.pass(Duration::from_secs(1)));
    ledger.add("new", &[row(80, "late", 4)]);
    assert_eq!(total(&ledger), ROWS_MAX as u64 + 4);
}

#[test]
fn boots_without_end_neither_grow_the_ledger_without_bound_nor_lose_a_count() {
    let mut ledger = Ledger::default();
    let boots = BOOTS_MAX as u64 + 100;
    for n in 0..boots {
        ledger.add(&format!("boot-{n}"), &[row(80, "p", 1)]);
    }
    assert_eq!(total(&ledger), boots);
    let text = serde_json::to_string(&ledger).unwrap();
    assert!(!text.contains("\"boot-0\"") && text.contains(&format!("\"boot-{}\"", boots - 1)));
    assert_eq!(text.matches("\"boot-").count(), BOOTS_MAX);
}

#[test]
fn counts_that_are_too_large_stay_at_the_largest() {
    let mut ledger = Ledger::default();
    ledger.add("a", &[InboundTotals { requests: u64::MAX, ..row(80, "p", 0) }]);
    ledger.add("b", &[InboundTotals { requests: u64::MAX, ..row(80, "p", 0) }]);
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
            ledger.add(&format!("boot-{boot}"), &rows(counts));
            let last = heard.entry(boot).or_insert_with(|| vec![0; 6]);
            last.iter_mut().zip(counts).for_each(|(last, count)| *last = (*last).max(*count));
            if pass {
                // Far less than a day in all.
                ledger.pass(Duration::from_mins(1));
            }
        }
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (peer, count) in heard.values().flat_map(|counts| rows(counts)).map(|row| (row.peer, row.requests)) {
            *expected.entry(peer).or_default() += count;
        }
        prop_assert_eq!(requests(&ledger), expected.clone());
        // All boots fall silent, and the totals stay.
        ledger.pass(FOLD_AFTER * 2);
        prop_assert_eq!(requests(&ledger), expected);
    }
}
