//! Which endpoint a request may go to, by what its actor has published.

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;

#[actix_rt::test]
async fn an_endpoint_that_is_left_out_gets_no_second_attempts_while_another_is_fit() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor = Supervisor::new(map, vec![actix_rt::Arbiter::current()], 16, Arc::default()).start();
    supervisor.send(listed(&[1, 2])).await.expect("takes it");
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let upstream = supervisor.send(Ensure { key }).await.expect("answers").expect("listed");
    let recorder = Rc::new(ShardRecorder::new(&Arc::default()));
    let share = Share::of_service(Arc::clone(&upstream), 0, &recorder, Dialer::Mesh(Arc::default()));
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
