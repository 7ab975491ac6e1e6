//! The shell: holds the sessions, plans, and hands reports on.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::api::{QuotaRow, SidecarUpstreams, SidecarView, StatAnswer};
use outrider_shared::session::{Hello, Report};
use outrider_shared::snapshot::{Endpoint, Version};
use outrider_shared::{ServiceId, SidecarId, SpiffeId};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::task::AbortHandle;

use super::machine::{Input, Machine, Output};
use super::{dial, push};
use crate::parts::Parts;
use crate::session;
use crate::stats::Windows;
use crate::store::Kind;
use crate::{authority, quota};

/// Changes within this time are planned together.
const PLAN_PAUSE: Duration = Duration::from_millis(20);

/// Owns: members, sessions, versions. Receives: [`Message`]. Publishes: snapshots, to sessions. Capacity: each session
/// has at most one message under way, since it reads the next one when this has been taken. On restart: sessions that
/// belong to the old one end, and their sidecars reconnect; published endpoints come from the store.
pub struct Registry;

/// Which session says something: one of the same sidecar may have taken its place meanwhile, and then it counts no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub sidecar: SidecarId,
    /// No two sessions of a process have the same.
    pub session: ActorId,
}

pub enum Message {
    /// From a session. Answered with whether it may go on.
    Hello {
        hello: Box<Hello>,
        source: SocketAddr,
        session: ActorRef<session::Message>,
        reply: RpcReplyPort<Result<(), String>>,
    },
    Announce {
        from: Origin,
        serving: bool,
        reply: RpcReplyPort<()>,
    },
    Withdraw {
        from: Origin,
        reply: RpcReplyPort<()>,
    },
    /// A session has taken a version, or refused it (with reasons).
    Settled {
        from: Origin,
        version: Version,
        nack: Option<Vec<String>>,
        reply: RpcReplyPort<()>,
    },
    Report {
        from: Origin,
        report: Box<Report>,
        reply: RpcReplyPort<()>,
    },
    /// A session ended, by a panic too. From the supervisor; lost: never, it lives as long as all of this.
    Disconnected {
        session: ActorId,
    },
    /// From a dial of ours.
    Dialled {
        sidecar: SidecarId,
        address: SocketAddr,
        /// Whom the handshake was to show.
        expected: SpiffeId,
        outcome: Result<(), String>,
    },
    /// From the policy store.
    PolicyChanged,
    /// Our own timers.
    Tick,
    Plan,
    Stat(RpcReplyPort<StatAnswer>),
    Sidecars(RpcReplyPort<Vec<SidecarView>>),
    Upstreams(RpcReplyPort<Vec<SidecarUpstreams>>),
    /// The rows of every ledger that runs.
    Quota(RpcReplyPort<Vec<(ServiceId, Vec<QuotaRow>)>>),
}

/// What is known of a sidecar beside the machine's.
pub(super) struct Known {
    pub(super) session: Option<ActorRef<session::Message>>,
    pub(super) service: ServiceId,
    pub(super) build: String,
    /// What it can enforce.
    pub(super) features: Vec<&'static str>,
    /// Hash of the last content pushed, without its version, and its sequence.
    pub(super) pushed: Option<(u64, u64)>,
    pub(super) nack: Option<Vec<String>>,
    pub(super) report: Option<(Instant, Report)>,
}

pub struct State {
    pub(super) parts: Arc<Parts>,
    pub(super) machine: Machine,
    pub(super) known: HashMap<SidecarId, Known>,
    pub(super) windows: Windows,
    pub(super) ledgers: HashMap<ServiceId, ActorRef<quota::Message>>,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) reserved: u64,
    planning: bool,
    /// What is on disk of published endpoints, by sidecar.
    pub(super) persisted: BTreeMap<String, (ServiceId, Endpoint)>,
    /// The identity of each service, by which its members were dialled.
    pub(super) identities: BTreeMap<ServiceId, SpiffeId>,
    /// The one timer that runs, and for when.
    timer: Option<(Instant, AbortHandle)>,
}

impl Actor for Registry {
    type Msg = Message;
    type State = State;
    type Arguments = Arc<Parts>;

