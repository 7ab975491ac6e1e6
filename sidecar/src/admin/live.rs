//! Answers of the admin port that go on: a line of JSON for each event, or for each upstream that has changed.
//!
//! A reader that is slow gets less, and never makes the sidecar keep more: of upstreams the latest is looked at when there is
//! room for it, and of events those that are more than 256 behind are left out, as their numbers tell.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::time::{Interval, interval, timeout};
use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::Data;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use outrider_shared::session::{EventView, UpstreamView};
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::MissedTickBehavior;

use crate::node::Node;
use crate::view;

/// One JSON object in each line.
pub(super) const CONTENT_TYPE: &str = "application/x-ndjson";
/// Such answers at once, of both kinds. 16: a few people and their scripts; three quarters of the port's 64 connections
/// stay for everybody else.
const WATCHERS_MAX: usize = 16;
/// Between two looks at the upstreams. 250 ms: a person sees it at once, and 200 upstreams that all change write 800 lines
/// a second at most.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// An empty line is written where there was nothing to say for so long: a reader that has gone away is noticed by it, and
/// its place given back. 2 s, twice at most: the first write to one that is gone still succeeds.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Places for whoever watches.
#[derive(Debug, Clone)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS_MAX)))
    }
}

impl Watchers {
    /// `None`: all are taken.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

fn no_place() -> HttpResponse {
    HttpResponse::ServiceUnavailable()
        .content_type(ContentType::plaintext())
        .body(format!("{WATCHERS_MAX} watch already\n"))
}

pub(super) fn line(of: &impl Serialize) -> Bytes {
    Bytes::from(format!("{}\n", json!(of)))
}

/// What is kept, and what comes.
pub(super) fn events(node: &Node, watchers: &Watchers) -> HttpResponse {
    let Some(place) = watchers.place() else { return no_place() };
    let (kept, live) = node.events.listen();
    let kept: Vec<Bytes> = kept.iter().map(line).collect();
    let coming = stream::unfold((live, place), async |(mut live, place)| {
        let next = next_event(&mut live).await?;
        Some((next, (live, place)))
    });
    streaming(stream::iter(kept).chain(coming))
}

async fn next_event(live: &mut Receiver<EventView>) -> Option<Bytes> {
    loop {
        match timeout(SILENCE_MAX, live.recv()).await {
            Err(_) => return Some(Bytes::from_static(b"\n")),
            Ok(Ok(event)) => return Some(line(&event)),
            // The numbers tell what is missing.
            Ok(Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) => return None,
        }
    }
}

/// All upstreams, and then those that change.
pub(super) fn upstreams(node: Data<Node>, watchers: &Watchers) -> HttpResponse {
    let Some(place) = watchers.place() else { return no_place() };
    let mut looks = interval(LOOK_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let seen = Seen::default();
    streaming(stream::unfold((node, looks, seen, place), async |(node, mut looks, mut seen, place)| {
        let next = next_change(&node, &mut looks, &mut seen).await;
        Some((next, (node, looks, seen, place)))
    }))
}

async fn next_change(node: &Node, looks: &mut Interval, seen: &mut Seen) -> Bytes {
    let change = async {
        loop {
            looks.tick().await;
            let lines = seen.look(view::upstreams(node));
            if !lines.is_empty() {
                return Bytes::from(lines.concat());
            }
        }
    };
    timeout(SILENCE_MAX, change).await.unwrap_or(Bytes::from_static(b"\n"))
}

/// Upstreams as they were written last, by name.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<String, UpstreamView>);

impl Seen {
    /// A line for each that differs, and for each that is gone: `{"name":"…","gone":true}`.
    pub(super) fn look(&mut self, now: Vec<UpstreamView>) -> Vec<Bytes> {
        let gone: Vec<String> =
            self.0.keys().filter(|name| !now.iter().any(|of| of.name == **name)).cloned().collect();
        let mut lines = Vec::new();
        for name in gone {
            self.0.remove(&name);
            lines.push(line(&json!({ "name": name, "gone": true })));
        }
        for of in now {
            let timeless = of.timeless();
            if self.0.get(&of.name) != Some(&timeless) {
                lines.push(line(&of));
                self.0.insert(of.name, timeless);
            }
        }
        lines
    }
}

fn streaming(lines: impl stream::Stream<Item = Bytes> + 'static) -> HttpResponse {
    HttpResponse::Ok().content_type(CONTENT_TYPE).streaming(lines.map(Ok::<_, Infallible>))
}

#[cfg(test)]
mod tests;
