//! What becomes of actors that end, and of what an actor says that another has replaced.

use std::net::SocketAddr;
use std::sync::Arc;

use outrider_control_plane::parts::Parts;
use outrider_control_plane::registry::{Message as RegistryMessage, Origin};
use outrider_control_plane::session::Message;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, call_t};

use crate::sidecar::Sidecar;
use crate::world::{World, until};

/// Stands in a session's place: takes pushes, and panics when it is told of a withdrawal.
struct Stand;

impl Actor for Stand {
    type Msg = Message;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        assert!(!matches!(message, Message::Withdrawn), "a bug of the session");
        Ok(())
    }
}

/// A session that the registry knows of.
async fn session(parts: &Arc<Parts>, sidecar: &Sidecar) -> ActorRef<Message> {
    let supervisor = ActorCell::clone(&parts.supervisor.load_full().unwrap());
    let (session, _) = Actor::spawn_linked(None, Stand, (), supervisor).await.unwrap();
    let registry = parts.registry().unwrap();
    let (hello, source) = (Box::new(sidecar.hello()), SocketAddr::from(([127, 0, 0, 1], 9)));
    let to_registry = session.clone();
    let said = |reply| RegistryMessage::Hello { hello, source, session: to_registry, reply };
    call_t!(registry, said, 5_000).unwrap().unwrap();
    session
}

async fn announce(parts: &Parts, sidecar: &Sidecar, session: &ActorRef<Message>, serving: bool) {
    let from = Origin { sidecar: sidecar.id.clone(), session: session.get_id() };
    let registry = parts.registry().unwrap();
    call_t!(registry, |reply| RegistryMessage::Announce { from, serving, reply }, 5_000).unwrap();
}

#[actix_rt::test]
async fn the_session_of_an_actor_that_panics_is_over_for_the_registry_too() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let session = session(world.running().parts(), &orders).await;
    assert!(world.sidecars().await[0].connected);
    session.send_message(Message::Withdrawn).unwrap();
    until("the session is over", async || !world.sidecars().await[0].connected).await;
}

#[actix_rt::test]
async fn what_a_replaced_session_says_counts_no_more() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let parts = world.running().parts();
    let (old, new) = (session(parts, &orders).await, session(parts, &orders).await);
    until("it is published", async || world.sidecars().await[0].published).await;
    announce(parts, &orders, &old, false).await;
    assert!(world.sidecars().await[0].published);
    old.stop(None);
    announce(parts, &orders, &new, false).await;
    let view = &world.sidecars().await[0];
    assert!(view.connected && !view.published);
}

#[actix_rt::test]
async fn a_part_that_ends_is_started_anew_however_it_ended() {
    let world = World::started().await;
    let orders = Sidecar::of(&world, "shop/orders").await;
    let parts = world.running().parts();
    let (registry, authority) = (parts.registry().unwrap(), parts.authority().unwrap());
    registry.stop(Some("by mistake".to_owned()));
    authority.stop(None);
    until("both are there again", async || {
        let differs = |before, now: Option<ractor::ActorId>| now.is_some_and(|now| now != before);
        differs(registry.get_id(), parts.registry().map(|registry| registry.get_id()))
            && differs(authority.get_id(), parts.authority().map(|authority| authority.get_id()))
    })
    .await;
    orders.session(&world).await.snapshot().await;
}
