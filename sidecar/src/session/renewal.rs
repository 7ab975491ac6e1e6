//! When a leaf is renewed, and when a session leaves its old one behind.
//!
//! Wall-clock time, since that is what a certificate is valid by; after a night asleep it is simply late.

use std::time::Duration;

use outrider_shared::identity::Material;
use rustls_pki_types::UnixTime;

/// Of a leaf's life, when it is renewed: an outage of the control plane shorter than the other half is not seen.
const RENEW_AT: f64 = 0.5;
/// Either way, so that sidecars that started together do not renew together.
const RENEW_JITTER: f64 = 0.1;
/// Of a leaf's life, when a session that still runs on it is begun anew with the next one. Late, since each new session
/// costs a push; early enough that its end is ours to choose and not the expiry's.
const LEAVE_AT: f64 = 0.9;

/// The validity of one leaf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

impl Life {
    pub fn of(material: &Material) -> Self {
        Self { not_before: material.not_before, not_after: material.not_after }
    }

    /// How long from `now` until the renewal; `unit` is uniform in [0, 1), drawn once for each leaf.
    pub fn until_renewal(self, unit: f64, now: UnixTime) -> Duration {
        self.until(RENEW_AT + RENEW_JITTER * (2.0 * unit.clamp(0.0, 1.0) - 1.0), now)
    }

    /// How long from `now` until a session should no longer rest on this leaf.
    pub fn until_leaving(self, now: UnixTime) -> Duration {
        self.until(LEAVE_AT, now)
    }

    pub fn expired(self, now: UnixTime) -> bool {
        now.as_secs() > self.not_after.as_secs()
    }

    fn until(self, share: f64, now: UnixTime) -> Duration {
        let life = Duration::from_secs(self.not_after.as_secs().saturating_sub(self.not_before.as_secs()));
        let due = Duration::from_secs(self.not_before.as_secs()) + life.mul_f64(share);
        due.saturating_sub(Duration::from_secs(now.as_secs()))
    }
}
