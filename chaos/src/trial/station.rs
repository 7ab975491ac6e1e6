//! A capacity model: so many workers, each with a fixed service time, and one line in front of them, first come first
//! served and without a bound, so that overload shows as latency.
//!
//! Pure: time is an argument, counted from the process's beginning. A worker takes its next job at the very time at which
//! the last one was due to end, not when somebody noticed; so the capacity is exact however late the timer is.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Debug)]
pub struct Station<J> {
    service: Duration,
    workers: Vec<Worker<J>>,
    waiting: VecDeque<(J, Duration)>,
    /// Of the capacity, from 0 to below 1; holds for what begins later.
    taken: f64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    /// Nothing is begun.
    Halted,
}

#[derive(Debug)]
struct Worker<J> {
    job: Option<J>,
    /// When its job ends; without one, since when it has been free.
    at: Duration,
}

impl<J> Station<J> {
    pub fn new(workers: usize, service: Duration) -> Self {
        let workers = (0..workers).map(|_| Worker { job: None, at: Duration::ZERO }).collect();
        Self { service, workers, waiting: VecDeque::new(), taken: 0.0, state: State::Working }
    }

    pub fn arrive(&mut self, job: J, now: Duration) {
        self.waiting.push_back((job, now));
        self.begin();
    }

    /// When something ends.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.workers.iter().filter(|worker| worker.job.is_some()).map(|worker| worker.at).min()
    }

    /// What has ended by now, in that order. Each frees its worker for the next.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<J> {
        let mut ended = Vec::new();
        loop {
            let busy = self.workers.iter_mut().filter(|worker| worker.job.is_some() && worker.at <= now);
            let Some(first) = busy.min_by_key(|worker| worker.at) else { break };
            ended.extend(first.job.take());
            self.begin();
        }
        ended
    }

    /// A share of the capacity goes to something else, from the next job on.
    pub fn take_away(&mut self, share: f64) {
        self.taken = share.clamp(0.0, 0.999);
    }

    /// From now on nothing is begun; what was begun ends.
    pub fn halt(&mut self) {
        self.state = State::Halted;
    }

    pub fn resume(&mut self, now: Duration) {
        self.state = State::Working;
        for worker in self.workers.iter_mut().filter(|worker| worker.job.is_none()) {
            worker.at = worker.at.max(now);
        }
        self.begin();
    }

    /// Lets go of everybody in line.
    pub fn clear(&mut self) -> impl Iterator<Item = J> {
        std::mem::take(&mut self.waiting).into_iter().map(|(job, _)| job)
    }

    fn begin(&mut self) {
        while self.state == State::Working {
            let Some(worker) = self.workers.iter_mut().find(|worker| worker.job.is_none()) else { break };
            let Some((job, arrived)) = self.waiting.pop_front() else { break };
            // Free since before it came, or busy until now.
            let begun = worker.at.max(arrived);
            worker.job = Some(job);
            worker.at = begun + self.service.div_f64(1.0 - self.taken);
        }
    }
}

#[cfg(test)]
mod tests;
