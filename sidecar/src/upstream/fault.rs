//! A panic on purpose, so that whoever runs a mesh can see what its sidecars do about one.

use actix::{Context, Message};

use super::actor::UpstreamActor;
use super::mailbox::Hears;
use super::{Unheard, Upstream};

/// Whoever hears it panics. From the admin port, where `--allow-faults` is set. Lost: nobody panics.
#[derive(Debug, Clone, Copy)]
pub struct Panic;

impl Message for Panic {
    type Result = ();
}

impl Hears<Panic> for UpstreamActor {
    fn hear(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("the admin port was asked for a panic of this actor");
    }
}

impl Upstream {
    /// Its actor shall panic.
    pub fn make_panic(&self) -> Result<(), Unheard> {
        self.try_tell(Panic)
    }
}
