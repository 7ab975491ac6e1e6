//! Active health checks: the sidecar asks each endpoint of an upstream by itself whether it is well, where policy says so.
//!
//! What requests see (a failure to connect, a breaker) is found out at their cost, and a service that is seldom called is
//! found out late. A check costs nobody a request. It goes the way of a request: over mTLS to the exact endpoint's sidecar,
//! through its policy and admission, to the app; so it proves the whole way, and needs the caller's right to ask.
//!
//! ```text
//!  directory, policy ─▶ Machine ─ Check ─▶ ask ══▶ the endpoint's sidecar ─▶ app
//!                          ▲                 │
//!                          └──── Verdict ────┘        Machine ─ Input::Checked ─▶ the upstream's actor, which decides
//! ```
//!
//! A check that the far sidecar refuses for its own sake (its limit, its queue, its load, its policy) says nothing of the
//! app: it counts for neither side. Otherwise an app under load would lose its endpoints, and a missing rule would look like
//! an outage.
//!
//! An upstream is checked while it is in use and its policy asks for it, and until the drain begins.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::drain::Phase;
use crate::node::Node;
use crate::upstream::machine::Input;
use crate::upstream::{Key, Upstream};

mod ask;
mod checker;
mod grpc;
pub mod machine;
#[cfg(test)]
mod tests;

use checker::Checker;

/// How often policy, directory and what is in use are looked at. 250 ms: of the shortest interval of most policies a
/// quarter, and four comparisons a second for each upstream.
const LOOK: Duration = Duration::from_millis(250);
/// Checks under way at once, of all upstreams. 32: each may wait for its timeout, and a hundred endpoints that hang are
/// still all asked every few seconds.
const AT_ONCE: usize = 32;

/// Runs until the drain begins.
pub async fn run(node: Arc<Node>) {
    let mut phase = node.phase.subscribe();
    tokio::select! {
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
        () = watch(&node) => {}
    }
}

/// A checker at work; it ends with this.
struct Running {
    upstream: Arc<Upstream>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has one checker for each upstream that is in use and to be checked.
async fn watch(node: &Arc<Node>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    let mut running: HashMap<Key, Running> = HashMap::new();
    let mut ticks = actix_rt::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let in_use = node.upstreams.load_full();
        running.retain(|key, running| {
            let same = in_use.get(key).is_some_and(|upstream| Arc::ptr_eq(upstream, &running.upstream));
            same && !running.task.is_finished()
        });
        for (key, upstream) in in_use.iter() {
            let Key::Service(service) = key else { continue };
            if upstream.snapshot.load().settings.client.health_check.is_none() {
                running.remove(key);
                nobody_asks(upstream);
            } else if !running.contains_key(key) {
                let (upstream, room) = (Arc::clone(upstream), Arc::clone(&room));
                let checker = Checker::new(Arc::clone(node), service.clone(), Arc::clone(&upstream), room);
                running.insert(key.clone(), Running { upstream, task: actix_rt::spawn(checker.run()) });
            }
        }
    }
}

/// What was said of its endpoints is no longer kept up to date, so it no longer counts.
fn nobody_asks(upstream: &Upstream) {
    for endpoint in upstream.snapshot.load().endpoints.iter().filter(|endpoint| endpoint.unwell.is_some()) {
        upstream.tell(Input::Checked { address: endpoint.address, failed: None });
    }
}

/// The next look, or what is due before it.
fn wake_at(due: Option<Instant>, now: Instant) -> Instant {
    due.map_or(now + LOOK, |due| due.min(now + LOOK))
}
