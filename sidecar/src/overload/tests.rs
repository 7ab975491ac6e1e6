//! The level by what was read, what it refuses, and how the kernel's files are read.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::machine::{LAG_WINDOW, LEVEL_MAX, Machine, Reading, Resource, share_refused};
use super::readings;

fn memory(used: f64) -> Reading {
    Reading { memory: Some(used), connections: None, lags: Vec::new() }
}

fn late(ms: &[u64]) -> Reading {
    let lags = ms.iter().map(|ms| Duration::from_millis(*ms)).collect();
    Reading { memory: None, connections: Some(0.0), lags }
}

fn percent(share: f64) -> String {
    format!("{:.0}", share * 100.0)
}

/// Longer than a level is held.
const LATER: Duration = Duration::from_millis(500);

#[test]
fn the_level_rises_at_once_and_falls_step_by_step() {
    let mut now = Instant::now();
    let mut machine = Machine::default();
    assert_eq!(machine.handle(&memory(0.5), now).level, 0);
    assert_eq!(machine.handle(&memory(0.899), now).level, 0);
    assert_eq!(machine.handle(&memory(0.94), now).level, 5);
    assert_eq!(machine.handle(&memory(1.2), now).level, LEVEL_MAX);
    for below in (0..LEVEL_MAX).rev() {
        assert_eq!(machine.handle(&memory(0.1), now).level, below + 1, "it is held");
        now += LATER;
        assert_eq!(machine.handle(&memory(0.1), now).level, below);
    }
}

#[test]
fn readings_that_tremble_around_an_edge_change_the_level_once() {
    let mut now = Instant::now();
    let mut machine = Machine::default();
    for turn in 0..20 {
        // The edge between 3 and 4 lies at 0.924.
        let view = machine.handle(&memory(if turn % 2 == 0 { 0.9241 } else { 0.9215 }), now);
        assert_eq!(view.level, 4);
        now += LATER;
    }
    assert_eq!(machine.handle(&memory(0.919), now).level, 3);
}

#[test]
fn a_moment_without_a_core_is_no_overload_and_a_second_of_it_is() {
    let now = Instant::now();
    let mut machine = Machine::default();
    let mut level = 0;
    for turn in 0..=4 * LAG_WINDOW {
        let lags = if turn % LAG_WINDOW == 0 { [5, 1] } else { [5, 2_000] };
        level = machine.handle(&late(&lags), now).level;
        assert_eq!(level, 0, "within each second it was in time once");
    }
    for _ in 0..LAG_WINDOW {
        assert_eq!(level, 0);
        level = machine.handle(&late(&[5, 2_000]), now).level;
    }
    assert_eq!(level, LEVEL_MAX);
    let view = machine.handle(&late(&[5, 2_000]), now);
    assert_eq!(view.shortest_of, Resource::EventLoop);
    assert_eq!(view.pressures, [None, Some(0.0), Some(2.0)]);
}

#[test]
fn what_it_is_shortest_of_decides_and_is_named_until_it_is_over() {
    let now = Instant::now();
    let mut machine = Machine::default();
    let both = Reading { memory: Some(0.91), connections: Some(0.94), lags: Vec::new() };
    let view = machine.handle(&both, now);
    assert_eq!((view.level, view.shortest_of), (10, Resource::Connections));
    let view = machine.handle(&memory(0.1), now + LATER);
    assert_eq!((view.level, view.shortest_of), (9, Resource::Connections));
}

#[test]
fn the_last_classes_are_refused_first_and_the_first_never() {
    let refused = |level| [0, 1, 2].map(|class| percent(share_refused(level, class, 3)));
    assert_eq!(refused(0), ["0", "0", "0"]);
    assert_eq!(refused(2), ["0", "0", "40"]);
    assert_eq!(refused(5), ["0", "0", "100"]);
    assert_eq!(refused(10), ["0", "100", "100"]);
    assert_eq!([0, 1, 10].map(|level| percent(share_refused(level, 0, 1))), ["0", "9", "90"]);
}

