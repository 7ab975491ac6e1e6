//! What each peer has used of a service, added up exactly once.
//!
//! A sidecar reports what it has counted since its start, so a report that comes twice, late or never changes nothing: for
//! each boot, port and peer the largest count is kept, and the sum over boots is the total. Boots that have been silent for
//! long are folded into one row for each peer, under a name that no boot has.

pub mod machine;

use std::sync::Arc;
use std::time::Duration;

use outrider_shared::ServiceId;
use outrider_shared::api::QuotaRow;
use outrider_shared::session::InboundTotals;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::parts::Parts;
use crate::store::Kind;
use machine::Ledger;

/// Changes are on disk within this time. What is lost with a crash is reported again by every boot that lives.
const PERSIST: Duration = Duration::from_secs(5);

/// Owns: one service's ledger. Receives: [`Message`]. Publishes: rows, to whoever asks. Capacity: a report a second from
/// each sidecar of the service. On restart: from the store, and from the next reports.
pub struct QuotaLedger;

pub enum Message {
    /// From the registry, for each report. Lost: the next one says the same and more.
    Add {
        boot: String,
        rows: Vec<InboundTotals>,
    },
    /// Our own timer.
    Persist,
    Rows(RpcReplyPort<Vec<QuotaRow>>),
}

pub struct State {
    parts: Arc<Parts>,
    service: ServiceId,
    ledger: Ledger,
    dirty: bool,
}

/// Starts the ledger of a service; `None`: the control plane is stopping.
pub async fn start(parts: &Arc<Parts>, service: &ServiceId) -> Option<ActorRef<Message>> {
    let supervisor = parts.supervisor.load_full()?;
    let arguments = (Arc::clone(parts), service.clone());
    match Actor::spawn_linked(None, QuotaLedger, arguments, ractor::ActorCell::clone(&supervisor)).await {
        Ok((ledger, _)) => Some(ledger),
        Err(error) => {
            tracing::error!(%service, %error, "the quota ledger does not start");
            None
        }
    }
}

/// All services' rows as they lie on disk, and what is newer in memory is at most [`PERSIST`] away.
pub fn stored(parts: &Parts) -> Result<Vec<QuotaRow>, crate::store::StoreError> {
    let ledgers: Vec<(String, Ledger)> = parts.store.all(Kind::Quota)?;
    let of = |(service, ledger): &(String, Ledger)| service.parse().ok().map(|service| ledger.rows(&service));
    Ok(ledgers.iter().filter_map(of).flatten().collect())
}

impl Actor for QuotaLedger {
    type Msg = Message;
    type State = State;
    type Arguments = (Arc<Parts>, ServiceId);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (parts, service): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let ledger = parts.store.get(Kind::Quota, &service.to_string())?.unwrap_or_default();
        myself.send_interval(PERSIST, || Message::Persist);
        Ok(State { parts, service, ledger, dirty: false })
    }

    async fn post_stop(&self, _: ActorRef<Message>, state: &mut State) -> Result<(), ActorProcessingErr> {
        state.persist()
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Add { boot, rows } => state.dirty |= state.ledger.add(&boot, &rows),
            Message::Persist => {
                state.dirty |= state.ledger.pass(PERSIST);
                state.persist()?;
            }
            Message::Rows(reply) => drop(reply.send(state.ledger.rows(&state.service))),
        }
        Ok(())
    }
}

impl State {
    fn persist(&mut self) -> Result<(), ActorProcessingErr> {
        if std::mem::take(&mut self.dirty) {
            self.parts.store.put(Kind::Quota, &self.service.to_string(), &self.ledger)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
