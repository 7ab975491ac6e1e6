//! The machine against a naive model, and what answers over gRPC mean.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrider_shared::traffic::{HealthCheck, HealthCheckKind};
use outrider_shared::units::GepDuration;
use proptest::prelude::*;

use super::grpc;
use super::machine::{Check, Listed, Machine, Verdict};

const INTERVAL: Duration = Duration::from_secs(5);

fn policy(unhealthy_threshold: u32, healthy_threshold: u32) -> HealthCheck {
    HealthCheck {
        kind: HealthCheckKind::Http { path: "/healthz".to_owned() },
        interval: GepDuration::from_millis(5_000),
        timeout: GepDuration::from_millis(1_000),
        unhealthy_threshold,
        healthy_threshold,
    }
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 14006))
}

fn listed(n: u8, sidecar: u8) -> Listed {
    Listed { sidecar: format!("{sidecar:02x}").parse().expect("hex"), address: address(n), unwell: None }
}

fn unwell() -> Verdict {
    Verdict::Unwell("500".to_owned())
}

/// One endpoint, and a machine that is asked about it.
struct One {
    machine: Machine,
    now: Instant,
}

impl One {
    fn new(policy: HealthCheck) -> Self {
        let now = Instant::now();
        let mut machine = Machine::new(policy);
        machine.list(vec![listed(1, 1)], || 0.0, now);
        Self { machine, now }
    }

    /// The next check, when it is due.
    fn check(&mut self) -> Check {
        self.now = self.machine.poll_timeout().expect("somebody is always due").max(self.now);
        self.machine.next(self.now).expect("it is due")
    }

    fn shows(&mut self, verdict: Verdict) -> bool {
        let check = self.check();
        self.machine.ended(check, verdict, 0.5, self.now);
        self.is_left_out()
    }

    fn is_left_out(&self) -> bool {
        matches!(self.machine.correction(address(1), None), Some(Some(_)))
    }
}

#[test]
fn it_is_left_out_after_failures_in_a_row_and_comes_back_after_successes_in_a_row() {
    let mut one = One::new(policy(3, 2));
    assert_eq!([unwell(), unwell(), Verdict::Well].map(|verdict| one.shows(verdict)), [false; 3]);
    assert_eq!([unwell(), unwell(), unwell()].map(|verdict| one.shows(verdict)), [false, false, true]);
    assert_eq!([Verdict::Well, unwell(), Verdict::Well].map(|verdict| one.shows(verdict)), [true; 3]);
    assert!(!one.shows(Verdict::Well));
}

#[test]
fn a_check_that_shows_nothing_neither_ends_a_row_nor_adds_to_it() {
    let mut one = One::new(policy(2, 2));
    let nothing = || Verdict::Inconclusive("its queue is full".to_owned());
    assert!(!one.shows(unwell()));
    assert_eq!([nothing(), nothing(), nothing()].map(|verdict| one.shows(verdict)), [false; 3]);
    assert!(one.shows(unwell()), "it is the second in a row");
    assert_eq!([Verdict::Well, nothing()].map(|verdict| one.shows(verdict)), [true; 2]);
    assert!(!one.shows(Verdict::Well));
}

#[test]
fn what_the_actor_goes_by_is_corrected_until_it_is_what_is_known() {
    let mut one = One::new(policy(1, 1));
    assert_eq!(one.machine.correction(address(1), None), None);
    one.shows(unwell());
    assert_eq!(one.machine.correction(address(1), None), Some(Some("500".to_owned())));
    assert_eq!(one.machine.correction(address(1), None), Some(Some("500".to_owned())), "it may be lost");
    assert_eq!(one.machine.correction(address(1), Some("500")), None);
    one.shows(Verdict::Well);
    assert_eq!(one.machine.correction(address(1), Some("500")), Some(None));
    assert_eq!(one.machine.correction(address(9), Some("500")), None, "nobody knows it");
}

#[test]
fn a_checker_that_begins_anew_goes_on_from_what_the_actor_goes_by() {
    let mut machine = Machine::new(policy(3, 2));
    let known = Listed { unwell: Some("500".to_owned()), ..listed(1, 1) };
    machine.list(vec![known], || 0.0, Instant::now());
    assert_eq!(machine.correction(address(1), Some("500")), None);
}