proptest! {
    #[test]
    fn a_share_is_a_share_and_grows_with_the_level_and_with_unimportance(
        level in 0_u8..=LEVEL_MAX,
        class in 0_usize..16,
        classes in 1_usize..=16,
    ) {
        let share = share_refused(level, class, classes);
        prop_assert!((0.0..=1.0).contains(&share));
        prop_assert!(share_refused(level.saturating_sub(1), class, classes) <= share);
        prop_assert!(class + 1 >= classes || share <= share_refused(level, class + 1, classes));
        prop_assert!(level > 0 || share == 0.0);
        prop_assert!(classes == 1 || class > 0 || share == 0.0);
        // Nothing is refused wholly before all of what is less important is.
        prop_assert!(class == 0 || class + 1 >= classes || share == 0.0 || share_refused(level, class + 1, classes) >= 1.0);
    }

    /// Whatever was read before: what is read now decides how high the level is at least, and calm ends it in bounded time.
    #[test]
    fn the_level_is_never_below_what_is_read_and_ends_when_that_does(
        readings in proptest::collection::vec((0.0_f64..2.0, 0.0_f64..2.0, 0_u64..3_000, 0_u64..700), 1..60),
    ) {
        let mut now = Instant::now();
        let mut machine = Machine::default();
        for (used, connections, lag, passed) in readings {
            now += Duration::from_millis(passed);
            let lags = vec![Duration::from_millis(lag)];
            let reading = Reading { memory: Some(used), connections: Some(connections), lags: lags.clone() };
            let before = machine.handle(&reading, now).level;
            let fresh = Machine::default().handle(&Reading { lags: Vec::new(), ..reading.clone() }, now).level;
            prop_assert!(before >= fresh && before <= LEVEL_MAX);
        }
        let calm = Reading { memory: Some(0.0), connections: Some(0.0), lags: vec![Duration::ZERO] };
        for _ in 0..=LEVEL_MAX {
            now += LATER;
            machine.handle(&calm, now);
        }
        prop_assert_eq!(machine.handle(&calm, now).level, 0);
    }

    /// A clock that stands still or goes back makes it no less able to rise.
    #[test]
    fn a_clock_that_goes_back_changes_nothing(used in 0.98_f64..2.0, back in 0_u64..5_000) {
        let now = Instant::now() + Duration::from_secs(10);
        let mut machine = Machine::default();
        machine.handle(&memory(0.93), now);
        let earlier = now.checked_sub(Duration::from_millis(back)).expect("ten seconds were added");
        prop_assert_eq!(machine.handle(&memory(used), earlier).level, LEVEL_MAX);
    }
}

#[test]
fn the_kernels_files_are_read_as_they_are() {
    let status = "Name:\tsidecar\nVmHWM:\t  200 kB\nVmRSS:\t    4048 kB\nRssAnon:\t 1 kB\n";
    assert_eq!(readings::resident_bytes(status), Some(4048 << 10));
    assert_eq!(readings::resident_bytes(""), None);
    let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
    assert_eq!(readings::open_files(limits), Some(1024));
    assert_eq!(readings::open_files("Max open files  unlimited  unlimited  files\n"), None);
    let here = readings::Limits::read(Some(1 << 40));
    assert!(here.memory().is_some_and(|used| used > 0.0 && used < 1.0), "{here:?}");
}

#[test]
fn the_least_limit_of_the_cgroup_and_those_above_it_holds() {
    let root = tempfile::tempdir().unwrap();
    let (outer, inner) = (root.path().join("pod"), root.path().join("pod/sidecar"));
    fs::create_dir_all(&inner).unwrap();
    let own = "1:cpu:/old\n0::/pod/sidecar\n";
    assert_eq!(readings::memory_max(own, root.path()), None);
    fs::write(inner.join("memory.max"), "max\n").unwrap();
    assert_eq!(readings::memory_max(own, root.path()), None);
    fs::write(outer.join("memory.max"), "1000000\n").unwrap();
    assert_eq!(readings::memory_max(own, root.path()), Some(1_000_000));
    fs::write(inner.join("memory.max"), "2000000\n").unwrap();
    assert_eq!(readings::memory_max(own, root.path()), Some(1_000_000));
    fs::write(inner.join("memory.max"), "500\n").unwrap();
    assert_eq!(readings::memory_max(own, root.path()), Some(500));
    assert_eq!(readings::memory_max("0::/\n", root.path()), None, "its own root has no file");
    assert_eq!(readings::memory_max("4:memory:/x\n", Path::new("/nowhere")), None);
}
