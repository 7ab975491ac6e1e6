//! The machine, the leases, the balance, and the shell: a message in, a snapshot out.

mod attempt;
mod leases;
mod pick;
mod simulation;
mod supply;
mod tokens;
mod told;

use std::rc::Rc;
use std::time::Duration;

use actix::AsyncContext as _;
use outrider_shared::SidecarId;
use outrider_shared::traffic::{Concurrency, ConcurrencyAlgorithm, ServerTraffic};
use proptest::prelude::*;

use super::actor::Crashed;
use super::balance::{PeakEwma, two_of};
use super::events::Events;
use super::fault::Panic;
use super::lease::{Take, Taken};
use super::machine::{Input, Machine, Output};
use super::share::Share;
use super::supervisor::{Directory, Ensure, Supervisor, SupervisorHandle};
use super::*;
use crate::mesh::Dialer;
use crate::stats::ShardRecorder;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, last], 14006))
}

fn sidecar(n: u8) -> SidecarId {
    format!("{n:02x}").parse().expect("hex")
}

fn directory(ends: &[u8]) -> Input {
    Input::Directory { identity: None, endpoints: ends.iter().map(|&n| (sidecar(n), address(n))).collect() }
}

fn empty() -> Snapshot {
    let settings = Arc::new(Settings::of_service(None, 16));
    Snapshot {
        generation: 0,
        incarnation: 0,
        identity: None,
        settings,
        endpoints: Vec::new(),
        breaker: None,
        panic: None,
    }
}

fn failed(n: u8) -> Input {
    Input::ConnectFailed { address: address(n), cause: "refused".into() }
}

fn ejected(machine: &Machine) -> Vec<SocketAddr> {
    let ejected = |e: &&EndpointState| matches!(e.health, Health::Ejected { .. });
    machine.snapshot().endpoints.iter().filter(ejected).map(|e| e.address).collect()
}

#[test]
fn an_endpoint_that_cannot_be_connected_to_is_left_out_and_comes_back() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), Instant::now());
    machine.handle(directory(&[1, 2]), 0.0, now);
    assert_eq!(machine.handle(failed(1), 0.0, now), Output::Publish);
    assert_eq!(ejected(&machine), [address(1)]);
    let due = machine.poll_timeout().expect("an ejection ends");
    assert_eq!(machine.handle_timeout(now), Output::Nothing);
    assert_eq!(machine.handle_timeout(due), Output::Publish);
    assert!(ejected(&machine).is_empty());
}

#[test]
fn each_failed_trial_doubles_the_ejection_and_a_success_forgives_all() {
    let mut now = Instant::now();
    let mut machine = Machine::resume(&empty(), Instant::now());
    machine.handle(directory(&[1]), 0.0, now);
    let mut times = Vec::new();
    for _ in 0..8 {
        machine.handle(failed(1), 0.0, now);
        let due = machine.poll_timeout().expect("ejected");
        times.push((due - now).as_secs());
        now = due;
        machine.handle_timeout(now);
    }
    assert_eq!(times, [1, 2, 4, 8, 16, 30, 30, 30]);
    machine.handle(Input::Connected { address: address(1) }, 0.0, now);
    machine.handle(failed(1), 0.0, now);
    assert_eq!(machine.poll_timeout(), Some(now + Duration::from_secs(1)));
}

#[test]
fn a_new_sidecar_at_a_known_address_starts_with_a_clean_slate() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), Instant::now());
    machine.handle(directory(&[1]), 0.0, now);
    machine.handle(failed(1), 0.0, now);
    machine.handle(Input::Directory { identity: None, endpoints: vec![(sidecar(9), address(1))] }, 0.0, now);
    assert!(ejected(&machine).is_empty());
}

#[test]
fn a_resumed_machine_keeps_ejections_and_never_goes_back_in_generation() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), Instant::now());
    machine.handle(directory(&[1, 2]), 0.0, now);
    machine.handle(failed(1), 0.0, now);
    let last = machine.snapshot();
    let mut resumed = Machine::resume(&last, now);
    assert_eq!(resumed.snapshot(), last);
    resumed.handle(failed(2), 0.0, now);
    assert!(resumed.snapshot().generation > last.generation);
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        prop::collection::btree_set(0_u8..5, 0..5)
            .prop_map(|ends| directory(&ends.into_iter().collect::<Vec<_>>())),
        (0_u8..6).prop_map(failed),
        (0_u8..6).prop_map(|n| Input::Connected { address: address(n) }),
    ]
}

