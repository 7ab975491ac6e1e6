//! What people can read afterwards: each change of an upstream's endpoints, with its cause.

use outrider_shared::traffic::BreakerScope;

use super::*;
use crate::upstream::digest::Scope;

fn whats(machine: &mut Machine) -> Vec<String> {
    machine.take_events().into_iter().map(|event| event.what).collect()
}

#[test]
fn an_ejection_is_told_when_it_begins_when_it_ends_and_when_a_connection_comes_about() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), now);
    machine.handle(directory(&[1, 2]), 0.0, now);
    machine.handle(failed(1), 0.0, now);
    assert_eq!(whats(&mut machine), ["left out for 1s: refused"]);
    machine.handle_timeout(now + Duration::from_secs(1));
    assert_eq!(whats(&mut machine), ["no longer left out: the next connection to it decides"]);
    machine.handle(Input::Connected { address: address(1) }, 0.0, now);
    machine.handle(Input::Connected { address: address(1) }, 0.0, now);
    assert_eq!(whats(&mut machine), ["can be connected to again"]);
}

#[test]
fn callers_that_lost_an_endpoint_in_one_moment_do_not_come_back_in_one() {
    let now = Instant::now();
    let times = [0.0, 0.5, 0.99].map(|unit| {
        let mut machine = Machine::resume(&empty(), now);
        machine.handle(directory(&[1]), 0.0, now);
        machine.handle(failed(1), unit, now);
        (machine.poll_timeout().expect("ejected") - now).as_millis()
    });
    assert_eq!(times, [1_000, 900, 802]);
}

#[test]
fn that_all_endpoints_are_used_since_too_many_are_unfit_is_told_and_that_it_is_over() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), now);
    machine.handle(directory(&[1, 2, 3, 4]), 0.0, now);
    let checked =
        |n, failed: Option<&str>| Input::Checked { address: address(n), failed: failed.map(str::to_owned) };
    for n in 1..=3 {
        machine.handle(checked(n, Some("503")), 0.0, now);
    }
    let panic = "3 of 4 endpoints have a reason to be left out, and at most 2 may be: all are used";
    assert_eq!(whats(&mut machine), ["unwell: 503", "unwell: 503", "unwell: 503", panic]);
    machine.handle(checked(1, None), 0.0, now);
    let over = "few enough endpoints have a reason to be left out: they are again";
    assert_eq!(whats(&mut machine), ["well again", over]);
}

#[test]
fn of_more_changes_than_are_kept_their_number_is_told() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), now);
    let all: Vec<u8> = (1..=100).collect();
    machine.handle(directory(&all), 0.0, now);
    for n in all {
        machine.handle(failed(n), 0.0, now);
    }
    let told = whats(&mut machine);
    assert_eq!((told.len(), told.last().map(String::as_str)), (25, Some("and 76 changes more")));
    assert!(machine.take_events().is_empty());
}

#[actix_rt::test]
async fn what_actors_went_through_is_counted_also_when_their_upstream_is_gone() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor = Supervisor::new(map, vec![actix_rt::Arbiter::current()], 16, Arc::default());
    let totals = supervisor.totals();
    let supervisor = supervisor.start();
    supervisor.send(listed(&[1])).await.expect("takes it");
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let upstream = supervisor.send(Ensure { key }).await.expect("answers").expect("listed");
    upstream.tell(Panic);
    eventually("a new one", || upstream.snapshot.load().incarnation == 1).await;
    upstream.mailbox.refuse();
    supervisor.send(Directory { services: Vec::new(), app: None }).await.expect("takes it");
    let counted = || (totals.restarts.load(Ordering::Relaxed), totals.refused.load(Ordering::Relaxed));
    assert!(upstream.is_retired());
    assert_eq!(counted(), (1, 1));
    assert_eq!(
        supervisor.mailbox.latency().counts().sum::<u64>(),
        4,
        "its own mail is measured: three, and the crash"
    );
}

#[test]
fn that_a_breaker_is_gone_with_what_it_knew_is_told() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), now);
    machine.handle(directory(&[1]), 0.0, now);
    let scoped = |scope| {
        let mut settings = Settings::of_service(None, 16);
        settings.client.breaker.scope = scope;
        settings
    };
    machine.configure(scoped(BreakerScope::Service), now);
    machine.take_events();
    machine.configure(scoped(BreakerScope::Endpoint), now);
    let gone = "its breaker is gone: policy has it elsewhere now";
    let told: Vec<_> = machine.take_events().into_iter().map(|event| (event.scope, event.what)).collect();
    assert_eq!(told, [(Scope::Service, gone.to_owned())]);
    machine.configure(scoped(BreakerScope::Service), now);
    assert_eq!(machine.take_events()[0].scope, Scope::Endpoint(address(1)));
}
