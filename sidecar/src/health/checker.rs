//! The shell of one upstream's checks: carries them out, and tells the upstream's actor; it decides nothing.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::traffic::HealthCheckKind;
use outrider_shared::{ServiceId, SpiffeId};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::ask::{self, Asked};
use super::machine::{Check, Listed, Machine, Verdict};
use super::wake_at;
use crate::leg::h2_client::H2Connection;
use crate::node::Node;
use crate::upstream::Upstream;
use crate::upstream::machine::Input;

/// Where as many checks as may be are under way, the next one is looked at again after this.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(20);

/// The connection to an endpoint, while no check has it.
pub(super) type Kept = Rc<Cell<Option<H2Connection>>>;

/// Owns: the connections of checks to one upstream's endpoints, and the machine. Reads: the upstream's snapshot, each
/// [`super::LOOK`] and whenever a check ends. Tells: the upstream's actor, [`Input::Checked`]. Ends with the upstream.
pub(super) struct Checker {
    node: Arc<Node>,
    service: ServiceId,
    upstream: Arc<Upstream>,
    room: Arc<Semaphore>,
    /// `None`: nothing has been looked at.
    machine: Option<Machine>,
    /// Of the snapshot that was looked at last: generation and incarnation grow together.
    seen: Option<u64>,
    identity: Option<SpiffeId>,
    kept: HashMap<SocketAddr, Kept>,
    under_way: JoinSet<(Check, Verdict)>,
    random: SmallRng,
}

impl Checker {
    pub fn new(node: Arc<Node>, service: ServiceId, upstream: Arc<Upstream>, room: Arc<Semaphore>) -> Self {
        Self {
            node,
            service,
            upstream,
            room,
            machine: None,
            seen: None,
            identity: None,
            kept: HashMap::new(),
            under_way: JoinSet::new(),
            random: SmallRng::from_os_rng(),
        }
    }

    /// Until it is no longer to be checked.
    pub async fn run(mut self) {
        loop {
            let now = Instant::now();
            if !self.look(now) {
                return;
            }
            let wake = self.begin_due(now);
            tokio::select! {
                () = actix_rt::time::sleep_until(wake.into()) => {}
                Some(done) = self.under_way.join_next() => match done {
                    Ok((check, verdict)) => self.ended(check, verdict),
                    // The machine takes it for lost after a while.
                    Err(error) => tracing::error!(upstream = %self.upstream.key, %error, "a health check panicked"),
                }
            }
        }
    }

    /// Takes over what has changed, and corrects what the actor goes by. Whether it is still to be checked.
    fn look(&mut self, now: Instant) -> bool {
        let snapshot = self.upstream.snapshot.load_full();
        let Some(policy) = &snapshot.settings.client.health_check else { return false };
        let machine = self.machine.get_or_insert_with(|| Machine::new(policy.clone()));
        if machine.policy() != policy {
            machine.configure(policy.clone());
        }
        if self.seen != Some(snapshot.generation) {
            self.seen = Some(snapshot.generation);
            let listed = snapshot.endpoints.iter().map(|endpoint| Listed {
                sidecar: endpoint.sidecar.clone(),
                address: endpoint.address,
                unwell: endpoint.unwell.as_ref().map(|(_, why)| why.clone()),
            });
            let random = &mut self.random;
            machine.list(listed.collect(), || random.random(), now);
            self.kept.retain(|address, _| snapshot.endpoints.iter().any(|e| e.address == *address));
            if self.identity != snapshot.identity {
                // Whoever was there has to prove the new one.
                self.kept.clear();
                self.identity.clone_from(&snapshot.identity);
            }
        }
        for endpoint in &snapshot.endpoints {
            let unwell = endpoint.unwell.as_ref().map(|(_, why)| why.as_str());
            if let Some(failed) = machine.correction(endpoint.address, unwell) {
                self.upstream.tell(Input::Checked { address: endpoint.address, failed });
            }
        }
        true
    }

    /// Begins what is due, as far as there is room; when to look again.
    fn begin_due(&mut self, now: Instant) -> Instant {
        let Some(machine) = &mut self.machine else { return wake_at(None, now) };
        while machine.poll_timeout().is_some_and(|due| due <= now) {
            let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return now + NO_ROOM_PAUSE };
            let Some(check) = machine.next(now) else { break };
            let policy = machine.policy();
            let asked = Asked {
                tls: Arc::clone(&self.node.tls),
                address: check.address,
                identity: self.identity.clone(),
                target: target(&self.node, &self.service, &policy.kind),
                kind: policy.kind.clone(),
                timeout: policy.timeout.get(),
            };
            let kept = Rc::clone(self.kept.entry(check.address).or_default());
            self.under_way.spawn_local(async move {
                let verdict = ask::ask(&asked, &kept).await;
                drop(room);
                (check, verdict)
            });
        }
        wake_at(machine.poll_timeout(), now)
    }

    fn ended(&mut self, check: Check, verdict: Verdict) {
        self.node.stats.process.health_checks.increment(verdict.label());
        tracing::debug!(upstream = %self.upstream.key, address = %check.address, ?verdict, "a health check ended");
        let unit = self.random.random();
        if let Some(machine) = &mut self.machine {
            machine.ended(check, verdict, unit, Instant::now());
        }
    }
}

/// The port that is asked: the first that speaks what the check speaks.
fn target(node: &Node, service: &ServiceId, kind: &HealthCheckKind) -> Option<ask::Target> {
    let snapshot = node.snapshot.load();
    let listed = snapshot.as_ref()?.directory.iter().find(|listed| listed.service == *service)?;
    let port = listed.ports.iter().find(|port| ask::is_for(kind, port.app_protocol))?;
    ask::Target::new(service, port.port)
}
