//! A shard's side of a step: one request is admitted and completed.

use std::cell::RefCell;
use std::fmt;
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use outrider_sidecar::mesh::Dialer;
use outrider_sidecar::pipeline::judge::{Answered, By, Ended};
use outrider_sidecar::stats::{AnswerClass, InboundPeerStats, Recorded, ShardRecorder};
use outrider_sidecar::upstream::Upstream;
use outrider_sidecar::upstream::attempt::{Attempt, Passed, Probes};
use outrider_sidecar::upstream::digest::Load;
use outrider_sidecar::upstream::queue::PeerKey;
use outrider_sidecar::upstream::share::{Permit, Share};
use outrider_sidecar::upstream::wait::Asks;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::address;

pub const APP_PORT: u16 = 8_080;
/// Between two looks at the clock and turns of the shard's other tasks: 0.1 ms, of which those take 1 %.
const BATCH: u32 = 512;
/// What the app is said to take beside what the shard itself did meanwhile.
const APP_TAKES: Duration = Duration::from_micros(800);

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    /// From the app to a service: breakers, the retry budget's count of requests, permit, endpoint.
    Outbound,
    /// From a peer to the app: permit, and the counters of the peer.
    Inbound,
    /// Nothing of the product's, and nothing that two threads share.
    Control,
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Control => "control",
        })
    }
}

/// A request under way.
struct UnderWay {
    sent_at: Instant,
    permit: Permit,
    /// Outbound.
    attempt: Option<Attempt>,
}

/// What a shard has for one upstream.
pub struct Caller {
    work: Work,
    share: Rc<Share>,
    recorder: Rc<ShardRecorder>,
    /// Inbound: who calls.
    peer: Arc<CachePadded<InboundPeerStats>>,
    own: PeerKey,
    rng: RefCell<SmallRng>,
}

impl Caller {
    pub fn new(work: Work, shard: usize, upstream: Arc<Upstream>, recorder: Rc<ShardRecorder>) -> Self {
        let share = match work {
            Work::Outbound => Share::of_service(upstream, shard, &recorder, Dialer::Mesh(Arc::default())),
            Work::Inbound | Work::Control => Share::of_app(upstream, shard, &recorder, address(1)),
        };
        let peer = recorder.peer(APP_PORT, "spiffe://shop.local/ns/shop/sa/cart", true);
        let rng = RefCell::new(SmallRng::seed_from_u64(shard as u64));
        Self { work, share, recorder, peer, own: PeerKey(Arc::from("app")), rng }
    }

    /// Up to where the request is sent.
    async fn admit(&self) -> UnderWay {
        let counters = self.recorder.shard();
        counters.in_flight.increment();
        counters.requests.increment();
        if let Work::Outbound = self.work {
            self.share.began();
            let passed = self.share.pass_breaker().await;
            assert!(matches!(passed, Passed::Freely), "nothing fails here, so no breaker opens");
        }
        let asks = Asks { class: 0, peer: &self.own, deadline: None };
        let permit = self.share.admit(asks).await.expect("fewer are under way than may be");
        let now = Instant::now();
        let attempt = matches!(self.work, Work::Outbound).then(|| {
            assert!(!self.share.is_probing(), "nothing fails here, so no breaker is half open");
            let endpoint = self.share.choose(&[], &mut self.rng.borrow_mut(), now);
            Attempt::begin(&self.share, &endpoint.expect("the directory lists some"), Probes::new())
        });
        UnderWay { sent_at: now, permit, attempt }
    }

    /// From where the head of the answer is there; its end comes at once. Each is a reading of the clock.
    fn complete(&self, UnderWay { sent_at, permit, mut attempt }: UnderWay) {
        let now = Instant::now();
        let took = APP_TAKES + now.saturating_duration_since(sent_at);
        match &mut attempt {
            Some(attempt) => attempt.answered(took, now),
            None => self.share.seen(Load::Answered(took)),
        }
        let now = Instant::now();
        let duration = APP_TAKES + now.saturating_duration_since(sent_at);
        self.recorder.shard().in_flight.decrement();
        self.share.stats.record(AnswerClass::Success, duration);
        match attempt {
            Some(attempt) => {
                let status = http::StatusCode::OK;
                attempt.end(Ended::Answered(Answered { status, grpc: None, by: By::Backend }), now);
            }
            None => self.peer.record(&Recorded {
                class: AnswerClass::Success,
                refused: false,
                bytes_received: 0,
                bytes_sent: 1_024,
                duration,
            }),
        }
        drop(permit);
    }

    async fn step(&self) {
        if let Work::Control = self.work {
            control();
        } else {
            let under_way = self.admit().await;
            black_box(&under_way);
            self.complete(under_way);
        }
    }

    /// One step after the other from `start` on, for `round`, beside `held` requests that stay under way.
    pub async fn run(&self, held: u32, start: Instant, round: Duration) -> Ran {
        let mut under_way = Vec::new();
        for _ in 0..held {
            under_way.push(self.admit().await);
        }
        while Instant::now() < start {
            std::hint::spin_loop();
        }
        let (began, cpu_began) = (Instant::now(), cpu_time());
        let mut steps = 0;
        let ended = loop {
            for _ in 0..BATCH {
                self.step().await;
            }
            steps += BATCH;
            let now = Instant::now();
            if now.saturating_duration_since(start) >= round {
                break now;
            }
            tokio::task::yield_now().await;
        };
        let on_core = cpu_time().saturating_sub(cpu_began).as_secs_f64() / (ended - began).as_secs_f64();
        for under_way in under_way {
            self.complete(under_way);
        }
        // One that began late waited for a core too.
        let late = (began - start).as_secs_f64() / (ended - start).as_secs_f64();
        Ran { steps, ended, on_core: on_core - late }
    }
}

/// As many readings of the clock as a step of the others has.
fn control() {
    for _ in 0..3 {
        black_box(Instant::now());
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("it began at nothing")
}

pub struct Ran {
    pub steps: u32,
    pub ended: Instant,
    /// The part of the round for which the thread had a core.
    pub on_core: f64,
}
