//! Contexts: kept, found, shared, given up, and never more than there is room for.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn key(n: u128) -> TraceKey {
    TraceKey::of(n)
}

fn by(contexts: &Contexts, ms: u64) -> Context {
    Context { deadline: Some(contexts.began + Duration::from_millis(ms)), ..Context::default() }
}

#[test]
fn a_context_is_found_while_its_request_is_under_way() {
    let contexts = Arc::new(Contexts::default());
    assert_eq!(contexts.find(key(7)), None);
    let class = contexts.class(&HeaderValue::from_static("checkout"));
    let kept = contexts.keep(key(7), Context { class, ..by(&contexts, 250) }).expect("room");
    let found = contexts.find(key(7)).expect("kept");
    assert_eq!((found.deadline, found.class), (by(&contexts, 250).deadline, class));
    assert_eq!(contexts.class_name(class.expect("known")).expect("a name"), "checkout");
    drop(kept);
    assert_eq!(contexts.find(key(7)), None);
}

#[test]
fn of_two_requests_of_one_trace_the_later_deadline_counts() {
    let contexts = Arc::new(Contexts::default());
    let first = contexts.keep(key(7), by(&contexts, 250)).expect("room");
    let second = contexts.keep(key(7), by(&contexts, 100)).expect("room");
    assert_eq!(contexts.find(key(7)).expect("kept").deadline, by(&contexts, 250).deadline);
    drop(first);
    assert!(contexts.find(key(7)).is_some(), "the other is under way");
    let third = contexts.keep(key(7), Context::default()).expect("room");
    assert_eq!(contexts.find(key(7)).expect("kept").deadline, None, "no deadline is the most generous");
    drop((second, third));
    assert_eq!(contexts.find(key(7)), None);
}

#[test]
fn what_the_outbound_side_notes_the_inbound_side_sees() {
    let contexts = Arc::new(Contexts::default());
    contexts.note_retried(key(7));
    let kept = contexts.keep(key(7), Context::default()).expect("room");
    assert!(!kept.retried(), "nobody was there when it was noted");
    contexts.note_retried(key(7));
    assert!(kept.retried());
}

#[test]
fn a_full_set_takes_no_more_and_says_so() {
    let contexts = Arc::new(Contexts::default());
    let step = (SLOTS / WAYS) as u128;
    let kept: Vec<_> = (1..=WAYS as u128).map(|n| contexts.keep(key(n * step), Context::default())).collect();
    assert!(kept.iter().all(Option::is_some));
    assert!(contexts.keep(key(100 * step), Context::default()).is_none());
    assert_eq!(contexts.dropped(), 1);
    drop(kept);
    assert!(contexts.keep(key(100 * step), Context::default()).is_some());
}

#[test]
fn names_of_classes_are_bounded() {
    let contexts = Contexts::default();
    let name = |n: usize| HeaderValue::try_from(format!("class-{n}")).expect("text");
    let all: Vec<_> = (0..NAMES_MAX).map(|n| contexts.class(&name(n))).collect();
    assert!(all.iter().all(Option::is_some));
    assert_eq!(contexts.class(&name(NAMES_MAX)), None);
    assert_eq!(contexts.class(&name(3)), all[3]);
}

#[test]
fn threads_that_race_for_the_same_traces_leave_nothing_behind() {
    let contexts = Arc::new(Contexts::default());
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let contexts = &contexts;
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let key = key(u128::from((round * 7 + thread) % 64 + 1));
                    let kept = contexts.keep(key, by(contexts, 5 + round % 9));
                    if kept.is_some() {
                        contexts.note_retried(key);
                        let deadline = contexts.find(key).and_then(|found| found.deadline);
                        let range = contexts.began + Duration::from_millis(5)
                            ..=contexts.began + Duration::from_millis(13);
                        assert!(deadline.is_none_or(|deadline| range.contains(&deadline)), "{deadline:?}");
                    }
                }
            });
        }
    });
    assert!(contexts.slots.iter().all(|slot| slot.key.load(Ordering::SeqCst) == 0));
}

proptest! {
    /// Against a map that counts.
    #[test]
    fn it_is_a_map_with_counts(steps in prop::collection::vec((1_u128..20, any::<bool>()), 0..200)) {
        let contexts = Arc::new(Contexts::default());
        let mut kept: HashMap<u128, Vec<Kept>> = HashMap::new();
        for (trace, begin) in steps {
            let held = kept.entry(trace).or_default();
            if begin {
                held.push(contexts.keep(key(trace), Context::default()).expect("few traces"));
            } else {
                held.pop();
            }
            prop_assert_eq!(contexts.find(key(trace)).is_some(), !held.is_empty());
        }
    }

    #[test]
    fn a_key_survives_its_header(trace: u128) {
        let key = key(trace);
        prop_assert_eq!(TraceKey::parse(&key.header()), Some(key));
    }
}
