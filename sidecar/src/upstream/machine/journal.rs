//! What happened to an upstream and waits to be read.

use std::time::Instant;

use crate::upstream::digest::Scope;

/// Events that wait to be taken. 24: the shell takes them after each input, and one input seldom changes more endpoints; of more
/// than that the last says how many there were. Fewer than a report holds, so that this is in it.
const EVENTS_MAX: usize = 24;

/// What people may want to read afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub at: Instant,
    pub scope: Scope,
    pub what: String,
}

#[derive(Debug, Default)]
pub struct Journal {
    events: Vec<Event>,
    /// Beyond [`EVENTS_MAX`].
    lost: u32,
}

impl Journal {
    pub fn add(&mut self, scope: Scope, what: String, at: Instant) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(Event { at, scope, what });
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    /// What happened since this was asked last.
    pub fn take(&mut self) -> Vec<Event> {
        let Self { mut events, lost } = std::mem::take(self);
        if let Some(at) = events.last().map(|last| last.at).filter(|_| lost > 0) {
            events.push(Event { at, scope: Scope::Service, what: format!("and {lost} changes more") });
        }
        events
    }
}
