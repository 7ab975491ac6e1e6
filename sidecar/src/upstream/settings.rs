//! What policy says of one upstream, with the sidecar's own bound laid over it.

use outrider_shared::traffic::{ClientTraffic, Concurrency, ConcurrencyAlgorithm, Queue, ServerTraffic};
use outrider_shared::units::GepDuration;

/// How an upstream is called or protected.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Requests under way, and tunnels open, that the sidecar takes at all.
    pub cap: u32,
    pub concurrency: Concurrency,
    pub queue: Queue,
    /// Outbound alone; inbound the defaults, which nothing asks for.
    pub client: ClientTraffic,
}

impl Settings {
    /// Of another service. `cap`: requests under way that the sidecar takes at all. Only a bound of the caller's own is worth
    /// a queue at the caller: what is full at the far side is better tried at another endpoint.
    pub fn of_service(client: Option<&ClientTraffic>, cap: u32) -> Self {
        let client = client.cloned().unwrap_or_default();
        match client.concurrency {
            Some(concurrency) => {
                Self { cap, concurrency: capped(concurrency, cap), queue: Queue::default(), client }
            }
            None => Self { cap, concurrency: fixed(cap), queue: no_queue(), client },
        }
    }

    /// Of a port of the app.
    pub fn of_app(server: Option<&ServerTraffic>, cap: u32) -> Self {
        let server = server.cloned().unwrap_or_default();
        Self {
            cap,
            concurrency: capped(server.concurrency, cap),
            queue: server.queue,
            client: ClientTraffic::default(),
        }
    }

    /// Whether a request without a permit may wait for one.
    pub fn queues(&self) -> bool {
        self.queue.depth_max > 0
    }
}

fn fixed(limit: u32) -> Concurrency {
    Concurrency { algorithm: ConcurrencyAlgorithm::Fixed, initial: limit, min: limit, max: limit }
}

fn no_queue() -> Queue {
    Queue { depth_max: 0, wait_max: GepDuration::from_millis(0), ..Queue::default() }
}

fn capped(given: Concurrency, cap: u32) -> Concurrency {
    let Concurrency { algorithm, initial, min, max } = given;
    Concurrency { algorithm, initial: initial.min(cap), min: min.min(cap), max: max.min(cap) }
}
