use std::time::Duration;

use proptest::prelude::*;

use super::Station;

const MS: Duration = Duration::from_millis(1);

#[test]
fn jobs_end_a_service_time_after_they_came_while_workers_are_free() {
    let mut station = Station::new(2, MS * 10);
    station.arrive('a', MS);
    station.arrive('b', MS * 3);
    assert_eq!(station.poll_timeout(), Some(MS * 11));
    assert_eq!(station.handle_timeout(MS * 11), ['a']);
    assert_eq!(station.handle_timeout(MS * 13), ['b']);
    assert_eq!(station.poll_timeout(), None);
}

#[test]
fn a_late_timer_costs_no_capacity() {
    let mut station = Station::new(1, MS * 10);
    for job in 0..100 {
        station.arrive(job, Duration::ZERO);
    }
    // Looked at once in 35 ms, as on a loaded machine: after a second all hundred are done all the same.
    let ended: usize = (1..=29).map(|look| station.handle_timeout(MS * 35 * look).len()).sum();
    assert_eq!(ended, 100);
}

#[test]
fn a_share_taken_away_stretches_what_begins_afterwards() {
    let mut station = Station::new(1, MS * 10);
    station.arrive('a', Duration::ZERO);
    station.take_away(0.75);
    station.arrive('b', MS);
    assert_eq!(station.handle_timeout(MS * 10), ['a']);
    assert_eq!(station.poll_timeout(), Some(MS * 50));
    station.take_away(0.0);
    assert_eq!(station.handle_timeout(MS * 50), ['b']);
}

#[test]
fn a_halted_station_keeps_its_line_and_goes_on_when_it_resumes() {
    let mut station = Station::new(1, MS * 10);
    station.arrive('a', Duration::ZERO);
    station.halt();
    station.arrive('b', MS);
    assert_eq!(station.handle_timeout(MS * 500), ['a']);
    assert_eq!(station.poll_timeout(), None);
    station.resume(MS * 1_000);
    assert_eq!(station.poll_timeout(), Some(MS * 1_010), "it begins now, not when it could have");
}

#[test]
fn whoever_is_let_go_is_never_served() {
    let mut station = Station::new(1, MS * 10);
    for job in ['a', 'b', 'c'] {
        station.arrive(job, Duration::ZERO);
    }
    assert_eq!(station.clear().collect::<Vec<_>>(), ['b', 'c']);
    assert_eq!(station.handle_timeout(MS * 100), ['a']);
}

proptest! {
    /// Against the recurrence of a line with several servers: each job begins when it came or when the first worker is
    /// free, whichever is later.
    #[test]
    fn it_ends_jobs_when_the_recurrence_of_a_line_says(
        workers in 1_usize..4,
        gaps in prop::collection::vec(0_u32..30, 1..60),
        looks in 1_u32..50,
    ) {
        let service = MS * 10;
        let mut free = vec![Duration::ZERO; workers];
        let mut expected = Vec::new();
        let mut station = Station::new(workers, service);
        let mut seen = Vec::new();
        let mut now = Duration::ZERO;
        for (job, gap) in gaps.iter().enumerate() {
            now += MS * *gap;
            seen.extend(station.handle_timeout(now));
            station.arrive(job, now);
            let first = free.iter_mut().min().expect("there are workers");
            *first = now.max(*first) + service;
            expected.push((*first, job));
        }
        expected.sort();
        let end = expected.last().expect("there are jobs").0;
        while now < end {
            now += MS * looks;
            seen.extend(station.handle_timeout(now));
        }
        prop_assert_eq!(seen, expected.into_iter().map(|(_, job)| job).collect::<Vec<_>>());
        prop_assert_eq!(station.poll_timeout(), None);
    }
}
