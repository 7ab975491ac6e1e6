//! What the end of an attempt says of its endpoint.

use http::StatusCode;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::pipeline::judge::{Answered, By, Ended};
use crate::upstream::attempt::{Attempt, Whose};

#[actix_rt::test]
async fn who_gives_up_long_before_an_endpoint_usually_answers_says_nothing_of_it() {
    let map = Arc::new(ArcSwap::from_pointee(UpstreamMap::new()));
    let supervisor = Supervisor::new(map, vec![actix_rt::Arbiter::current()], 16, Arc::default()).start();
    supervisor.send(listed(&[1])).await.expect("takes it");
    let key = Key::Service("shop/payments".parse().expect("a service"));
    let upstream = supervisor.send(Ensure { key }).await.expect("answers").expect("listed");
    let recorder = Rc::new(ShardRecorder::new(&Arc::default()));
    let share = Share::of_service(Arc::clone(&upstream), 0, &recorder, Dialer::Mesh(Arc::default()));
    let now = Instant::now();
    let endpoint = share.choose(&[], &mut SmallRng::seed_from_u64(1), now).expect("there is one");
    let failures = || endpoint.tally.borrow().unsent().map_or(0, |told| told.counts.failures);
    let ms = Duration::from_millis;

    let mut answered = Attempt::begin(&share, &endpoint, Vec::new());
    answered.answered(ms(100), now);
    answered.end(Ended::Answered(Answered { status: StatusCode::OK, grpc: None, by: By::Backend }), now);
    let gave_up = |after, whose, ended| {
        let mut attempt = Attempt::begin(&share, &endpoint, Vec::new());
        attempt.gave_up(after, whose, now);
        attempt.end(ended, now);
    };
    for _ in 0..100 {
        gave_up(ms(5), Whose::Callers, Ended::RequestTimedOut);
    }
    assert_eq!(failures(), 0, "its clients had no time for it");
    gave_up(ms(5), Whose::Routes, Ended::AttemptTimedOut);
    gave_up(ms(5), Whose::Routes, Ended::RequestTimedOut);
    assert_eq!(failures(), 2, "what the route allows is policy");
    gave_up(ms(80), Whose::Callers, Ended::RequestTimedOut);
    assert_eq!(failures(), 3, "it had time");
    let mut began = Attempt::begin(&share, &endpoint, Vec::new());
    began.answered(ms(5), now);
    began.end(Ended::RequestTimedOut, now);
    assert_eq!(failures(), 4, "its head came at once, and then nothing");
}
