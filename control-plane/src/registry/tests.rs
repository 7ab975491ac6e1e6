//! The machine by itself: sentences, then any order of events against what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrider_shared::snapshot::{Endpoint, Version};
use outrider_shared::{ServiceId, SidecarId};
use proptest::prelude::*;

use super::machine::{Input, LEASE, Machine, Output, RESTORED_LEASE, WITHDRAWAL_MAX};

fn sidecar(n: u8) -> SidecarId {
    format!("{n:02x}").parse().unwrap()
}

fn service() -> ServiceId {
    "shop/orders".parse().unwrap()
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 20_000 + u16::from(n)))
}

fn hello_at(n: u8, at: u8) -> Input {
    Input::Hello { sidecar: sidecar(n), service: service(), address: address(at), serving: true }
}

fn hello(n: u8) -> Input {
    hello_at(n, n)
}

fn dialled(n: u8, at: u8, outcome: Result<(), String>) -> Input {
    Input::Dialled { sidecar: sidecar(n), address: address(at), outcome }
}

fn withdraw(n: u8) -> Input {
    Input::Withdraw { sidecar: sidecar(n) }
}

fn disconnected(n: u8) -> Input {
    Input::Disconnected { sidecar: sidecar(n) }
}

fn acked(n: u8, sequence: u64) -> Input {
    Input::Acked { sidecar: sidecar(n), version: Version { epoch: 1, sequence } }
}

fn pushed(sequences: &[(u8, u64)]) -> Input {
    Input::Pushed { sequences: sequences.iter().map(|(n, sequence)| (sidecar(*n), *sequence)).collect() }
}

fn dial_of(n: u8, at: u8) -> Output {
    Output::Dial { sidecar: sidecar(n), service: service(), address: address(at) }
}

fn withdrawn(n: u8) -> Output {
    Output::Withdrawn { sidecar: sidecar(n) }
}

fn published(machine: &Machine) -> Vec<(SidecarId, SocketAddr)> {
    let endpoints = machine.published().into_iter().flat_map(|(_, endpoints)| endpoints);
    endpoints.map(|endpoint| (endpoint.sidecar, endpoint.address)).collect()
}

/// A machine in which these sidecars are published, each at its own address.
fn with_published(sidecars: &[u8], now: Instant) -> Machine {
    let mut machine = Machine::default();
    for &n in sidecars {
        machine.handle(hello(n), now);
        machine.handle(dialled(n, n, Ok(())), now);
    }
    assert_eq!(published(&machine).len(), sidecars.len());
    machine
}

#[test]
fn a_sidecar_is_published_once_its_address_has_proved_who_it_is() {
    let now = Instant::now();
    let mut machine = Machine::default();
    assert_eq!(machine.handle(hello(1), now), [dial_of(1, 1)]);
    assert_eq!(published(&machine), []);
    assert_eq!(machine.handle(dialled(1, 1, Ok(())), now), [Output::Plan]);
    assert_eq!(published(&machine), [(sidecar(1), address(1))]);
}

#[test]
fn a_sidecar_whose_app_does_not_answer_is_not_published() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    let down = Input::Announce { sidecar: sidecar(1), serving: false };
    assert_eq!(machine.handle(down, now), [Output::Plan]);
    assert_eq!(published(&machine), []);
    let because = machine.members()[&sidecar(1)].unpublished_because().unwrap();
    assert!(because.contains("app"), "{because}");
    let up = Input::Announce { sidecar: sidecar(1), serving: true };
    assert_eq!(machine.handle(up, now), [Output::Plan]);
}

#[test]
fn the_dial_of_an_address_that_was_left_meanwhile_proves_nothing() {
    let now = Instant::now();
    let mut machine = Machine::default();
    machine.handle(hello_at(1, 1), now);
    assert_eq!(machine.handle(hello_at(1, 2), now), [dial_of(1, 2)]);
    assert_eq!(machine.handle(dialled(1, 1, Ok(())), now), []);
    assert_eq!(published(&machine), []);
}

