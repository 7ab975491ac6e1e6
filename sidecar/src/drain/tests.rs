//! Sentences about a drain, and a property over any order of events.

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(30);

fn after(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

#[test]
fn it_goes_on_accepting_until_the_mesh_has_taken_it_out() {
    let start = Instant::now();
    let mut machine = Machine::new(GRACE);
    assert_eq!(machine.handle(Input::Asked, start), Some(Output::Withdraw));
    assert_eq!(machine.handle(Input::Open(3), after(start, 1)), None);
    assert_eq!(machine.handle(Input::Withdrawn, after(start, 2)), Some(Output::Finish));
    assert_eq!(machine.handle(Input::Open(1), after(start, 3)), None);
    assert_eq!(machine.handle(Input::Open(0), after(start, 4)), Some(Output::Exit { cut: 0 }));
}

#[test]
fn a_mesh_that_never_acknowledges_is_waited_for_no_longer_than_the_bound() {
    let start = Instant::now();
    let mut machine = Machine::new(GRACE);
    machine.handle(Input::Asked, start);
    assert_eq!(machine.handle_timeout(after(start, 4_999)), None);
    assert_eq!(machine.handle_timeout(start + WITHDRAWAL_MAX), Some(Output::Finish));
}

#[test]
fn a_second_signal_ends_at_once_and_says_what_was_cut_off() {
    let start = Instant::now();
    let mut machine = Machine::new(GRACE);
    machine.handle(Input::Open(2), start);
    machine.handle(Input::Asked, start);
    assert_eq!(machine.handle(Input::Asked, after(start, 1)), Some(Output::Exit { cut: 2 }));
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![Just(Input::Asked), Just(Input::Withdrawn), (0_u64..4).prop_map(Input::Open)]
}

proptest! {
    /// However events fall, a drain that began ends within its two bounds and exactly once.
    #[test]
    fn a_drain_that_began_ends_within_its_bounds(inputs in prop::collection::vec(any_input(), 0..64)) {
        let start = Instant::now();
        let mut machine = Machine::new(GRACE);
        let (mut now, mut outputs) = (start, Vec::new());
        for &input in &inputs {
            now += Duration::from_millis(1);
            outputs.extend(machine.handle(input, now));
        }
        while let Some(at) = machine.poll_timeout() {
            now = at;
            outputs.extend(machine.handle_timeout(now));
        }
        let ends = outputs.iter().filter(|o| matches!(o, Output::Exit { .. })).count();
        prop_assert_eq!(ends, usize::from(inputs.contains(&Input::Asked)));
        prop_assert!(now <= start + WITHDRAWAL_MAX + GRACE + Duration::from_millis(64));
    }
}
