//! What of an upstream does not change by time alone: for whoever shows only what has changed.

use super::{BreakerView, UpstreamView};

impl UpstreamView {
    /// Without what is counted from now: ages, and what is left of waits.
    #[must_use]
    pub fn timeless(&self) -> Self {
        let mut view = self.clone();
        if let Some(actor) = &mut view.actor {
            let queue = &mut actor.queue;
            queue.oldest_ms = None;
            for waiting in queue.classes.iter_mut().chain(&mut queue.peers) {
                waiting.oldest_ms = None;
            }
            actor.breaker.iter_mut().for_each(BreakerView::stop);
        }
        for endpoint in &mut view.endpoints {
            endpoint.retry_in_ms = None;
            endpoint.breaker.iter_mut().for_each(BreakerView::stop);
        }
        view
    }
}

impl BreakerView {
    fn stop(&mut self) {
        self.since_ms = 0;
        self.next_probe_in_ms = None;
    }
}
