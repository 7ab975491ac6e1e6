use std::time::Duration;

use super::{Arrivals, Phase, dues, length};
use crate::trial::random::Random;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_seed_makes_the_same_schedule_and_another_seed_another() {
    let phases = [Phase::new(SECOND, 100.0)];
    let of = |seed| dues(Arrivals::Poisson, &phases, Random::new(seed));
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn the_first_numbers_of_a_seed_are_those_of_the_published_generator() {
    let mut random = Random::new(1_234_567);
    assert_eq!(random.next(), 6_457_827_717_110_365_317);
    assert_eq!(random.next(), 3_203_168_211_198_807_973);
}

#[test]
fn due_times_ascend_and_lie_within_their_phases() {
    let phases = [Phase::new(SECOND, 50.0), Phase::new(SECOND, 0.0), Phase::new(SECOND, 200.0)];
    for arrivals in [Arrivals::Poisson, Arrivals::Constant] {
        let dues = dues(arrivals, &phases, Random::new(1));
        assert!(dues.is_sorted());
        assert!(dues.iter().all(|due| *due < length(&phases)));
        assert!(!dues.iter().any(|due| (SECOND..SECOND * 2).contains(due)), "nothing is due at a rate of 0");
    }
}

#[test]
fn a_constant_rate_leaves_the_same_gap() {
    let dues = dues(Arrivals::Constant, &[Phase::new(SECOND, 100.0)], Random::new(3));
    assert_eq!(dues.len(), 100);
    for pair in dues.windows(2) {
        let gap = pair[1].abs_diff(pair[0]).as_micros();
        assert!((9_999..=10_001).contains(&gap), "{gap} us");
    }
}

#[test]
fn a_poisson_rate_holds_on_average_and_its_gaps_vary_as_they_ought_to() {
    let dues = dues(Arrivals::Poisson, &[Phase::new(SECOND * 100, 100.0)], Random::new(5));
    // 10,000 are expected, with a deviation of 100: four of them on each side.
    assert!((9_600..=10_400).contains(&dues.len()), "{}", dues.len());
    let gaps: Vec<f64> = dues.windows(2).map(|pair| pair[1].abs_diff(pair[0]).as_secs_f64()).collect();
    let count = f64::from(u32::try_from(gaps.len()).expect("some thousands"));
    let mean = gaps.iter().sum::<f64>() / count;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    let variation = variance.sqrt() / mean;
    assert!((0.9..=1.1).contains(&variation), "an exponential's is 1, this is {variation}");
}