#[test]
fn dials_that_fail_are_repeated_at_growing_and_bounded_pauses() {
    let mut now = Instant::now();
    let mut machine = Machine::default();
    machine.handle(hello(1), now);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        machine.handle(dialled(1, 1, Err("refused".to_owned())), now);
        let due = machine.poll_timeout().unwrap();
        pauses.push(due - now);
        assert_eq!(machine.handle_timeout(now + (due - now) / 2), []);
        assert_eq!(machine.handle_timeout(due), [dial_of(1, 1)]);
        now = due;
    }
    assert_eq!(pauses[0], Duration::from_millis(200));
    assert!(pauses.is_sorted());
    assert_eq!(*pauses.last().unwrap(), Duration::from_secs(5));
    let because = machine.members()[&sidecar(1)].unpublished_because().unwrap();
    assert_eq!(because, "refused");
}

#[test]
fn a_sidecar_without_a_session_stays_published_until_its_lease_ends() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    assert_eq!(machine.handle(disconnected(1), now), []);
    assert_eq!(machine.poll_timeout(), Some(now + LEASE));
    assert_eq!(machine.handle_timeout(now + LEASE / 2), []);
    assert_eq!(machine.handle_timeout(now + LEASE), [Output::Plan]);
    assert_eq!(published(&machine), []);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn a_sidecar_that_comes_back_within_its_lease_is_neither_dialled_nor_planned_again() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    machine.handle(disconnected(1), now);
    assert_eq!(machine.handle(hello(1), now + LEASE / 2), []);
    assert_eq!(machine.handle_timeout(now + LEASE * 2), []);
    assert_eq!(published(&machine), [(sidecar(1), address(1))]);
}

#[test]
fn restored_endpoints_wait_for_their_sidecars_and_then_go() {
    let now = Instant::now();
    let mut machine = Machine::default();
    let restored = [1, 2].map(|n| (service(), Endpoint { sidecar: sidecar(n), address: address(n) }));
    machine.restore(restored.to_vec(), now);
    assert_eq!(published(&machine).len(), 2);
    assert_eq!(machine.handle(hello(1), now + LEASE), []);
    assert_eq!(machine.handle_timeout(now + RESTORED_LEASE), [Output::Plan]);
    assert_eq!(published(&machine), [(sidecar(1), address(1))]);
}

#[test]
fn a_second_claimant_is_refused_while_the_first_is_alive_and_dialled_at_once_when_it_is_gone() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    assert_eq!(machine.handle(hello_at(2, 1), now), []);
    let because = machine.members()[&sidecar(2)].unpublished_because().unwrap();
    assert!(because.contains("held by sidecar 01"), "{because}");
    let left = now + Duration::from_millis(1);
    assert_eq!(machine.handle(disconnected(1), left), [dial_of(2, 1)]);
    assert_eq!(machine.handle(dialled(2, 1, Ok(())), left), [Output::Plan]);
    assert_eq!(published(&machine), [(sidecar(2), address(1))]);
}

#[test]
fn of_two_claimants_that_are_dialled_together_the_first_to_prove_itself_has_the_address() {
    let now = Instant::now();
    let mut machine = Machine::default();
    machine.handle(hello_at(1, 9), now);
    machine.handle(hello_at(2, 9), now);
    machine.handle(dialled(2, 9, Ok(())), now);
    machine.handle(dialled(1, 9, Ok(())), now);
    assert_eq!(published(&machine), [(sidecar(2), address(9))]);
    let because = machine.members()[&sidecar(1)].unpublished_because().unwrap();
    assert!(because.contains("held by sidecar 02"), "{because}");
}

#[test]
fn a_holder_that_comes_back_while_a_claimant_is_being_dialled_keeps_its_address() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    machine.handle(disconnected(1), now);
    assert_eq!(machine.handle(hello_at(2, 1), now), [dial_of(2, 1)]);
    machine.handle(hello(1), now);
    machine.handle(dialled(2, 1, Ok(())), now);
    assert_eq!(published(&machine), [(sidecar(1), address(1))]);
}