proptest! {
    /// Shards look at the generation alone: it must change whenever what they read does.
    #[test]
    fn what_shards_read_changes_only_with_the_generation(inputs in prop::collection::vec((any_input(), 0_u64..5_000), 0..60)) {
        let mut now = Instant::now();
        let mut machine = Machine::resume(&empty(), Instant::now());
        let mut before = machine.snapshot();
        for (input, wait_ms) in inputs {
            now += Duration::from_millis(wait_ms);
            for input in [None, Some(input)] {
                let output = match input {
                    None => machine.handle_timeout(now),
                    Some(input) => machine.handle(input, 0.0, now),
                };
                let after = machine.snapshot();
                prop_assert!(after.generation >= before.generation);
                if output == Output::Nothing {
                    prop_assert_eq!(&after, &before);
                } else {
                    prop_assert!(after.generation > before.generation);
                }
                before = after;
            }
        }
        // Left alone, nothing stays ejected for ever.
        while let Some(at) = machine.poll_timeout() {
            prop_assert!(at <= now + Duration::from_secs(30));
            machine.handle_timeout(at);
        }
        prop_assert!(ejected(&machine).is_empty());
    }

    /// Permits out equal permits in, and the limit holds, whatever the order of takes, returns and moves.
    #[test]
    fn permits_are_neither_lost_nor_made(limit in 0_u32..40, steps in prop::collection::vec((0_usize..3, 0_u8..4), 0..200)) {
        let leases = Leases::new(limit, 3);
        let mut limit = limit;
        let mut out = [0_u32; 3];
        // What was spent when the limit was cut, less what has come back since.
        let mut cut = 0;
        for (shard, step) in steps {
            match step {
                0 => out[shard] += u32::from(leases.take(shard) == Take::Taken),
                1 if out[shard] > 0 => {
                    leases.give_back(shard);
                    out[shard] -= 1;
                }
                1 => {}
                2 => {
                    limit = u32::try_from(shard).expect("small") * 7;
                    leases.set_limit(limit);
                    cut = out.iter().sum();
                }
                _ => {
                    leases.queue();
                    out[0] += u32::from(leases.take_for_queued().map(Taken::grant).is_some());
                    leases.flow();
                }
            }
            let spent: u32 = out.iter().sum();
            cut = cut.min(spent);
            prop_assert!(spent <= limit.max(cut));
            prop_assert_eq!(leases.in_use(), spent);
        }
    }

    /// While a permit is idle anywhere, a shard that asks gets one.
    #[test]
    fn no_shard_is_refused_while_another_idles(limit in 1_u32..40, shard in 0_usize..4) {
        let leases = Leases::new(limit, 4);
        let mut taken = 0;
        while leases.take(shard) == Take::Taken {
            taken += 1;
        }
        prop_assert_eq!(taken, limit);
    }

    #[test]
    fn two_choices_are_two_wherever_there_are_two(len in 1_usize..200, random: u64) {
        let (a, b) = two_of(len, random);
        prop_assert!(a < len && b < len);
        prop_assert!(len == 1 || a != b);
    }
}

#[test]
fn a_rising_latency_counts_at_once_and_a_falling_one_slowly() {
    let start = Instant::now();
    let mut ewma = PeakEwma::new(start);
    ewma.observe(Duration::from_millis(300), start);
    assert_eq!(ewma.us(), 300_000);
    ewma.observe(Duration::from_millis(1), start + Duration::from_millis(1));
    assert!(ewma.us() > 250_000, "one fast answer does not make it fast: {}", ewma.us());
    ewma.observe(Duration::from_millis(1), start + Duration::from_mins(1));
    assert!(ewma.us() < 5_000, "a minute later it does: {}", ewma.us());
}

