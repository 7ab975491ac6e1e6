//! The pure machine of an upstream: which endpoints there are, and which of them are left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::{SidecarId, SpiffeId};

use super::settings::Settings;
use super::{EndpointState, Health, Snapshot};

/// First ejection. 1 s: a process that restarts is back by then.
const EJECTION_FIRST: Duration = Duration::from_secs(1);
/// Longest ejection. 30 s: what Envoy begins with; a registry that works has withdrawn the endpoint long before.
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The control plane's directory changed. From the supervisor. Lost: never, the supervisor sends it again.
    Directory { identity: Option<SpiffeId>, endpoints: Vec<(SidecarId, SocketAddr)> },
    /// A shard could not connect. Lost: the next attempt says so again.
    ConnectFailed { address: SocketAddr, cause: String },
    /// A shard connected to an endpoint that was ejected or had failed. Lost: its ejection ends by time.
    Connected { address: SocketAddr },
}

/// What the shell must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Something that shards read has changed.
    Publish,
    Nothing,
}

#[derive(Debug, Clone)]
struct Endpoint {
    sidecar: SidecarId,
    health: Health,
    /// Ejections since the last success.
    ejections: u32,
}

#[derive(Debug)]
pub struct Machine {
    generation: u64,
    incarnation: u64,
    identity: Option<SpiffeId>,
    settings: Arc<Settings>,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
}

impl Machine {
    /// Goes on from what was published last.
    pub fn resume(last: &Snapshot) -> Self {
        let endpoints = last
            .endpoints
            .iter()
            .map(|e| {
                let endpoint =
                    Endpoint { sidecar: e.sidecar.clone(), health: e.health.clone(), ejections: 0 };
                (e.address, endpoint)
            })
            .collect();
        Self {
            generation: last.generation,
            incarnation: last.incarnation,
            identity: last.identity.clone(),
            settings: Arc::clone(&last.settings),
            endpoints,
        }
    }

    pub fn handle(&mut self, input: Input, now: Instant) -> Output {
        match input {
            Input::Directory { identity, endpoints } => self.replace(identity, endpoints),
            Input::ConnectFailed { address, cause } => self.eject(address, cause, now),
            Input::Connected { address } => self.restore(address),
        }
    }

    /// Other settings hold from now on.
    pub fn configure(&mut self, settings: Settings) -> Output {
        let changed = *self.settings != settings;
        if changed {
            self.settings = Arc::new(settings);
        }
        self.published_if(changed)
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.endpoints
            .values()
            .filter_map(|e| match e.health {
                Health::Ejected { until, .. } => Some(until),
                Health::Healthy | Health::Trial { .. } => None,
            })
            .min()
    }

    /// Ends ejections whose time is over. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Output {
        let mut ended = false;
        for endpoint in self.endpoints.values_mut() {
            if let Health::Ejected { until, cause } = &endpoint.health
                && *until <= now
            {
                endpoint.health = Health::Trial { cause: cause.clone() };
                ended = true;
            }
        }
        self.published_if(ended)
    }

    /// What shards read.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            generation: self.generation,
            incarnation: self.incarnation,
            identity: self.identity.clone(),
            settings: Arc::clone(&self.settings),
            endpoints: self
                .endpoints
                .iter()
                .map(|(&address, e)| EndpointState {
                    sidecar: e.sidecar.clone(),
                    address,
                    health: e.health.clone(),
                })
                .collect(),
        }
    }

    fn replace(&mut self, identity: Option<SpiffeId>, listed: Vec<(SidecarId, SocketAddr)>) -> Output {
        let mut next = BTreeMap::new();
        for (sidecar, address) in listed {
            // A new sidecar at a known address starts with a clean slate.
            let kept = self.endpoints.get(&address).filter(|known| known.sidecar == sidecar).cloned();
            let endpoint = kept.unwrap_or(Endpoint { sidecar, health: Health::Healthy, ejections: 0 });
            next.insert(address, endpoint);
        }
        let same = self.identity == identity
            && next.len() == self.endpoints.len()
            && next.iter().all(|(address, e)| {
                self.endpoints.get(address).is_some_and(|known| known.sidecar == e.sidecar)
            });
        self.endpoints = next;
        self.identity = identity;
        self.published_if(!same)
    }

    fn eject(&mut self, address: SocketAddr, cause: String, now: Instant) -> Output {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return Output::Nothing };
        if matches!(endpoint.health, Health::Ejected { .. }) {
            return Output::Nothing;
        }
        let time = EJECTION_FIRST.saturating_mul(1 << endpoint.ejections.min(5)).min(EJECTION_MAX);
        endpoint.ejections = endpoint.ejections.saturating_add(1);
        endpoint.health = Health::Ejected { until: now + time, cause };
        self.published_if(true)
    }

    fn restore(&mut self, address: SocketAddr) -> Output {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return Output::Nothing };
        let was_healthy = endpoint.health == Health::Healthy;
        endpoint.health = Health::Healthy;
        endpoint.ejections = 0;
        self.published_if(!was_healthy)
    }

    fn published_if(&mut self, changed: bool) -> Output {
        if changed {
            self.generation += 1;
            return Output::Publish;
        }
        Output::Nothing
    }
}
