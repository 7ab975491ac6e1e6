//! Starts the control plane's actors, and starts anew what fails.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use crate::authority::actor::AuthorityActor;
use crate::authority::records::Seal;
use crate::metrics;
use crate::parts::Parts;
use crate::policy_store::PolicyStore;
use crate::registry::{Message as RegistryMessage, Registry};

/// So many failures of one actor within [`STORM_WINDOW`], and the control plane ends: whoever runs it sees that, and
/// sidecars serve on meanwhile.
const STORM_RESTARTS: usize = 5;
const STORM_WINDOW: Duration = Duration::from_secs(10);

/// Owns: the actors that are there once. Receives: their ends. Publishes: their addresses, in [`Parts`]. Capacity: none is
/// sent to it but [`Start`]. On restart: never; it has no state that could spoil.
pub struct Supervisor;

/// The parts that are there once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Authority,
    PolicyStore,
    Registry,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::PolicyStore => "policy-store",
            Self::Registry => "registry",
        }
    }
}

pub struct State {
    parts: Arc<Parts>,
    seal: Arc<Seal>,
    dir: PathBuf,
    running: Vec<(ActorId, Part)>,
    failures: VecDeque<(Instant, Part)>,
}

/// How an actor came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// By itself, or because it was told to.
    Stopped,
    /// By an error or a panic.
    Failed,
}

/// Nothing is sent to the supervisor by hand.
pub enum Start {}

impl Actor for Supervisor {
    type Msg = Start;
    type State = State;
    type Arguments = (Arc<Parts>, Arc<Seal>, PathBuf);

    async fn pre_start(
        &self,
        myself: ActorRef<Start>,
        (parts, seal, dir): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        parts.supervisor.store(Some(Arc::new(myself.get_cell())));
        let mut state = State { parts, seal, dir, running: Vec::new(), failures: VecDeque::new() };
        for part in [Part::Authority, Part::Registry, Part::PolicyStore] {
            state.start(part, myself.get_cell()).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Start>,
        message: Start,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {}
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Start>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                let reason = reason.as_deref().unwrap_or("it stopped");
                state.ended(&actor, How::Stopped, reason, myself.get_cell()).await
            }
            SupervisionEvent::ActorFailed(actor, error) => {
                state.ended(&actor, How::Failed, &error.to_string(), myself.get_cell()).await
            }
        }
    }
}

impl State {
    async fn start(&mut self, part: Part, supervisor: ActorCell) -> Result<(), ActorProcessingErr> {
        let parts = Arc::clone(&self.parts);
        let id = match part {
            Part::Authority => {
                let arguments = (Arc::clone(&parts), Arc::clone(&self.seal));
                let (actor, _) = Actor::spawn_linked(None, AuthorityActor, arguments, supervisor).await?;
                parts.authority.store(Some(Arc::new(actor.clone())));
                actor.get_id()
            }
            Part::Registry => {
                let (actor, _) = Actor::spawn_linked(None, Registry, Arc::clone(&parts), supervisor).await?;
                parts.registry.store(Some(Arc::new(actor.clone())));
                actor.get_id()
            }
            Part::PolicyStore => {
                let (actor, _) =
                    Actor::spawn_linked(None, PolicyStore, (parts, self.dir.clone()), supervisor).await?;
                actor.get_id()
            }
        };
        self.running.push((id, part));
        Ok(())
    }

    async fn ended(
        &mut self,
        actor: &ActorCell,
        how: How,
        reason: &str,
        supervisor: ActorCell,
    ) -> Result<(), ActorProcessingErr> {
        let Some(at) = self.running.iter().position(|(id, _)| *id == actor.get_id()) else {
            // A session or a ledger: the sidecar reconnects, the next report starts the ledger.
            match how {
                How::Failed => tracing::error!(actor = ?actor.get_id(), reason, "an actor failed"),
                How::Stopped => {}
            }
            let ended = RegistryMessage::Disconnected { session: actor.get_id() };
            // A registry that is being started anew knows of no session.
            let _ = self.parts.registry().map(|registry| registry.send_message(ended));
            return Ok(());
        };
        // Whoever stops all of it takes our address away first.
        if self.parts.supervisor.load().is_none() {
            return Ok(());
        }
        let (_, part) = self.running.swap_remove(at);
        tracing::error!(part = part.name(), reason, "a part of the control plane failed and is started anew");
        self.parts.metrics.restarts.get_or_create(&metrics::Actor { actor: part.name() }).inc();
        let now = Instant::now();
        self.failures.retain(|(at, _)| now.saturating_duration_since(*at) < STORM_WINDOW);
        self.failures.push_back((now, part));
        if self.failures.iter().filter(|(_, failed)| *failed == part).count() > STORM_RESTARTS {
            return Err(format!("{} fails again and again", part.name()).into());
        }
        self.start(part, supervisor).await
    }
}