#[test]
fn a_cost_falls_by_the_same_curve_over_microseconds_and_over_seconds() {
    let start = Instant::now();
    let mut ewma = PeakEwma::new(start);
    ewma.observe(Duration::from_millis(300), start);
    for after in [Duration::from_micros(5), Duration::from_micros(9_999), Duration::from_micros(10_001)] {
        let by_curve = 300_000.0 * (-after.as_secs_f64() / 10.0).exp();
        let cost = ewma.cost(0, start + after);
        assert!((cost / by_curve - 1.0).abs() < 1e-6, "{cost} is not {by_curve} after {after:?}");
    }
}

#[test]
fn an_endpoint_that_was_slow_once_is_asked_again_after_a_while() {
    let start = Instant::now();
    let (mut slow, mut fast) = (PeakEwma::new(start), PeakEwma::new(start));
    slow.observe(Duration::from_millis(300), start);
    for tenths in 0..1_000_u64 {
        let now = start + Duration::from_millis(100 * tenths);
        if slow.cost(0, now) < fast.cost(0, now) {
            assert!(tenths > 100, "not within ten seconds");
            return;
        }
        fast.observe(Duration::from_millis(5), now);
    }
    panic!("it is never asked again");
}

#[test]
fn shards_that_race_for_permits_never_exceed_the_limit() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let leases = Leases::new(8, 2);
    let (out, most) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let (leases, out, most) = (&leases, &out, &most);
            scope.spawn(move || {
                for _ in 0..20_000_u32 {
                    if leases.take(shard) == Take::Taken {
                        most.fetch_max(out.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        out.fetch_sub(1, Ordering::SeqCst);
                        leases.give_back(shard);
                    }
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 8);
    assert_eq!(leases.idle().iter().sum::<u32>(), 8);
}

fn listed(ends: &[u8]) -> Directory {
    let service = "shop/payments".parse().expect("a service");
    let endpoints = ends
        .iter()
        .map(|&n| outrider_shared::snapshot::Endpoint { sidecar: sidecar(n), address: address(n) })
        .collect();
    let identity = "spiffe://shop.local/ns/shop/sa/payments".parse().expect("an identity");
    Directory {
        services: vec![outrider_shared::snapshot::DirectoryService {
            traffic: None,
            service,
            identity,
            ports: Vec::new(),
            endpoints,
        }],
        app: None,
    }
}

/// Waits until `holds`, at most 5 s.
/// A shard's share of an upstream with these endpoints.
async fn shared(ends: &[u8]) -> (Arc<Upstream>, Rc<Share>, SupervisorHandle) {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor = Supervisor::new(map, vec![actix_rt::Arbiter::current()], 16, Arc::default()).start();
    supervisor.send(listed(ends)).await.expect("takes it");
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let upstream = supervisor.send(Ensure { key }).await.expect("answers").expect("listed");
    let recorder = Rc::new(ShardRecorder::new(&Arc::default()));
    let share = Share::of_service(Arc::clone(&upstream), 0, &recorder, Dialer::Mesh(Arc::default()));
    (upstream, share, supervisor)
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < until, "not within 5 s: {what}");
        actix_rt::time::sleep(Duration::from_millis(1)).await;
    }
}

#[actix_rt::test]
async fn an_upstream_is_there_only_while_the_directory_lists_it() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor =
        Supervisor::new(Arc::clone(&map), vec![actix_rt::Arbiter::current(); 2], 16, Arc::default()).start();
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let asked = supervisor.send(Ensure { key: key.clone() }).await.expect("answers");
    assert!(asked.is_none(), "not listed yet");
    supervisor.send(listed(&[1, 2])).await.expect("takes it");
    let upstream = supervisor.send(Ensure { key: key.clone() }).await.expect("answers").expect("listed");
    eventually("both endpoints", || upstream.snapshot.load().endpoints.len() == 2).await;
    supervisor.send(listed(&[2])).await.expect("takes it");
    eventually("one endpoint", || upstream.snapshot.load().endpoints.len() == 1).await;
    // A shard that has something to tell it.
    let recorder = Rc::new(ShardRecorder::new(&Arc::default()));
    let share = Share::of_service(Arc::clone(&upstream), 0, &recorder, Dialer::App);
    supervisor.send(Directory { services: Vec::new(), app: None }).await.expect("takes it");
    assert!(map.load().get(&key).is_none());
    assert!(upstream.is_retired());
    share.heard();
    let left = Arc::downgrade(&upstream);
    drop((upstream, share));
    eventually("its actor's end", || left.strong_count() == 0).await;
}

