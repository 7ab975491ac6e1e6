//! The pure machine of an upstream's endpoints: which there are, and which of them are left out, and why.
//!
//! Three kinds of evidence speak against an endpoint. That it *cannot be connected to* is certain: it is left out, for a time
//! that doubles, whatever the others do. Its *breaker* and its *health check* are evidence that may be about the network or
//! the callee as a whole: of these only so many count as policy lets be left out ([`super::breaker::ejection`]).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::traffic::{Breaker, BreakerScope};
use outrider_shared::{SidecarId, SpiffeId};

use super::breaker::ejection::{self, Decision, Mode, Reason};
use super::breaker::{self, Gate, Outcomes, Output as Broke, Outputs, Probe, Probed};
use super::digest::Scope;
use super::settings::Settings;
use super::{EndpointState, Health, Snapshot};

mod journal;

pub use self::journal::Event;

use self::journal::Journal;

/// First ejection. 1 s: a process that restarts is back by then.
const EJECTION_FIRST: Duration = Duration::from_secs(1);
/// Longest ejection. 30 s: what Envoy begins with; a registry that works has withdrawn the endpoint long before.
const EJECTION_MAX: Duration = Duration::from_secs(30);
/// An ejection is up to this share shorter, by chance: callers that lost an endpoint in one moment do not all come back in one.
const EJECTION_JITTER: f64 = 0.2;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The control plane's directory changed. From the supervisor. Lost: never, the supervisor sends it again.
    Directory { identity: Option<SpiffeId>, endpoints: Vec<(SidecarId, SocketAddr)> },
    /// A shard could not connect. Lost: the next attempt says so again.
    ConnectFailed { address: SocketAddr, cause: String },
    /// A shard connected to an endpoint that was ejected or had failed. Lost: its ejection ends by time.
    Connected { address: SocketAddr },
    /// How requests ended, of one shard. With its digest. Lost: never, a shard keeps what was not taken.
    Outcomes { scope: Scope, outcomes: Outcomes },
    /// From the shard that was given it. Lost: the breaker takes it for lost after a while.
    ProbeEnded { scope: Scope, probe: Probe, ended: Probed },
    /// A health check's word. From the checker. Lost: the next check says so again.
    Checked { address: SocketAddr, failed: Option<String> },
}

/// What the shell must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Something that shards read has changed.
    Publish,
    Nothing,
}

#[derive(Debug)]
struct Endpoint {
    sidecar: SidecarId,
    connect: Health,
    /// Ejections since the last success.
    ejections: u32,
    /// Where policy's scope is the endpoint.
    breaker: Option<breaker::Machine>,
    /// Its health check failed, since then.
    unwell: Option<(Instant, String)>,
}

#[derive(Debug)]
pub struct Machine {
    generation: u64,
    incarnation: u64,
    identity: Option<SpiffeId>,
    settings: Arc<Settings>,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
    /// Where policy's scope is the service.
    breaker: Option<breaker::Machine>,
    decision: Decision<SocketAddr, String>,
    journal: Journal,
}

impl Machine {
    /// Goes on from what was published last.
    pub fn resume(last: &Snapshot, now: Instant) -> Self {
        let settings = Arc::clone(&last.settings);
        let breaker = |state: &Option<breaker::Snapshot>| {
            let state = state.as_ref()?;
            Some(breaker::Machine::resume(policy(&settings), state, now))
        };
        let endpoints = last
            .endpoints
            .iter()
            .map(|e| {
                let endpoint = Endpoint {
                    sidecar: e.sidecar.clone(),
                    connect: e.health.clone(),
                    ejections: 0,
                    breaker: breaker(&e.breaker),
                    unwell: e.unwell.clone(),
                };
                (e.address, endpoint)
            })
            .collect();
        let mut machine = Self {
            generation: last.generation,
            incarnation: last.incarnation,
            identity: last.identity.clone(),
            breaker: breaker(&last.breaker),
            settings,
            endpoints,
            decision: Decision { mode: Mode::Ordinary, unfit: Vec::new() },
            journal: Journal::default(),
        };
        machine.rearm(now);
        machine.decide();
        machine
    }

    /// In place of one that is gone. What it is now is to be published before anybody hears of it: a half-open breaker
    /// begins a new epoch, and the one after this must not begin the same.
    pub fn restart(last: &Snapshot, now: Instant) -> Self {
        let (generation, incarnation) = (last.generation + 1, last.incarnation + 1);
        Self::resume(&Snapshot { generation, incarnation, ..last.clone() }, now)
    }

    /// `unit` is uniform in [0, 1), for the jitter of a breaker that opens, and of an ejection.
    pub fn handle(&mut self, input: Input, unit: f64, now: Instant) -> Output {
        let changed = match input {
            Input::Directory { identity, endpoints } => self.replace(identity, endpoints, now),
            Input::ConnectFailed { address, cause } => self.eject(address, cause, unit, now),
            Input::Connected { address } => self.restore(address, now),
            Input::Outcomes { scope, outcomes } => {
                let input = breaker::Input::Outcomes(outcomes);
                self.break_on(scope, now, |breaker| breaker.handle(input, unit, now))
            }
            Input::ProbeEnded { scope, probe, ended } => {
                let input = breaker::Input::ProbeEnded { probe, ended };
                self.break_on(scope, now, |breaker| breaker.handle(input, unit, now))
            }
            Input::Checked { address, failed } => self.checked(address, failed, now),
        };
        self.published_if(changed, now)
    }

