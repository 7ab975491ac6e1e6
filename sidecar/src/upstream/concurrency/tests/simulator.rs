//! An app, a queue in front of it, and a limiter between them, as events in simulated time: the same every time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use crate::upstream::concurrency::{Limiter, Sample};

/// How often shards report, in microseconds.
const DIGEST_US: u64 = 50_000;
/// The product's queue: its bound, and how long one waits in it.
const QUEUE_MAX: usize = 256;
const WAIT_MAX_US: u64 = 250_000;

/// What works off requests.
#[derive(Debug, Clone, Copy)]
pub enum App {
    /// So many at once; others wait for a worker, the first come first.
    Pool(usize),
    /// All at once, on so many cores.
    Cores(f64),
}

/// How long a request takes when it is alone, in microseconds, from a number below 1 that is drawn.
pub type Work = fn(f64) -> f64;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// So many a second, at random.
    Open(f64),
    /// So many callers, each of whom calls again as soon as it is answered.
    Closed(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A worker has finished what was sent then.
    Worked {
        sent_us: u64,
    },
    /// The requests on the cores may have finished one; of an old plan if the number is.
    CoresDone {
        plan: u64,
    },
    /// A permit is free again.
    Released,
    Arrived,
    Digest,
}

/// What happened in a stretch of time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub answered: u64,
    pub shed: u64,
    pub latency_us_sum: u64,
    pub limit_min: u32,
    pub limit_max: u32,
    pub seconds: f64,
}

impl Report {
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds
    }
    pub fn latency_us(&self) -> f64 {
        self.latency_us_sum as f64 / self.answered.max(1) as f64
    }
}

pub struct Simulator {
    pub app: App,
    pub work: Work,
    pub load: Load,
    /// How long a permit is held after the head was answered.
    pub hold_us: u64,
    pub limiter: Limiter,
    start: Instant,
    now_us: u64,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    random: u64,
    limit: u32,
    in_flight: u32,
    queue: VecDeque<u64>,
    /// In the app, waiting for a worker.
    inside: VecDeque<u64>,
    busy: usize,
    /// Shared cores: how much each request has got so far, and who is done at how much.
    got_us: f64,
    got_at_us: u64,
    done_at: BinaryHeap<Reverse<(u64, u64)>>,
    plan: u64,
    sample: Sample,
    report: Report,
    callers: usize,
}

impl Simulator {
    pub fn new(app: App, work: Work, load: Load, limiter: Limiter) -> Self {
        let mut simulator = Self {
            app,
            work,
            load,
            hold_us: 0,
            limit: limiter.limit(),
            limiter,
            start: Instant::now(),
            now_us: 0,
            events: BinaryHeap::new(),
            random: 0x9e37_79b9_7f4a_7c15,
            in_flight: 0,
            queue: VecDeque::new(),
            inside: VecDeque::new(),
            busy: 0,
            got_us: 0.0,
            got_at_us: 0,
            done_at: BinaryHeap::new(),
            plan: 0,
            sample: Sample::default(),
            report: Report::default(),
            callers: 0,
        };
        simulator.after(DIGEST_US, Event::Digest);
        simulator.after(0, Event::Arrived);
        simulator
    }

    /// Runs on for so long and says what happened meanwhile.
    pub fn run(&mut self, time: Duration) -> Report {
        self.report = Report {
            limit_min: self.limit,
            limit_max: self.limit,
            seconds: time.as_secs_f64(),
            ..Report::default()
        };
        let until_us = self.now_us + time.as_micros() as u64;
        if let Load::Closed(callers) = self.load {
            while self.callers < callers {
                self.callers += 1;
                self.queue.push_back(self.now_us);
            }
            self.dispatch();
        }
        while let Some(Reverse((at_us, event))) = self.events.pop_if_before(until_us) {
            self.now_us = at_us;
            self.handle(event);
        }
        self.now_us = until_us;
        self.report
    }

