//! What each peer has used of a service, added up exactly once.
//!
//! A sidecar reports what it has counted since its start, so a report that comes twice, late or never changes nothing: for
//! each boot, port and peer the largest count is kept, and the sum over boots is the total. Where there is no more room,
//! the boot that was silent for longest is folded into one row for each peer. Should it come back all the same, it is known
//! by having begun before the last that was folded was heard of: then only what it counts from now on is added, so what it
//! used while it was away is missed, and nothing is counted twice.

pub mod machine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use outrider_shared::ServiceId;
use outrider_shared::api::QuotaRow;
use outrider_shared::session::InboundTotals;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::parts::Parts;
use crate::store::Kind;
use machine::{Ledger, Said};

/// Changes are on disk within this time. What is lost with a crash is reported again by every boot that lives.
const PERSIST: Duration = Duration::from_secs(5);

/// Owns: one service's ledger. Receives: [`Message`]. Publishes: rows, to whoever asks. Capacity: a report a second from
/// each sidecar of the service. On restart: from the store, and from the next reports.
pub struct QuotaLedger;

pub enum Message {
    /// From the registry, for each report. Lost: the next one says the same and more.
    Add {
        boot: String,
        uptime: Duration,
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
    /// Up to when the ledger's clock was told.
    told: Instant,
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
        Ok(State { parts, service, ledger, dirty: false, told: Instant::now() })
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
            Message::Add { boot, uptime, rows } => {
                let now = Instant::now();
                state.ledger.pass(now.saturating_duration_since(state.told));
                state.told = now;
                state.dirty |= state.ledger.add(&Said { boot: &boot, uptime, rows: &rows });
            }
            Message::Persist => state.persist()?,
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