    /// A shard has a request for a half-open breaker. Where there is none, it may go.
    pub fn ask_probe(&mut self, scope: Scope, now: Instant) -> (Gate, Output) {
        let mut gate = Gate::Admit { epoch: 0 };
        let changed = self.break_on(scope, now, |breaker| {
            let outputs = breaker.handle(breaker::Input::ProbeAsked, 0.0, now);
            if let Some(answer) = outputs.iter().find_map(|output| match output {
                Broke::Answer(answer) => Some(*answer),
                Broke::Publish => None,
            }) {
                gate = answer;
            }
            outputs
        });
        (gate, self.published_if(changed, now))
    }

    /// Other settings hold from now on; what they still mean stays.
    pub fn configure(&mut self, settings: Settings, now: Instant) -> Output {
        if *self.settings == settings {
            return Output::Nothing;
        }
        self.settings = Arc::new(settings);
        let policy = policy(&self.settings);
        for scope in self.scopes() {
            self.break_on(scope, now, |breaker| breaker.reconfigure(Arc::clone(&policy), now));
        }
        self.rearm(now);
        self.published_if(true, now)
    }

    /// When [`Machine::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ejections = self.endpoints.values().filter_map(|e| match e.connect {
            Health::Ejected { until, .. } => Some(until),
            Health::Healthy | Health::Trial { .. } => None,
        });
        let breakers = self.endpoints.values().filter_map(|endpoint| endpoint.breaker.as_ref());
        let breakers = breakers.chain(self.breaker.as_ref()).filter_map(breaker::Machine::poll_timeout);
        ejections.chain(breakers).min()
    }

    /// Ends ejections and waits of breakers whose time is over. Early and repeated calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) -> Output {
        let mut tried = Vec::new();
        for (&address, endpoint) in &mut self.endpoints {
            if let Health::Ejected { until, cause } = &endpoint.connect
                && *until <= now
            {
                endpoint.connect = Health::Trial { cause: cause.clone() };
                tried.push(address);
            }
        }
        let mut changed = !tried.is_empty();
        for address in tried {
            let what = "no longer left out: the next connection to it decides".to_owned();
            self.journal.add(Scope::Endpoint(address), what, now);
        }
        for scope in self.scopes() {
            changed |= self.break_on(scope, now, |breaker| breaker.handle_timeout(now));
        }
        self.published_if(changed, now)
    }

    /// What shards read.
    pub fn snapshot(&self) -> Snapshot {
        let is_total = self.settings.client.breaker.ejected_max >= 1.0;
        let endpoint = |(&address, e): (&SocketAddr, &Endpoint)| EndpointState {
            sidecar: e.sidecar.clone(),
            address,
            health: e.connect.clone(),
            breaker: e.breaker.as_ref().map(breaker::Machine::snapshot),
            unwell: e.unwell.clone(),
            left_out: matches!(e.connect, Health::Ejected { .. }) || self.decision.is_left_out(&address),
            barred: is_total && self.decision.is_left_out(&address),
        };
        Snapshot {
            generation: self.generation,
            incarnation: self.incarnation,
            identity: self.identity.clone(),
            settings: Arc::clone(&self.settings),
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            breaker: self.breaker.as_ref().map(breaker::Machine::snapshot),
            panic: (self.decision.mode != Mode::Ordinary).then(|| self.decision.mode.to_string()),
        }
    }

    /// What happened since this was asked last.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.journal.take()
    }

    /// How a breaker stands.
    pub fn breaker_view(&self, scope: Scope, now: Instant) -> Option<breaker::View> {
        let breaker = match scope {
            Scope::Service => self.breaker.as_ref(),
            Scope::Endpoint(address) => self.endpoints.get(&address)?.breaker.as_ref(),
        };
        breaker.map(|breaker| breaker.view(now))
    }

    fn replace(
        &mut self,
        identity: Option<SpiffeId>,
        listed: Vec<(SidecarId, SocketAddr)>,
        now: Instant,
    ) -> bool {
        let before = self.endpoints.len();
        let mut next = BTreeMap::new();
        let mut same = self.identity == identity;
        for (sidecar, address) in listed {
            // A new sidecar at a known address starts with a clean slate.
            let kept = self.endpoints.remove(&address).filter(|known| known.sidecar == sidecar);
            same &= kept.is_some();
            let endpoint = kept.unwrap_or(Endpoint {
                sidecar,
                connect: Health::Healthy,
                ejections: 0,
                breaker: None,
                unwell: None,
            });
            next.insert(address, endpoint);
        }
        same &= next.len() == before;
        self.endpoints = next;
        self.identity = identity;
        self.rearm(now);
        !same
    }

    /// Every endpoint, or the service, has the breaker that policy gives it.
    fn rearm(&mut self, now: Instant) {
        let policy = policy(&self.settings);
        let by_endpoint = policy.scope == BreakerScope::Endpoint;
        let mut arm = |scope, breaker: &mut Option<breaker::Machine>, wanted: bool| {
            if !wanted && breaker.take().is_some() {
                let what = "its breaker is gone: policy has it elsewhere now".to_owned();
                self.journal.add(scope, what, now);
            } else if wanted && breaker.is_none() {
                *breaker = Some(breaker::Machine::new(Arc::clone(&policy), now));
            }
        };
        for (&address, endpoint) in &mut self.endpoints {
            arm(Scope::Endpoint(address), &mut endpoint.breaker, by_endpoint);
        }
        arm(Scope::Service, &mut self.breaker, !by_endpoint);
    }

    fn eject(&mut self, address: SocketAddr, cause: String, unit: f64, now: Instant) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return false };
        if matches!(endpoint.connect, Health::Ejected { .. }) {
            return false;
        }
        let longest = EJECTION_FIRST.saturating_mul(1 << endpoint.ejections.min(5)).min(EJECTION_MAX);
        let time = longest.mul_f64(1.0 - EJECTION_JITTER * unit);
        endpoint.ejections = endpoint.ejections.saturating_add(1);
        let what = format!("left out for {time:?}: {cause}");
        endpoint.connect = Health::Ejected { until: now + time, cause };
        self.journal.add(Scope::Endpoint(address), what, now);
        true
    }

    fn restore(&mut self, address: SocketAddr, now: Instant) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return false };
        let was_healthy = endpoint.connect == Health::Healthy;
        endpoint.connect = Health::Healthy;
        endpoint.ejections = 0;
        if !was_healthy {
            self.journal.add(Scope::Endpoint(address), "can be connected to again".to_owned(), now);
        }
        !was_healthy
    }

    fn checked(&mut self, address: SocketAddr, failed: Option<String>, now: Instant) -> bool {
        let Some(endpoint) = self.endpoints.get_mut(&address) else { return false };
        let what = match (&endpoint.unwell, &failed) {
            (None, Some(why)) => format!("unwell: {why}"),
            (Some(_), None) => "well again".to_owned(),
            (None, None) | (Some(_), Some(_)) => return false,
        };
        endpoint.unwell = failed.map(|why| (now, why));
        self.journal.add(Scope::Endpoint(address), what, now);
        true
    }

    fn break_on(
        &mut self,
        scope: Scope,
        now: Instant,
        act: impl FnOnce(&mut breaker::Machine) -> Outputs,
    ) -> bool {
        let breaker = match scope {
            Scope::Service => self.breaker.as_mut(),
            Scope::Endpoint(address) => {
                self.endpoints.get_mut(&address).and_then(|endpoint| endpoint.breaker.as_mut())
            }
        };
        let Some(breaker) = breaker else { return false };
        let before = breaker.position();
        if !act(breaker).contains(&Broke::Publish) {
            return false;
        }
        let snapshot = breaker.snapshot();
        if snapshot.position != before {
            let what = format!("{}: {}", snapshot.position.word(), snapshot.cause());
            self.journal.add(scope, what, now);
        }
        true
    }

    /// Of all breakers that there may be.
    fn scopes(&self) -> Vec<Scope> {
        self.endpoints.keys().map(|address| Scope::Endpoint(*address)).chain([Scope::Service]).collect()
    }

    fn decide(&mut self) {
        let endpoints: Vec<SocketAddr> = self.endpoints.keys().copied().collect();
        let broken = self.endpoints.iter().filter_map(|(&address, endpoint)| {
            let snapshot = endpoint.breaker.as_ref()?.snapshot();
            let since = snapshot.unfit_since?;
            Some((address, Reason { since, why: snapshot.cause().to_string() }))
        });
        let unwell = self.endpoints.iter().filter_map(|(&address, endpoint)| {
            let (since, why) = endpoint.unwell.clone()?;
            Some((address, Reason { since, why }))
        });
        let reasons: Vec<_> = broken.chain(unwell).collect();
        self.decision = ejection::decide(&endpoints, reasons, self.settings.client.breaker.ejected_max);
    }

    fn published_if(&mut self, changed: bool, now: Instant) -> Output {
        if changed {
            let before = self.decision.mode;
            self.decide();
            match (before, self.decision.mode) {
                (Mode::Ordinary, panic @ Mode::Panic { .. }) => {
                    self.journal.add(Scope::Service, panic.to_string(), now);
                }
                (Mode::Panic { .. }, Mode::Ordinary) => {
                    let what = "few enough endpoints have a reason to be left out: they are again".to_owned();
                    self.journal.add(Scope::Service, what, now);
                }
                (Mode::Ordinary, Mode::Ordinary) | (Mode::Panic { .. }, Mode::Panic { .. }) => {}
            }
            self.generation += 1;
            return Output::Publish;
        }
        Output::Nothing
    }
}

fn policy(settings: &Settings) -> Arc<Breaker> {
    Arc::new(settings.client.breaker.clone())
}
