//! One attempt at an endpoint, and what it says to the breakers when it has ended; and the right to be a probe.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Message;
use outrider_shared::traffic;

use super::Upstream;
use super::breaker::{Gate, Outcome, Pace, Position, Probe, Probed, Urgency};
use super::digest::{Load, Scope};
use super::endpoint::{Endpoint, InFlight};
use super::machine::Input;
use super::share::Share;
use crate::pipeline::judge::{self, Ended};

/// Between two questions of one shard for a probe. 5 ms: a breaker closes within a few round trips, and one that stays half
/// open costs 200 messages a second.
const PROBE_PAUSE: Duration = Duration::from_millis(5);
/// An actor answers in microseconds.
const PROBE_ASK_MAX: Duration = Duration::from_millis(20);

/// A shard has a request for a half-open breaker. From a shard; the answer is the right to send it. Lost: it is refused, or
/// goes elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct AskProbe(pub Scope);

impl Message for AskProbe {
    type Result = Option<ProbeGrant>;
}

/// The right to be a probe. Its drop says that it was not used.
#[derive(Debug)]
pub struct ProbeGrant {
    upstream: Arc<Upstream>,
    scope: Scope,
    probe: Probe,
}

impl ProbeGrant {
    pub fn new(upstream: &Arc<Upstream>, scope: Scope, gate: Gate) -> Option<Self> {
        match gate {
            Gate::Probe(probe) => Some(Self { upstream: Arc::clone(upstream), scope, probe }),
            Gate::Admit { .. } | Gate::Refuse => None,
        }
    }

    fn tell(&self, ended: Probed) {
        self.upstream.tell(Input::ProbeEnded { scope: self.scope, probe: self.probe, ended });
    }
}

impl Drop for ProbeGrant {
    fn drop(&mut self) {
        // Of one that has ended the breaker knows nothing any more.
        self.tell(Probed::Ignored);
    }
}

/// What an attempt is beside an ordinary request: nearly always nothing, so there is no room for it in line.
pub type Probes = Vec<ProbeGrant>;

/// Whose time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// What policy gives.
    Routes,
    /// A deadline that came with the request.
    Callers,
}

/// An attempt under way. Its drop means that the client went away.
pub struct Attempt {
    share: Rc<Share>,
    endpoint: Rc<Endpoint>,
    /// Epochs of the endpoint's breaker and of the service's in which it was sent.
    epoch: u64,
    service_epoch: u64,
    probes: Probes,
    /// How long the head of the answer took.
    took: Option<Duration>,
    /// Its client had less time than the endpoint needs.
    is_cut_short: bool,
    has_ended: bool,
    _in_flight: InFlight,
}

impl Attempt {
    pub fn begin(share: &Rc<Share>, endpoint: &Rc<Endpoint>, probes: Probes) -> Self {
        Self {
            share: Rc::clone(share),
            endpoint: Rc::clone(endpoint),
            epoch: endpoint.epoch(),
            service_epoch: share.breaker().map_or(0, |(epoch, _)| epoch),
            probes,
            took: None,
            is_cut_short: false,
            has_ended: false,
            _in_flight: endpoint.begin(),
        }
    }

    pub fn endpoint(&self) -> &Rc<Endpoint> {
        &self.endpoint
    }

    /// The head of its answer came after `took`.
    pub fn answered(&mut self, took: Duration, now: Instant) {
        self.endpoint.observe(took, now);
        self.share.heard();
        self.took = Some(took);
    }

    /// The far side refused it for its own sake: it is not the faster for that, or it would get all that it cannot take.
    pub fn was_refused(&mut self, now: Instant) {
        self.endpoint.observe(self.endpoint.usual(now), now);
        self.share.heard();
    }

    /// The head of its answer is there, and the rest takes as long as it takes: that says enough of a probe.
    pub fn goes_on(&mut self, head: &Ended) {
        if self.probes.is_empty() {
            return;
        }
        let (outcome, is_slow) = self.share.with_settings(|settings| {
            let breaker = &settings.client.breaker;
            (judge::outcome(&breaker.failure_when, head), self.is_slow(breaker))
        });
        if outcome == Outcome::Success {
            let ended = if is_slow { Probed::Slow } else { Probed::Succeeded };
            self.probes.drain(..).for_each(|probe| probe.tell(ended));
        }
    }

    fn is_slow(&self, breaker: &traffic::Breaker) -> bool {
        breaker.slow_call.zip(self.took).is_some_and(|(slow, took)| took > slow.threshold.get())
    }

    /// It was given up after `took`: an answer would have taken longer, and nobody knows how much. Where that was the time of
    /// the client's own, and less than half of what the endpoint usually takes, it is no failure of the endpoint.
    pub fn gave_up(&mut self, took: Duration, whose: Whose, now: Instant) {
        self.is_cut_short = whose == Whose::Callers && took.saturating_mul(2) < self.endpoint.usual(now);
        if took > self.endpoint.usual(now) {
            self.endpoint.observe(took, now);
        }
        self.took = Some(took);
    }