#[test]
fn a_withdrawal_is_answered_when_every_other_session_has_acknowledged_the_plan_without_it() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2, 3], now);
    assert_eq!(machine.handle(withdraw(1), now), [Output::Plan]);
    assert_eq!(machine.handle(pushed(&[(1, 10), (2, 11), (3, 12)]), now), []);
    assert_eq!(machine.handle(acked(2, 10), now), []);
    assert_eq!(machine.handle(acked(3, 12), now), []);
    assert_eq!(machine.handle(acked(2, 11), now), [withdrawn(1)]);
}

#[test]
fn what_was_acknowledged_before_the_push_does_not_answer_a_withdrawal() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    machine.handle(acked(2, 5), now);
    machine.handle(withdraw(1), now);
    assert_eq!(machine.handle(acked(2, 5), now), []);
    assert_eq!(machine.handle(pushed(&[(2, 6)]), now), []);
    assert_eq!(machine.handle(acked(2, 6), now), [withdrawn(1)]);
}

#[test]
fn a_withdrawal_that_nobody_else_hears_of_is_answered_once_it_is_planned() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    machine.handle(withdraw(1), now);
    assert_eq!(machine.handle(pushed(&[(1, 10)]), now), [withdrawn(1)]);
}

#[test]
fn a_withdrawal_of_what_is_not_published_waits_for_pushes_that_are_under_way_too() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    // It has just been taken out, and sidecar 2 has not been told yet.
    machine.handle(Input::Announce { sidecar: sidecar(1), serving: false }, now);
    assert_eq!(machine.handle(withdraw(1), now), [Output::Plan]);
    assert_eq!(machine.handle(pushed(&[(1, 10), (2, 11)]), now), []);
    assert_eq!(machine.handle(acked(2, 11), now), [withdrawn(1)]);
}

#[test]
fn a_withdrawal_said_twice_is_answered_once_and_not_early() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    machine.handle(withdraw(1), now);
    assert_eq!(machine.handle(withdraw(1), now), []);
    machine.handle(pushed(&[(2, 11)]), now);
    assert_eq!(machine.handle(acked(2, 11), now), [withdrawn(1)]);
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn a_session_that_ends_is_not_waited_for() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    machine.handle(withdraw(1), now);
    machine.handle(pushed(&[(2, 11)]), now);
    assert_eq!(machine.handle(disconnected(2), now), [withdrawn(1)]);
}

#[test]
fn a_session_that_acknowledges_nothing_delays_a_withdrawal_no_longer_than_its_bound() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    machine.handle(withdraw(1), now);
    machine.handle(pushed(&[(2, 11)]), now);
    assert_eq!(machine.poll_timeout(), Some(now + WITHDRAWAL_MAX));
    assert_eq!(machine.handle_timeout(now + WITHDRAWAL_MAX), [withdrawn(1)]);
}

#[test]
fn a_withdrawn_sidecar_that_leaves_needs_no_lease() {
    let now = Instant::now();
    let mut machine = with_published(&[1], now);
    machine.handle(withdraw(1), now);
    machine.handle(disconnected(1), now);
    assert_eq!(machine.poll_timeout(), Some(now));
    machine.handle_timeout(now);
    assert!(machine.members().is_empty());
    assert_eq!(machine.poll_timeout(), None);
}

#[test]
fn a_sidecar_that_begins_anew_is_not_told_of_the_withdrawal_of_its_last_session() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    machine.handle(withdraw(1), now);
    machine.handle(pushed(&[(2, 11)]), now);
    machine.handle(hello(1), now);
    assert_eq!(machine.handle(acked(2, 11), now), []);
    assert_eq!(published(&machine).len(), 2);
}

#[test]
fn what_is_said_of_a_sidecar_that_is_not_known_changes_nothing() {
    let now = Instant::now();
    let mut machine = Machine::default();
    let serving = Input::Announce { sidecar: sidecar(1), serving: true };
    for input in [serving, disconnected(1), dialled(1, 1, Ok(())), acked(1, 3), pushed(&[])] {
        assert_eq!(machine.handle(input, now), []);
    }
    assert_eq!(machine.poll_timeout(), None);
    assert_eq!(machine.handle(withdraw(1), now), [Output::Plan]);
    assert_eq!(machine.handle(pushed(&[]), now), [withdrawn(1)]);
}

