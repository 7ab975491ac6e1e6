//! The shell of the authority: one request at a time.

use std::sync::Arc;
use std::time::Duration;

use outrider_shared::api::{MintAnswer, MintRequest};
use outrider_shared::join::{JoinAnswer, JoinRequest, Leaf, RenewRequest};
use outrider_shared::snapshot::SignedSnapshot;
use outrider_shared::{ServiceId, SidecarId};
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::records::{AuditRecord, Seal};
use super::{Authority, Mint, OWN_LEAF_S, Refused, now_unix_s};
use crate::metrics::Outcome;
use crate::parts::Parts;

/// How often intermediate and signer are looked at, which live for years.
const ISSUERS_PERIOD: Duration = Duration::from_hours(24);

/// Owns: keys, credentials, the audit trail. Receives: [`Message`]. Publishes: our own leaf. Capacity: bounded by the
/// control port's connections, each of which waits for its answer. On restart: everything comes from the store.
pub struct AuthorityActor;

pub enum Message {
    Join(Box<JoinRequest>, RpcReplyPort<Result<JoinAnswer, Refused>>),
    Renew(Box<RenewRequest>, RpcReplyPort<Result<Leaf, Refused>>),
    Mint(Mint, MintRequest, RpcReplyPort<Result<MintAnswer, Refused>>),
    Revoke(String, RpcReplyPort<Result<(), Refused>>),
    Sign(String, RpcReplyPort<Result<SignedSnapshot, Refused>>),
    ServiceOf(SidecarId, RpcReplyPort<Result<Option<ServiceId>, Refused>>),
    Audited(RpcReplyPort<Result<Vec<AuditRecord>, Refused>>),
    /// Our own timer: the leaf of the control plane itself is at half of its life.
    RenewOwn,
    /// Our own timer: intermediate and signer may be at half of theirs.
    RenewIssuers,
}

pub struct State {
    parts: Arc<Parts>,
    authority: Authority,
    seal: Arc<Seal>,
}

impl Actor for AuthorityActor {
    type Msg = Message;
    type State = State;
    type Arguments = (Arc<Parts>, Arc<Seal>);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (parts, seal): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let domain = parts.policy.load().policy.mesh().trust_domain().clone();
        let mut authority = Authority::open(Arc::clone(&parts.store), &domain, &seal)?;
        renew_issuers(&mut authority, &parts, &seal)?;
        myself.send_interval(ISSUERS_PERIOD, || Message::RenewIssuers);
        let half = Duration::from_secs(OWN_LEAF_S.unsigned_abs() / 2);
        myself.send_interval(half, || Message::RenewOwn);
        Ok(State { parts, authority, seal })
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let revision = state.parts.policy.load_full();
        let (authority, metrics) = (&mut state.authority, &state.parts.metrics);
        // Where a reply is not taken, whoever asked has gone.
        match message {
            Message::Join(request, reply) => {
                let joined = authority.join(&request, &revision.policy);
                metrics.joins.get_or_create(&outcome(&joined)).inc();
                let _ = reply.send(joined);
            }
            Message::Renew(request, reply) => {
                let renewed = authority.renew(&request, &revision.policy);
                metrics.renewals.get_or_create(&outcome(&renewed)).inc();
                let _ = reply.send(renewed);
            }
            Message::Mint(kind, request, reply) => {
                let _ = reply.send(authority.mint(kind, &request, &revision.policy));
            }
            Message::Revoke(id, reply) => {
                let _ = reply.send(authority.revoke(&id));
            }
            Message::Sign(body, reply) => {
                let _ = reply.send(authority.sign(body).map_err(Refused::from));
            }
            Message::ServiceOf(sidecar, reply) => {
                let _ = reply.send(authority.service_of(&sidecar).map_err(Refused::from));
            }
            Message::Audited(reply) => {
                let _ = reply.send(authority.audited().map_err(Refused::from));
            }
            Message::RenewIssuers => renew_issuers(authority, &state.parts, &state.seal)?,
            Message::RenewOwn => state.parts.own.store(authority.own_material()?),
        }
        Ok(())
    }
}

fn renew_issuers(authority: &mut Authority, parts: &Parts, seal: &Seal) -> anyhow::Result<()> {
    if authority.renew_issuers(seal, now_unix_s())? {
        parts.own.store(authority.own_material()?);
    }
    Ok(())
}

fn outcome<T>(result: &Result<T, Refused>) -> Outcome {
    Outcome { outcome: if result.is_ok() { "ok" } else { "refused" } }
}