    pub fn end(mut self, ended: Ended, now: Instant) {
        self.close(ended, now);
    }

    fn close(&mut self, ended: Ended, now: Instant) {
        self.has_ended = true;
        let (outcome, pace, has_limit) = self.share.with_settings(|settings| {
            let breaker = &settings.client.breaker;
            let slow = self.is_slow(breaker);
            let outcome = match ended {
                Ended::RequestTimedOut if self.is_cut_short => Outcome::Ignored,
                _ => judge::outcome(&breaker.failure_when, &ended),
            };
            // Of what ended for another reason nobody knows how long it would have taken.
            let timed_out = matches!(ended, Ended::AttemptTimedOut | Ended::RequestTimedOut);
            let slow = slow && (outcome != Outcome::Ignored || timed_out);
            let pace = if slow { Pace::Slow } else { Pace::Prompt };
            (outcome, pace, settings.client.concurrency.is_some())
        });
        if outcome == Outcome::Failure {
            self.endpoint.failed();
        }
        match (outcome, self.took) {
            (Outcome::Success, Some(took)) if has_limit => self.share.seen(Load::Answered(took)),
            (Outcome::Failure, _) if has_limit => self.share.seen(Load::Overloaded),
            (Outcome::Success | Outcome::Failure | Outcome::Ignored, _) => {}
        }
        let of_endpoint = self.endpoint.tally.borrow_mut().record(outcome, pace, self.epoch, now);
        let of_service = self.share.tally.borrow_mut().record(outcome, pace, self.service_epoch, now);
        for probe in std::mem::take(&mut self.probes) {
            probe.tell(match (outcome, pace) {
                (Outcome::Success, Pace::Prompt) => Probed::Succeeded,
                (Outcome::Success | Outcome::Ignored, Pace::Slow) => Probed::Slow,
                (Outcome::Failure, _) => Probed::Failed,
                (Outcome::Ignored, Pace::Prompt) => Probed::Ignored,
            });
        }
        let urgent = of_endpoint == Urgency::Now || of_service == Urgency::Now;
        self.share.note(if urgent { Urgency::Now } else { Urgency::Later });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_ended {
            self.close(Ended::ClientLeft, Instant::now());
        }
    }
}

/// What the service's breaker says of a request.
#[derive(Debug)]
pub enum Passed {
    Freely,
    As(ProbeGrant),
    /// It is open, or half open and has enough probes.
    Refused,
}

impl Share {
    /// Asks the service's breaker, where policy's scope is that.
    pub async fn pass_breaker(self: &Rc<Self>) -> Passed {
        match self.breaker() {
            None | Some((_, Position::Closed)) => Passed::Freely,
            Some((_, Position::Open { .. })) => Passed::Refused,
            // Boxed: rare, and large.
            Some((_, Position::HalfOpen)) => match Box::pin(self.ask_probe(Scope::Service)).await {
                Some(probe) => Passed::As(probe),
                // It may have closed meanwhile.
                None if self.breaker().is_none_or(|(_, position)| position == Position::Closed) => {
                    Passed::Freely
                }
                None => Passed::Refused,
            },
        }
    }

    /// A half-open endpoint for which this request is a probe, if one takes it.
    pub async fn probe(
        self: &Rc<Self>,
        tried: &[std::net::SocketAddr],
    ) -> Option<(Rc<Endpoint>, ProbeGrant)> {
        let endpoints = self.endpoints();
        if self.asked_for_a_probe(Instant::now()) {
            return None;
        }
        // Each in its turn: one whose probes hang must not keep those of the others from being sent.
        let turn = self.probe_turn.get();
        self.probe_turn.set(turn.wrapping_add(1));
        let may = |e: &&Rc<Endpoint>| e.is_probing() && !tried.contains(&e.address);
        let waiting = endpoints.iter().filter(may).count();
        let endpoint = endpoints.iter().filter(may).nth(turn.checked_rem(waiting)?)?;
        let grant = self.ask_probe(Scope::Endpoint(endpoint.address)).await?;
        Some((Rc::clone(endpoint), grant))
    }

    /// A moment ago.
    fn asked_for_a_probe(&self, now: Instant) -> bool {
        self.probe_asked.get().is_some_and(|asked| now.saturating_duration_since(asked) < PROBE_PAUSE)
    }

    async fn ask_probe(&self, scope: Scope) -> Option<ProbeGrant> {
        let now = Instant::now();
        if self.asked_for_a_probe(now) {
            return None;
        }
        self.probe_asked.set(Some(now));
        self.upstream.question(AskProbe(scope), PROBE_ASK_MAX).await?
    }
}