#[test]
fn members_of_a_service_with_another_identity_are_published_once_they_have_proved_it() {
    let now = Instant::now();
    let mut machine = with_published(&[1, 2], now);
    machine.handle(disconnected(2), now);
    let changed = Input::IdentityChanged { service: service() };
    assert_eq!(machine.handle(changed, now), [Output::Plan, dial_of(1, 1)]);
    assert_eq!(published(&machine), []);
    machine.handle(dialled(1, 1, Err("another identity".to_owned())), now);
    let due = machine.poll_timeout().unwrap();
    assert_eq!(machine.handle_timeout(due), [dial_of(1, 1)]);
    assert_eq!(machine.handle(dialled(1, 1, Ok(())), due), [Output::Plan]);
    assert_eq!(published(&machine), [(sidecar(1), address(1))]);
    // One without a session is dialled when it comes back.
    assert_eq!(machine.handle(hello(2), due), [dial_of(2, 2)]);
}

/// What a case does, with small numbers so that things collide.
#[derive(Debug, Clone)]
enum Step {
    Hello(u8, u8, bool),
    Announce(u8, bool),
    Withdraw(u8),
    Disconnect(u8),
    /// The oldest dial under way ends well, or not.
    Dialled(bool),
    Plan,
    Settle(u8),
    Wait(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, at) = (0..4_u8, 0..3_u8);
    let step = prop_oneof![
        4 => (who.clone(), at, any::<bool>()).prop_map(|(n, at, serving)| Step::Hello(n, at, serving)),
        1 => (who.clone(), any::<bool>()).prop_map(|(n, serving)| Step::Announce(n, serving)),
        2 => who.clone().prop_map(Step::Withdraw),
        2 => who.clone().prop_map(Step::Disconnect),
        5 => prop::bool::weighted(0.8).prop_map(Step::Dialled),
        4 => Just(Step::Plan),
        4 => who.prop_map(Step::Settle),
        2 => (0..12_000_u16).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

/// The world around a machine: sessions, dials under way, pushes; and what it has been told to do.
#[derive(Default)]
struct World {
    machine: Machine,
    sessions: BTreeSet<u8>,
    dials: Vec<(SidecarId, SocketAddr)>,
    proofs: BTreeSet<(SidecarId, SocketAddr)>,
    pushed: BTreeMap<u8, u64>,
    settled: BTreeMap<u8, u64>,
    sequence: u64,
    plan_is_due: bool,
    last_plan: Vec<(SidecarId, SocketAddr)>,
    /// Who waits for a withdrawal: since when, and who was told of it by which sequence.
    waits: BTreeMap<u8, (Instant, Option<BTreeMap<u8, u64>>)>,
}

impl World {
    fn take(&mut self, outputs: Vec<Output>, now: Instant) {
        for output in outputs {
            match output {
                Output::Plan => self.plan_is_due = true,
                Output::Dial { sidecar, address, .. } => self.dials.push((sidecar, address)),
                Output::Withdrawn { sidecar } => {
                    let n = u8::from_str_radix(sidecar.as_str(), 16).unwrap();
                    let (asked, told) = self.waits.remove(&n).expect("only who asked is told");
                    let have_settled = |told: BTreeMap<u8, u64>| {
                        told.iter().all(|(n, sequence)| self.settled.get(n) >= Some(sequence))
                    };
                    let over = told.is_some_and(have_settled)
                        && self.last_plan.iter().all(|(published, _)| *published != sidecar);
                    assert!(over || now >= asked + WITHDRAWAL_MAX, "{sidecar} was told too early");
                }
            }
        }
    }

    fn feed(&mut self, input: Input, now: Instant) {
        let outputs = self.machine.handle(input, now);
        self.take(outputs, now);
    }

    fn plan(&mut self, now: Instant) {
        let next = published(&self.machine);
        self.plan_is_due = false;
        for &n in &self.sessions {
            if self.last_plan != next || !self.pushed.contains_key(&n) {
                self.sequence += 1;
                self.pushed.insert(n, self.sequence);
            }
        }
        self.last_plan = next;
        let sequences: Vec<(u8, u64)> = self.sessions.iter().map(|n| (*n, self.pushed[n])).collect();
        for (n, (_, told)) in &mut self.waits {
            let others = || sequences.iter().copied().filter(|(other, _)| other != n).collect();
            told.get_or_insert_with(others);
        }
        self.feed(pushed(&sequences), now);
    }

    fn step(&mut self, step: &Step, now: Instant) {
        match *step {
            Step::Hello(n, at, serving) => {
                self.sessions.insert(n);
                self.pushed.remove(&n);
                self.waits.remove(&n);
                self.plan_is_due = true;
                let known = self.machine.members().get(&sidecar(n)).map(|member| member.address);
                if known != Some(address(at)) {
                    self.proofs.retain(|(who, _)| *who != sidecar(n));
                }
                let (sidecar, service, address) = (sidecar(n), service(), address(at));
                self.feed(Input::Hello { sidecar, service, address, serving }, now);
            }
            Step::Announce(n, serving) if self.sessions.contains(&n) => {
                self.feed(Input::Announce { sidecar: sidecar(n), serving }, now);
            }
            Step::Withdraw(n) if self.sessions.contains(&n) => {
                self.waits.entry(n).or_insert((now, None));
                self.feed(withdraw(n), now);
            }
            Step::Disconnect(n) if self.sessions.remove(&n) => {
                self.waits.remove(&n);
                for told in self.waits.values_mut().filter_map(|(_, told)| told.as_mut()) {
                    told.remove(&n);
                }
                self.pushed.remove(&n);
                self.settled.remove(&n);
                self.feed(disconnected(n), now);
            }
            Step::Dialled(well) if !self.dials.is_empty() => {
                let (sidecar, address) = self.dials.remove(0);
                let outcome = if well { Ok(()) } else { Err("no".to_owned()) };
                if well {
                    self.proofs.insert((sidecar.clone(), address));
                }
                self.feed(Input::Dialled { sidecar, address, outcome }, now);
            }
            Step::Plan if self.plan_is_due => self.plan(now),
            Step::Settle(n) if self.pushed.contains_key(&n) => {
                self.settled.insert(n, self.pushed[&n]);
                self.feed(acked(n, self.pushed[&n]), now);
            }
            _ => {}
        }
    }

    /// Lets time pass as the shell does: a timer fires when it is due, and each time something is done about it.
    fn wait_until(&mut self, until: Instant) {
        let mut fired = 0;
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            let outputs = self.machine.handle_timeout(at);
            self.take(outputs, at);
            let next = self.machine.poll_timeout();
            assert!(next.is_none_or(|next| next > at), "a timeout that was handled is due again at once");
            fired += 1;
            assert!(fired < 200, "a storm of timeouts");
        }
    }

    fn check(&self) {
        let published = published(&self.machine);
        let addresses: BTreeSet<SocketAddr> = published.iter().map(|(_, address)| *address).collect();
        assert_eq!(addresses.len(), published.len(), "an address is published twice: {published:?}");
        for (who, at) in &published {
            let member = &self.machine.members()[who];
            assert!(member.serving && !member.withdrawn);
            assert!(self.proofs.contains(&(who.clone(), *at)), "{who} was never dialled at {at}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_only_what_proved_itself_is_published_and_no_address_twice(steps in steps()) {
        let mut now = Instant::now();
        let mut world = World::default();
        for step in steps {
            now += Duration::from_millis(1);
            if let Step::Wait(ms) = step {
                now += Duration::from_millis(u64::from(ms));
            }
            world.wait_until(now);
            world.step(&step, now);
            world.check();
        }
        // All that is left ends: sessions, then leases and withdrawals; nothing stays behind.
        for n in 0..4 {
            world.step(&Step::Disconnect(n), now);
        }
        world.wait_until(now + RESTORED_LEASE);
        prop_assert!(world.machine.members().is_empty());
        prop_assert_eq!(world.machine.poll_timeout(), None);
    }
}
