//! What sessions say of themselves: who begins, who ends, and who no longer counts.

use std::net::SocketAddr;
use std::time::Instant;

use outrider_shared::names::FEATURES;
use outrider_shared::session::Hello;
use outrider_shared::snapshot::Version;
use outrider_shared::{SidecarId, SpiffeId};
use ractor::{ActorId, ActorRef, ActorStatus};

use super::actor::{Known, Message, Origin, State};
use super::machine::Input;
use super::push::lacking;
use crate::{planner, session};

impl State {
    pub(super) fn is_current(&self, from: &Origin) -> bool {
        let session = self.known.get(&from.sidecar).and_then(|known| known.session.as_ref());
        session.is_some_and(|session| session.get_id() == from.session)
    }

    pub(super) fn settled(
        &mut self,
        myself: &ActorRef<Message>,
        sidecar: &SidecarId,
        version: Version,
        nack: Option<Vec<String>>,
        now: Instant,
    ) {
        if nack.is_none() {
            self.feed(myself, Input::Acked { sidecar: sidecar.clone(), version }, now);
        }
        if let Some(known) = self.known.get_mut(sidecar) {
            known.nack = nack;
        }
    }

    /// Of ledgers too, which are no sidecar's session; and of one that another has replaced nothing is left to end.
    pub(super) fn disconnected(&mut self, myself: &ActorRef<Message>, session: ActorId, now: Instant) {
        let is_it = |known: &Known| known.session.as_ref().is_some_and(|known| known.get_id() == session);
        let Some((sidecar, known)) = self.known.iter_mut().find(|(_, known)| is_it(known)) else { return };
        known.session = None;
        known.pushed = None;
        let sidecar = sidecar.clone();
        self.feed(myself, Input::Disconnected { sidecar }, now);
    }

    pub(super) fn dialled(
        &mut self,
        myself: &ActorRef<Message>,
        sidecar: SidecarId,
        address: SocketAddr,
        expected: &SpiffeId,
        outcome: Result<(), String>,
        now: Instant,
    ) {
        let service = self.machine.members().get(&sidecar).map(|member| member.service.clone());
        let declared = service.and_then(|service| self.identities.get(&service));
        let outcome = match outcome {
            Ok(()) if declared != Some(expected) => Err("its service's identity has changed".to_owned()),
            outcome => outcome,
        };
        if let Err(because) = &outcome {
            tracing::info!(%sidecar, because, "not published");
        }
        self.feed(myself, Input::Dialled { sidecar, address, outcome }, now);
    }

    pub(super) fn hello(
        &mut self,
        hello: Hello,
        source: SocketAddr,
        session: ActorRef<session::Message>,
    ) -> Result<Input, String> {
        if session.get_status() >= ActorStatus::Stopping {
            return Err("it has ended already".to_owned());
        }
        let policy = self.parts.policy.load();
        let version = Version::default();
        let plan =
            planner::plan(&policy.policy, policy.revision, &[], &hello.sidecar, &hello.service, version);
        let Ok(plan) = plan else {
            return Err(format!("revision {} declares no service {}", policy.revision, hello.service));
        };
        let has = |feature: &&&str| hello.features.iter().any(|had| had == **feature);
        let features: Vec<&'static str> = FEATURES.iter().filter(has).copied().collect();
        if let Some(lacking) = lacking(&plan, &features) {
            return Err(lacking);
        }
        let address = hello.address.unwrap_or_else(|| SocketAddr::new(source.ip(), hello.inbound_port));
        let known = Known {
            session: Some(session),
            service: hello.service.clone(),
            build: hello.build,
            features,
            pushed: None,
            nack: None,
            report: None,
        };
        if let Some(Known { session: Some(old), .. }) = self.known.insert(hello.sidecar.clone(), known) {
            let reason = "another session of this sidecar began".to_owned();
            // It may have ended already.
            let _ = old.send_message(session::Message::Goodbye { reason });
        }
        tracing::info!(sidecar = %hello.sidecar, service = %hello.service, %address, "session");
        Ok(Input::Hello { sidecar: hello.sidecar, service: hello.service, address, serving: hello.serving })
    }
}
