//! What the end of an attempt says of its endpoint.

use http::StatusCode;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::pipeline::judge::{Answered, By, Ended};
use crate::upstream::attempt::{Attempt, Whose};
use crate::upstream::breaker::Position;

struct Case {
    upstream: Arc<Upstream>,
    share: Rc<Share>,
    _supervisor: SupervisorHandle,
}

impl Case {
    async fn start() -> Self {
        let (upstream, share, supervisor) = shared(&[1]).await;
        Self { upstream, share, _supervisor: supervisor }
    }

    fn attempt(&self) -> Attempt {
        let endpoint = self.share.choose(&[], &mut SmallRng::seed_from_u64(1), Instant::now());
        Attempt::begin(&self.share, &endpoint.expect("there is one"), Vec::new())
    }

    fn position(&self) -> Position {
        self.upstream.snapshot.load().endpoints[0].breaker.as_ref().expect("has one").position
    }
}

const OK: Ended = Ended::Answered(Answered { status: StatusCode::OK, grpc: None, by: By::Backend });

#[actix_rt::test]
async fn a_probe_whose_answer_never_ends_closes_the_breaker_by_its_head() {
    let case = Case::start().await;
    for _ in 0..30 {
        case.attempt().end(Ended::ConnectFailed, Instant::now());
    }
    eventually("it is half open", || case.share.is_probing()).await;
    let mut streams = Vec::new();
    while case.position() != Position::Closed {
        assert!(streams.len() < 10, "it never closes");
        actix_rt::time::sleep(Duration::from_millis(10)).await;
        if let Some((endpoint, probe)) = case.share.probe(&[]).await {
            let mut stream = Attempt::begin(&case.share, &endpoint, vec![probe]);
            stream.answered(Duration::from_millis(5), Instant::now());
            stream.goes_on(&OK);
            streams.push(stream);
        }
    }
    assert_eq!(streams.len(), 2, "as many as policy asks for, and all of them are open");
}

#[actix_rt::test]
async fn an_endpoint_that_refuses_at_once_is_not_taken_for_a_fast_one() {
    let case = Case::start().await;
    let mut now = Instant::now();
    let mut answered = case.attempt();
    answered.answered(Duration::from_millis(100), now);
    let endpoint = Rc::clone(answered.endpoint());
    answered.end(OK, now);
    for _ in 0..500 {
        now += Duration::from_millis(4);
        let mut refused = case.attempt();
        refused.was_refused(now);
        refused.end(Ended::Declined, now);
    }
    assert!(endpoint.usual(now) > Duration::from_millis(70), "{:?}", endpoint.usual(now));
}

#[actix_rt::test]
async fn who_gives_up_long_before_an_endpoint_usually_answers_says_nothing_of_it() {
    let Case { share, .. } = &Case::start().await;
    let now = Instant::now();
    let endpoint = share.choose(&[], &mut SmallRng::seed_from_u64(1), now).expect("there is one");
    let failures = || endpoint.tally.borrow().unsent().map_or(0, |told| told.counts.failures);
    let ms = Duration::from_millis;

    let mut answered = Attempt::begin(share, &endpoint, Vec::new());
    answered.answered(ms(100), now);
    answered.end(OK, now);
    let gave_up = |after, whose, ended| {
        let mut attempt = Attempt::begin(share, &endpoint, Vec::new());
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
    let mut began = Attempt::begin(share, &endpoint, Vec::new());
    began.answered(ms(5), now);
    began.end(Ended::RequestTimedOut, now);
    assert_eq!(failures(), 4, "its head came at once, and then nothing");
}