    async fn pre_start(&self, _: ActorRef<Message>, parts: Arc<Parts>) -> Result<State, ActorProcessingErr> {
        let mut machine = Machine::default();
        let endpoints: Vec<(String, (ServiceId, Endpoint))> = parts.store.all(Kind::Endpoint)?;
        let persisted: BTreeMap<String, (ServiceId, Endpoint)> = endpoints.into_iter().collect();
        machine.restore(persisted.values().cloned().collect(), Instant::now());
        let epoch = if let Some(epoch) = parts.store.get(Kind::Meta, "epoch")? {
            epoch
        } else {
            let epoch = u64::try_from(authority::now_unix_s()).unwrap_or(1);
            parts.store.put(Kind::Meta, "epoch", &epoch)?;
            epoch
        };
        let reserved = parts.store.get(Kind::Meta, "sequence")?.unwrap_or(0);
        let identities = if let Some(identities) = parts.store.get(Kind::Meta, "identities")? {
            identities
        } else {
            // Before the first dial: it is judged by them.
            let identities = push::identities(&parts.policy.load().policy);
            parts.store.put(Kind::Meta, "identities", &identities)?;
            identities
        };
        Ok(State {
            parts,
            machine,
            known: HashMap::new(),
            windows: Windows::default(),
            ledgers: HashMap::new(),
            epoch,
            sequence: reserved,
            reserved,
            planning: false,
            persisted,
            identities,
            timer: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = Instant::now();
        match message {
            Message::Hello { hello, source, session, reply } => {
                let answer = state.hello(*hello, source, session);
                let accepted = answer.as_ref().ok().cloned();
                // Whoever no longer waits for a reply, here and below, ends by itself.
                let _ = reply.send(answer.map(drop));
                if let Some(input) = accepted {
                    state.feed(&myself, input, now);
                    state.plan_soon(&myself);
                }
            }
            Message::Announce { from, serving, reply } => {
                if state.is_current(&from) {
                    state.feed(&myself, Input::Announce { sidecar: from.sidecar, serving }, now);
                }
                let _ = reply.send(());
            }
            Message::Withdraw { from, reply } => {
                if state.is_current(&from) {
                    state.feed(&myself, Input::Withdraw { sidecar: from.sidecar }, now);
                }
                let _ = reply.send(());
            }
            Message::Settled { from, version, nack, reply } => {
                if state.is_current(&from) {
                    state.settled(&myself, &from.sidecar, version, nack, now);
                }
                let _ = reply.send(());
            }
            Message::Report { from, report, reply } => {
                if state.is_current(&from) {
                    state.report(from.sidecar, *report, now).await;
                }
                let _ = reply.send(());
            }
            Message::Disconnected { session } => state.disconnected(&myself, session, now),
            Message::Dialled { sidecar, address, expected, outcome } => {
                state.dialled(&myself, sidecar, address, &expected, outcome, now);
            }
            Message::PolicyChanged => state.plan_soon(&myself),
            Message::Tick => {
                let outputs = state.machine.handle_timeout(now);
                state.carry_out(&myself, outputs);
                state.forget_gone();
            }
            Message::Plan => {
                state.planning = false;
                state.plan(&myself)?;
            }
            Message::Stat(reply) => drop(reply.send(state.stat(now))),
            Message::Sidecars(reply) => drop(reply.send(state.views())),
            Message::Upstreams(reply) => drop(reply.send(state.upstreams(now))),
            Message::Quota(reply) => drop(reply.send(state.quota().await)),
        }
        Ok(())
    }
}

impl State {
    pub(super) fn feed(&mut self, myself: &ActorRef<Message>, input: Input, now: Instant) {
        let outputs = self.machine.handle(input, now);
        self.carry_out(myself, outputs);
    }

    fn carry_out(&mut self, myself: &ActorRef<Message>, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Plan => self.plan_soon(myself),
                Output::Dial { sidecar, service, address } => self.dial(myself, sidecar, &service, address),
                Output::Withdrawn { sidecar } => {
                    let session = self.known.get(&sidecar).and_then(|known| known.session.as_ref());
                    // Gone already: it does not wait any more.
                    let _ = session.map(|session| session.send_message(session::Message::Withdrawn));
                }
            }
        }
        self.arm(myself);
    }

    /// One timer at a time, for the earliest: those that are no longer right are stopped, or they would add up.
    fn arm(&mut self, myself: &ActorRef<Message>) {
        let due = self.machine.poll_timeout();
        let armed = self.timer.as_ref().filter(|(_, timer)| !timer.is_finished()).map(|(at, _)| *at);
        if armed == due {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
        self.timer = due.map(|at| {
            let pause = at.saturating_duration_since(Instant::now());
            (at, myself.send_after(pause, || Message::Tick).abort_handle())
        });
    }

    fn dial(&self, myself: &ActorRef<Message>, sidecar: SidecarId, service: &ServiceId, address: SocketAddr) {
        let policy = self.parts.policy.load();
        let Some(declared) = policy.policy.service(service) else { return };
        let (own, expected) = (self.parts.own.load_full(), declared.identity().clone());
        let myself = myself.clone();
        tokio::spawn(async move {
            let outcome = dial::dial(own, address, expected.clone()).await;
            // The registry has ended: a new one dials anew.
            let _ = myself.send_message(Message::Dialled { sidecar, address, expected, outcome });
        });
    }

    fn plan_soon(&mut self, myself: &ActorRef<Message>) {
        if !std::mem::replace(&mut self.planning, true) {
            myself.send_after(PLAN_PAUSE, || Message::Plan);
        }
    }

    async fn report(&mut self, sidecar: SidecarId, report: Report, now: Instant) {
        let Some(known) = self.known.get_mut(&sidecar) else { return };
        let service = known.service.clone();
        self.windows.add(&sidecar, &service, &report, now);
        let ledger =
            self.ledgers.get(&service).filter(|ledger| ledger.get_status() == ractor::ActorStatus::Running);
        let ledger = match ledger {
            Some(ledger) => Some(ledger.clone()),
            None => quota::start(&self.parts, &service).await,
        };
        if let Some(ledger) = ledger {
            let add = quota::Message::Add {
                boot: report.boot.clone(),
                uptime: Duration::from_millis(report.uptime_ms),
                rows: report.inbound.clone(),
            };
            // A ledger that has just ended is started anew by the next report, which says all of this again.
            let _ = ledger.send_message(add);
            self.ledgers.insert(service, ledger);
        }
        known.report = Some((now, report));
    }

    /// Sidecars that the machine has dropped.
    pub(super) fn forget_gone(&mut self) {
        let members = self.machine.members();
        self.known.retain(|sidecar, known| known.session.is_some() || members.contains_key(sidecar));
        let known = &self.known;
        self.windows.retain(|sidecar| known.contains_key(sidecar));
    }
}