    /// Changes what the app can do.
    pub fn becomes(&mut self, app: App, work: Work) {
        self.progress();
        (self.app, self.work) = (app, work);
        self.plan_cores();
        self.start_workers();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrived => {
                if let Load::Open(per_second) = self.load {
                    if self.queue.len() < QUEUE_MAX {
                        self.queue.push_back(self.now_us);
                    } else {
                        self.report.shed += 1;
                    }
                    let gap_us = -(1.0 - self.draw()).ln() * 1e6 / per_second;
                    self.after(gap_us as u64, Event::Arrived);
                } else {
                    self.after(1_000, Event::Arrived);
                }
            }
            Event::Worked { sent_us } => {
                self.busy -= 1;
                self.answered(sent_us);
                self.start_workers();
            }
            Event::CoresDone { plan } => {
                if plan == self.plan {
                    self.progress();
                    while let Some(&Reverse((done, sent_us))) = self.done_at.peek()
                        && done as f64 <= self.got_us + 0.5
                    {
                        self.done_at.pop();
                        self.answered(sent_us);
                    }
                    self.plan_cores();
                }
            }
            Event::Released => self.in_flight -= 1,
            Event::Digest => {
                self.digest();
                self.after(DIGEST_US, Event::Digest);
            }
        }
        self.dispatch();
    }

    fn digest(&mut self) {
        self.sample.in_flight_max = self.sample.in_flight_max.max(self.in_flight);
        let sample = std::mem::take(&mut self.sample);
        let now = self.start + Duration::from_micros(self.now_us);
        if let Some(limit) = self.limiter.observe(sample, now) {
            self.limit = limit;
        }
        assert_eq!(self.limit, self.limiter.limit());
        self.report.limit_min = self.report.limit_min.min(self.limit);
        self.report.limit_max = self.report.limit_max.max(self.limit);
        self.sample.in_flight_max = self.in_flight;
    }

    fn dispatch(&mut self) {
        let late =
            |since: u64, now: u64, load: Load| matches!(load, Load::Open(_)) && now - since >= WAIT_MAX_US;
        while let Some(&since) = self.queue.front()
            && late(since, self.now_us, self.load)
        {
            self.queue.pop_front();
            self.report.shed += 1;
        }
        while self.in_flight < self.limit && self.queue.pop_front().is_some() {
            self.in_flight += 1;
            self.sample.in_flight_max = self.sample.in_flight_max.max(self.in_flight);
            self.enter();
        }
        self.sample.queued |= !self.queue.is_empty();
    }

    fn enter(&mut self) {
        match self.app {
            App::Pool(_) => {
                self.inside.push_back(self.now_us);
                self.start_workers();
            }
            App::Cores(_) => {
                self.progress();
                let work = (self.work)(self.draw());
                self.done_at.push(Reverse(((self.got_us + work) as u64, self.now_us)));
                self.plan_cores();
            }
        }
    }

    fn answered(&mut self, sent_us: u64) {
        let took_us = self.now_us - sent_us;
        self.sample.answered(took_us as f64, 1);
        self.report.answered += 1;
        self.report.latency_us_sum += took_us;
        if self.hold_us > 0 {
            self.after(self.hold_us, Event::Released);
        } else {
            self.in_flight -= 1;
        }
        if matches!(self.load, Load::Closed(_)) {
            self.queue.push_back(self.now_us);
        }
    }

    fn start_workers(&mut self) {
        let App::Pool(workers) = self.app else { return };
        while self.busy < workers
            && let Some(sent_us) = self.inside.pop_front()
        {
            self.busy += 1;
            let work = (self.work)(self.draw());
            self.after(work as u64, Event::Worked { sent_us });
        }
    }

    /// What each request on the cores has got up to now.
    fn progress(&mut self) {
        self.got_us += (self.now_us - self.got_at_us) as f64 * self.rate();
        self.got_at_us = self.now_us;
    }

    fn rate(&self) -> f64 {
        let App::Cores(cores) = self.app else { return 0.0 };
        (cores / self.done_at.len().max(1) as f64).min(1.0)
    }

    fn plan_cores(&mut self) {
        self.plan += 1;
        if let Some(&Reverse((done, _))) = self.done_at.peek()
            && self.rate() > 0.0
        {
            let left_us = (done as f64 - self.got_us).max(0.0) / self.rate();
            self.after(left_us.ceil() as u64, Event::CoresDone { plan: self.plan });
        }
    }

    fn after(&mut self, us: u64, event: Event) {
        self.events.push(Reverse((self.now_us + us, event)));
    }

    /// At least 0 and below 1: xorshift64*.
    fn draw(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

trait PopIfBefore {
    fn pop_if_before(&mut self, until_us: u64) -> Option<Reverse<(u64, Event)>>;
}

impl PopIfBefore for BinaryHeap<Reverse<(u64, Event)>> {
    fn pop_if_before(&mut self, until_us: u64) -> Option<Reverse<(u64, Event)>> {
        self.peek().is_some_and(|Reverse((at_us, _))| *at_us < until_us).then(|| self.pop()).flatten()
    }
}
