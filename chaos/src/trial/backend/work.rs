//! The worker's thread: takes jobs in, lets them wait in line, and does them at the stated capacity.
//!
//! A thread of its own, since the event loop's timers count whole milliseconds, and a service time may be one.

use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Capacity, Counters, Order};
use crate::trial::station::Station;

/// To the worker.
#[derive(Debug)]
pub enum Message {
    /// A request waits for this; a receiver that is gone is a caller that is gone.
    Job(oneshot::Sender<()>),
    Order(Order),
}

/// Works until the senders are gone.
pub fn work(capacity: Capacity, messages: &Receiver<Message>, counters: &Counters) {
    match capacity {
        Capacity::Rate { workers, service } => by_rate(Station::new(workers, service), messages, counters),
        Capacity::Cpu { service } => by_cpu(service, messages, counters),
        Capacity::Unbounded => {}
    }
}

fn finish(done: oneshot::Sender<()>, counters: &Counters) {
    counters.served.fetch_add(1, Relaxed);
    if done.send(()).is_err() {
        counters.wasted.fetch_add(1, Relaxed);
    }
}

fn by_rate(mut station: Station<oneshot::Sender<()>>, messages: &Receiver<Message>, counters: &Counters) {
    let begun = Instant::now();
    loop {
        let message = match station.poll_timeout() {
            Some(at) => match messages.recv_timeout(at.saturating_sub(begun.elapsed())) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            },
            None => match messages.recv() {
                Ok(message) => Some(message),
                Err(_) => return,
            },
        };
        let now = begun.elapsed();
        for done in station.handle_timeout(now) {
            finish(done, counters);
        }
        match message {
            Some(Message::Job(done)) => station.arrive(done, now),
            Some(Message::Order(order)) => match order {
                Order::TakeAway(share) => station.take_away(share),
                Order::Hang => station.halt(),
                Order::Resume => station.resume(now),
                Order::Clear => drop(station.clear().collect::<Vec<_>>()),
                Order::Fail(_) => {}
            },
            None => {}
        }
    }
}

/// One after another; what waits is in the channel's own line, taken over so that orders get through.
fn by_cpu(service: Duration, messages: &Receiver<Message>, counters: &Counters) {
    let rounds = Calibrated::now().rounds(service);
    // Only as a line with a state: no job is ever under way in it.
    let mut line = std::collections::VecDeque::new();
    let mut taken = 0.0;
    let mut works = true;
    loop {
        let idle = line.is_empty() || !works;
        let message =
            if idle { messages.recv().map_err(|_| TryRecvError::Disconnected) } else { messages.try_recv() };
        match message {
            Ok(Message::Job(done)) => line.push_back(done),
            Ok(Message::Order(order)) => match order {
                Order::TakeAway(share) => taken = share.clamp(0.0, 0.999),
                Order::Hang => works = false,
                Order::Resume => works = true,
                Order::Clear => line.clear(),
                Order::Fail(_) => {}
            },
            Err(TryRecvError::Empty) => {
                let Some(done) = line.pop_front() else { continue };
                spin(rounds);
                pause(service.mul_f64(taken / (1.0 - taken)));
                finish(done, counters);
            }
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

/// The CPU is somebody else's meanwhile, as that of a container is which has used up its quota.
fn pause(duration: Duration) {
    if !duration.is_zero() {
        #[allow(clippy::disallowed_methods, reason = "the worker's own thread, on which nothing else runs")]
        std::thread::sleep(duration);
    }
}

/// Some arithmetic that no compiler leaves out.
fn spin(rounds: u64) {
    let mut mixed = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for round in 0..rounds {
        mixed = (mixed ^ round).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(17);
    }
    black_box(mixed);
}

/// How long a round takes when nothing else wants the CPU: work is a number of rounds, so that a busy machine makes the
/// backend slower, as it does every app.
struct Calibrated {
    rounds: u64,
    took: Duration,
}

impl Calibrated {
    /// The fastest of some tries: the others were disturbed.
    fn now() -> Self {
        /// About 2 ms each.
        const ROUNDS: u64 = 1_000_000;
        const TRIES: u32 = 50;
        let tries = (0..TRIES).map(|_| {
            let begun = Instant::now();
            spin(ROUNDS);
            begun.elapsed()
        });
        Self { rounds: ROUNDS, took: tries.min().unwrap_or_default().max(Duration::from_nanos(1)) }
    }

    fn rounds(&self, of: Duration) -> u64 {
        let times = of.as_nanos() * u128::from(self.rounds) / self.took.as_nanos();
        u64::try_from(times).unwrap_or(u64::MAX)
    }
}