#[test]
fn a_new_sidecar_at_a_known_address_begins_anew_and_an_old_answer_is_not_its_own() {
    let mut one = One::new(policy(1, 1));
    let check = one.check();
    one.machine.list(vec![listed(1, 2)], || 0.0, one.now);
    one.machine.ended(check, unwell(), 0.5, one.now);
    assert!(!one.is_left_out());
    assert!(one.shows(unwell()));
    one.machine.list(vec![listed(1, 3)], || 0.0, one.now);
    assert!(!one.is_left_out());
}

#[test]
fn other_thresholds_keep_what_is_known_and_another_question_begins_a_new_row() {
    let mut one = One::new(policy(3, 1));
    one.shows(unwell());
    one.shows(unwell());
    one.machine.configure(policy(2, 1));
    assert!(!one.is_left_out(), "until its next answer");
    assert!(one.shows(unwell()));
    let other = HealthCheck { kind: HealthCheckKind::Tcp, ..policy(2, 2) };
    one.machine.configure(other);
    assert!(one.is_left_out());
    assert_eq!([Verdict::Well, Verdict::Well].map(|verdict| one.shows(verdict)), [true, false]);
}

#[test]
fn a_check_that_never_ends_is_made_again() {
    let mut one = One::new(policy(1, 1));
    let lost = one.check();
    let again = one.check();
    assert!(again.number > lost.number);
    one.machine.ended(lost, unwell(), 0.5, one.now);
    assert!(!one.is_left_out(), "it is no longer awaited");
}

#[test]
fn first_checks_are_spread_over_the_interval_and_later_ones_around_it() {
    let now = Instant::now();
    let mut machine = Machine::new(policy(3, 2));
    let mut drawn = [0.75, 0.25].into_iter();
    machine.list(vec![listed(1, 1), listed(2, 2)], || drawn.next().expect("one for each"), now);
    assert_eq!(machine.poll_timeout(), Some(now + INTERVAL.mul_f64(0.25)));
    assert_eq!(machine.next(now), None, "nobody is due");
    let begun = now + INTERVAL.mul_f64(0.25);
    let check = machine.next(begun).expect("it is due");
    assert_eq!(check.address, address(2));
    machine.ended(check, Verdict::Well, 1.0, begun + Duration::from_millis(300));
    let other = machine.next(now + INTERVAL).expect("the other is due");
    assert_eq!(other.address, address(1));
    machine.ended(other, Verdict::Well, 0.0, now + INTERVAL);
    assert_eq!(machine.poll_timeout(), Some(begun + INTERVAL.mul_f64(1.1)), "from its beginning");
}

/// What happens to a machine.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Begin,
    End { which: usize, shows: u8 },
    List(Vec<(u8, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u64..4_000).prop_map(Step::Wait),
        Just(Step::Begin),
        Just(Step::Begin),
        (0_usize..8, 0_u8..3).prop_map(|(which, shows)| Step::End { which, shows }),
        (0_usize..8, 0_u8..3).prop_map(|(which, shows)| Step::End { which, shows }),
        proptest::collection::vec((0_u8..5, 0_u8..3), 0..5).prop_map(Step::List),
    ]
}

/// The naive model: everything that was ever shown of each endpoint, read from its end.
#[derive(Default)]
struct Model {
    shown: HashMap<(u8, u8), Vec<u8>>,
}

impl Model {
    fn is_left_out(&self, endpoint: (u8, u8), unhealthy: usize, healthy: usize) -> bool {
        let (mut out, mut row) = (false, 0);
        for shows in self.shown.get(&endpoint).into_iter().flatten().filter(|shows| **shows < 2) {
            let against = (*shows == 1) != out;
            row = if against { row + 1 } else { 0 };
            if row >= if out { healthy } else { unhealthy } {
                (out, row) = (!out, 0);
            }
        }
        out
    }
}