#[actix_rt::test]
async fn a_crashed_actor_is_replaced_by_one_that_knows_what_the_last_published() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor =
        Supervisor::new(Arc::clone(&map), vec![actix_rt::Arbiter::current(); 1], 16, Arc::default()).start();
    supervisor.send(listed(&[1, 2])).await.expect("takes it");
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let upstream = supervisor.send(Ensure { key: key.clone() }).await.expect("answers").expect("listed");
    eventually("both endpoints", || upstream.snapshot.load().endpoints.len() == 2).await;
    upstream.tell(failed(1));
    eventually("ejected", || upstream.snapshot.load().endpoints.iter().any(|e| e.health != Health::Healthy))
        .await;
    let before = upstream.snapshot.load_full();
    supervisor.send(Crashed { key, about: "a test" }).await.expect("takes it");
    let after = upstream.snapshot.load_full();
    assert_eq!(after.incarnation, before.incarnation + 1);
    assert_eq!(after.endpoints, before.endpoints);
    upstream.tell(failed(2));
    eventually("the new actor publishes", || {
        let now = upstream.snapshot.load();
        now.generation > after.generation && now.endpoints.iter().all(|e| e.health != Health::Healthy)
    })
    .await;
}

#[actix_rt::test]
async fn settings_that_an_actor_did_not_take_are_told_again() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor = Supervisor::new(map, vec![actix_rt::Arbiter::current(); 1], 16, Arc::default()).start();
    let asked = supervisor.send(Ensure { key: Key::AppPort(80) }).await.expect("answers");
    let upstream = asked.expect("an app needs no directory");
    let actor = upstream.actor.load_full();
    // One that is gone.
    upstream.actor.store(Arc::new(actix::Context::<UpstreamActor>::new().address()));
    let concurrency = Concurrency { algorithm: ConcurrencyAlgorithm::Fixed, initial: 3, min: 3, max: 3 };
    let app = ServerTraffic { concurrency, ..ServerTraffic::default() };
    supervisor.send(Directory { services: Vec::new(), app: Some(app) }).await.expect("takes it");
    upstream.actor.store(actor);
    eventually("the limit of policy", || upstream.leases.limit() == 3).await;
}

#[actix_rt::test]
async fn what_a_crashed_actor_never_heard_no_longer_lies_in_a_mailbox() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let events = Arc::<Events>::default();
    let supervisor =
        Supervisor::new(map, vec![actix_rt::Arbiter::current()], 16, Arc::clone(&events)).start();
    supervisor.send(listed(&[1, 2])).await.expect("takes it");
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let upstream = supervisor.send(Ensure { key: key.clone() }).await.expect("answers").expect("listed");
    upstream.tell(failed(1));
    eventually("it is heard", || upstream.mailbox.depth() == 0).await;
    assert_eq!(upstream.mailbox.latency().counts().sum::<u64>(), 1);
    upstream.tell(Panic);
    for _ in 0..10 {
        upstream.tell(failed(2));
    }
    // The actor runs on this thread.
    assert_eq!((upstream.mailbox.depth(), upstream.mailbox.refused()), (11, 0));
    eventually("a new one", || upstream.snapshot.load().incarnation == 1).await;
    eventually("an empty mailbox", || upstream.mailbox.depth() == 0).await;
    let whats: Vec<_> = events.latest(8).into_iter().map(|event| event.what).collect();
    assert!(whats.contains(&"its actor panicked over Panic, and a new one goes on".to_owned()), "{whats:?}");
    upstream.tell(failed(2));
    eventually("the new one hears", || {
        upstream.snapshot.load().endpoints.iter().all(|e| e.health != Health::Healthy)
    })
    .await;
}
