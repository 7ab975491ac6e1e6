//! Which endpoint a request may go to, by what its actor has published.

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use outrider_shared::traffic::Balancing;

use super::*;

#[actix_rt::test]
async fn an_endpoint_that_is_left_out_gets_no_second_attempts_while_another_is_fit() {
    let (upstream, share, _supervisor) = shared(&[1, 2]).await;
    let mut rng = SmallRng::seed_from_u64(1);
    let mut chosen =
        |tried: &[SocketAddr]| share.choose(tried, &mut rng, Instant::now()).map(|endpoint| endpoint.address);
    let left_out = |count| upstream.snapshot.load().endpoints.iter().filter(|e| e.left_out).count() == count;
    assert_eq!(chosen(&[address(1)]), Some(address(2)));
    upstream.tell(failed(2));
    eventually("one is left out", || left_out(1)).await;
    for _ in 0..100 {
        assert_eq!(chosen(&[]), Some(address(1)));
        assert_eq!(chosen(&[address(1)]), None);
    }
    upstream.tell(failed(1));
    eventually("both are left out", || left_out(2)).await;
    assert_eq!(chosen(&[address(1)]), Some(address(2)));
}

#[actix_rt::test]
async fn where_policy_lets_all_be_left_out_nobody_gets_a_request_and_one_that_is_well_again_does() {
    let now = Instant::now();
    let mut machine = Machine::resume(&empty(), now);
    machine.handle(directory(&[1, 2]), 0.0, now);
    let unwell =
        |n, why: Option<&str>| Input::Checked { address: address(n), failed: why.map(str::to_owned) };
    machine.handle(unwell(1, Some("503")), 0.0, now);
    machine.handle(unwell(2, Some("503")), 0.0, now);
    let barred = |machine: &Machine| machine.snapshot().endpoints.iter().filter(|e| e.barred).count();
    assert_eq!(barred(&machine), 0, "too many: all are used");
    let mut settings = Settings::of_service(None, 16);
    settings.client.breaker.ejected_max = 1.0;
    machine.configure(settings, now);
    assert_eq!(barred(&machine), 2);

    let (upstream, share, _supervisor) = shared(&[1, 2]).await;
    for balancing in [Balancing::PeakEwma, Balancing::LeastRequest, Balancing::RoundRobin] {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut chosen = |machine: &Machine| {
            let mut snapshot = machine.snapshot();
            let mut settings = Settings::clone(&snapshot.settings);
            settings.client.balancing = balancing;
            snapshot.settings = Arc::new(settings);
            snapshot.generation += 1 + upstream.snapshot.load().generation;
            upstream.snapshot.store(Arc::new(snapshot));
            share.choose(&[], &mut rng, Instant::now()).map(|endpoint| endpoint.address)
        };
        assert_eq!(chosen(&machine), None, "{balancing:?}");
        machine.handle(unwell(2, None), 0.0, now);
        assert_eq!(chosen(&machine), Some(address(2)), "{balancing:?}");
        machine.handle(unwell(2, Some("503")), 0.0, now);
    }
}