proptest! {
    /// Thresholds are those of the naive model, nobody is asked twice at once, and whoever is listed is asked.
    #[test]
    fn the_machine_agrees_with_a_model_that_forgets_nothing(
        steps in proptest::collection::vec(step(), 1..200),
        unhealthy in 1_u32..4,
        healthy in 1_u32..4,
        unit in 0.0_f64..1.0,
    ) {
        let mut now = Instant::now();
        let mut machine = Machine::new(policy(unhealthy, healthy));
        let mut model = Model::default();
        let mut at: HashMap<u8, u8> = HashMap::new();
        let mut under_way: Vec<(Check, (u8, u8), Instant)> = Vec::new();
        for step in steps {
            match step {
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Begin => if let Some(check) = machine.next(now) {
                    let SocketAddr::V4(v4) = check.address else { unreachable!() };
                    let n = v4.ip().octets()[3];
                    let lost = Duration::from_secs(2);
                    let twice = under_way.iter().any(|(known, who, began)| {
                        known.address == check.address && at.get(&n) == Some(&who.1) && now < *began + lost
                    });
                    prop_assert!(!twice);
                    under_way.retain(|(known, ..)| known.address != check.address);
                    under_way.push((check, (n, at[&n]), now));
                },
                Step::End { which, shows } if !under_way.is_empty() => {
                    let (check, who, _) = under_way.remove(which % under_way.len());
                    let verdict = match shows {
                        0 => Verdict::Well,
                        1 => unwell(),
                        _ => Verdict::Inconclusive(String::new()),
                    };
                    machine.ended(check, verdict, unit, now);
                    if at.get(&who.0) == Some(&who.1) {
                        model.shown.entry(who).or_default().push(shows);
                    }
                }
                Step::End { .. } => {}
                Step::List(endpoints) => {
                    let next: HashMap<u8, u8> = endpoints.into_iter().collect();
                    for (n, sidecar) in &at {
                        if next.get(n) != Some(sidecar) {
                            model.shown.remove(&(*n, *sidecar));
                            under_way.retain(|(_, who, _)| who.0 != *n);
                        }
                    }
                    machine.list(next.iter().map(|(n, sidecar)| listed(*n, *sidecar)).collect(), || unit, now);
                    at = next;
                }
            }
            for (n, sidecar) in &at {
                let out = model.is_left_out((*n, *sidecar), unhealthy as usize, healthy as usize);
                let told = matches!(machine.correction(address(*n), None), Some(Some(_)));
                prop_assert_eq!(told, out, "{}", n);
            }
            prop_assert_eq!(machine.poll_timeout().is_some(), !at.is_empty());
        }
        // Everybody is asked within an interval and what a lost check takes.
        let mut asked = HashSet::new();
        let end = now + INTERVAL.mul_f64(1.1) + Duration::from_secs(2);
        while let Some(check) = machine.next(end) {
            asked.insert(check.address);
        }
        prop_assert_eq!(asked.len(), at.len());
    }
}

#[test]
fn a_question_by_grpc_is_the_bytes_that_the_protocol_says() {
    assert_eq!(&grpc::request("")[..], [0, 0, 0, 0, 0]);
    assert_eq!(&grpc::request("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
}

#[test]
fn only_serving_is_well_and_what_cannot_be_read_is_not() {
    assert_eq!(grpc::serving(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
    for (content, why) in [
        (&[0, 0, 0, 0, 2, 8, 2][..], "it says NOT_SERVING"),
        (&[0, 0, 0, 0, 2, 8, 3][..], "it says SERVICE_UNKNOWN"),
        (&[0, 0, 0, 0, 0][..], "it says UNKNOWN"),
        (&[0, 0, 0, 0, 2, 8, 99][..], "it says UNKNOWN"),
        (&[][..], "its health cannot be read"),
        (&[1, 0, 0, 0, 2, 8, 1][..], "its health cannot be read"),
        (&[0, 0, 0, 0, 3, 8, 1][..], "its health cannot be read"),
        (&[0, 0, 0, 0, 1, 8][..], "its health cannot be read"),
    ] {
        assert_eq!(grpc::serving(content), Err(why.to_owned()), "{content:?}");
    }
}
