//! What happened to upstreams, kept for a while: breakers that opened, endpoints that were left out, actors started anew.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use outrider_shared::session::EventView as Event;
use tokio::sync::broadcast;

use super::Key;
use super::digest::Scope;
use super::machine::Event as Happened;

/// Events that are kept. 1,024: a day of a mesh that works, some minutes of one that does not.
pub const EVENTS_MAX: usize = 1_024;
/// Events that a listener may be behind; one that is further behind misses some, and is told.
const BEHIND_MAX: usize = 256;

/// Written by upstreams' actors, read by whoever shows them: never on a request's way, so a lock is fine.
#[derive(Debug)]
pub struct Events {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Event>,
}

#[derive(Debug, Default)]
struct Kept {
    next: u64,
    events: VecDeque<Event>,
}

impl Default for Events {
    fn default() -> Self {
        Self { kept: Mutex::default(), live: broadcast::channel(BEHIND_MAX).0 }
    }
}

impl Events {
    pub fn happened(&self, upstream: &Key, event: Happened) {
        let endpoint = match event.scope {
            Scope::Service => None,
            Scope::Endpoint(address) => Some(address.to_string()),
        };
        self.tell(upstream, endpoint, event.what);
    }

    /// `endpoint`: `None` for the upstream as a whole.
    pub fn tell(&self, upstream: &Key, endpoint: Option<String>, what: String) {
        tracing::info!(%upstream, endpoint, what, "an upstream changed");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut kept = self.kept.lock().expect("nobody panics with it");
        kept.next += 1;
        let event = Event {
            number: kept.next,
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            upstream: upstream.to_string(),
            endpoint,
            what,
        };
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(event.clone());
        // Nobody listens.
        let _unheard = self.live.send(event);
    }

    /// The latest of those that are kept, the oldest first.
    pub fn latest(&self, most: usize) -> Vec<Event> {
        let kept = self.kept.lock().expect("nobody panics with it");
        kept.events.range(kept.events.len().saturating_sub(most)..).cloned().collect()
    }

    /// Those that are kept, the oldest first, and the ones that come.
    pub fn listen(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let kept = self.kept.lock().expect("nobody panics with it");
        (kept.events.iter().cloned().collect(), self.live.subscribe())
    }
}
