//! One sidecar that has said Hello: what is known of it, and when it is published.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use outrider_shared::snapshot::Version;
use outrider_shared::{ServiceId, SidecarId};

/// First and longest pause between dials of an address that does not prove itself.
const DIAL_FIRST: Duration = Duration::from_millis(200);
const DIAL_MAX: Duration = Duration::from_secs(5);

/// What a member is known to be.
// Each is a fact of its own, and any may hold without the others.
#[allow(clippy::struct_excessive_bools)]
#[derive(Debug, Clone)]
pub struct Member {
    pub service: ServiceId,
    pub address: SocketAddr,
    pub connected: bool,
    pub serving: bool,
    pub withdrawn: bool,
    /// The last dial showed the right identity.
    pub proved: bool,
    pub acked: Option<Version>,
    /// Why it is not published, as far as dialling goes.
    pub because: Option<String>,
    pub(super) lease_until: Option<Instant>,
    pub(super) dial: Dial,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Dial {
    /// Not before then.
    Due {
        at: Instant,
        failures: u32,
    },
    UnderWay {
        failures: u32,
    },
    Done,
}

impl Member {
    pub fn is_published(&self) -> bool {
        self.proved && self.serving && !self.withdrawn
    }

    /// Another one is alive at its address; it is tried again later.
    pub(super) fn refuse_claim(&mut self, holder: &SidecarId, failures: u32, now: Instant) {
        self.because = Some(format!("{} is held by sidecar {holder}, which is alive", self.address));
        self.dial = Dial::Due { at: now + DIAL_MAX, failures };
    }

    /// The dial has failed; the next comes later the more have failed.
    pub(super) fn dial_again(&mut self, because: String, failures: u32, now: Instant) {
        self.because = Some(because);
        let pause = DIAL_FIRST.saturating_mul(1 << failures.min(5)).min(DIAL_MAX);
        self.dial = Dial::Due { at: now + pause, failures: failures.saturating_add(1) };
    }

    /// Why it is not published, in words.
    pub fn unpublished_because(&self) -> Option<String> {
        if self.is_published() {
            return None;
        }
        Some(if self.withdrawn {
            "it is draining".to_owned()
        } else if !self.serving {
            "its app does not answer on all of its ports".to_owned()
        } else {
            self.because.clone().unwrap_or_else(|| format!("{} is being dialled", self.address))
        })
    }
}
