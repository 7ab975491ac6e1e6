//! The two loops of a session. Each decides nothing that [`super::renewal`] and [`super::backoff`] can decide.

use std::rc::Rc;
use std::time::Duration;

use outrider_shared::SpiffeId;
use rustls_pki_types::UnixTime;

use super::backoff::Backoff;
use super::enrol::{self, EnrolError};
use super::link::{self, Ending};
use super::renewal::Life;
use super::state::State;
use super::{SessionError, store};

/// First and longest wait after a failed attempt to join or renew. 30 s: the control plane is spared, and a leaf's
/// other half is still enough for hundreds of attempts.
const ENROL_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// First and longest wait before a new session. 10 s: how stale a sidecar may stay once the control plane is back.
const CONNECT_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Longest sleep before the wall clock is looked at again: a timer does not run while a laptop sleeps.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// Joins if there is no identity, then renews each leaf at half of its life, and at once where policy gives our service
/// another identity. Ends only where the mesh refuses for good.
pub(super) async fn keep_leaf_fresh(state: Rc<State>) {
    let mut backoff = Backoff::new(ENROL_WAIT.0, ENROL_WAIT.1);
    // A name for which we have renewed: should the leaf not have it even so, asking again would give the same.
    let mut asked_for = None;
    loop {
        wait_until_due(&state, asked_for.as_ref()).await;
        let named = state.named().borrow().clone();
        match enrol_anywhere(&state).await {
            Ok(()) => {
                asked_for = named;
                backoff.reset();
            }
            Err(error) if error.is_final() && !has_valid_leaf(&state) => {
                state.fail(SessionError::Enrol(error));
                return;
            }
            Err(error) => {
                state.note_error(&error);
                actix_rt::time::sleep(backoff.after_failure(rand::random())).await;
            }
        }
    }
}

fn has_valid_leaf(state: &State) -> bool {
    state.material().is_some_and(|material| !Life::of(&material).expired(UnixTime::now()))
}

async fn wait_until_due(state: &State, asked_for: Option<&SpiffeId>) {
    let Some(material) = state.material().filter(|_| !state.other_mesh()) else { return };
    let (life, unit) = (Life::of(&material), rand::random());
    let mut named = state.named();
    let has_other_name = |named: &Option<SpiffeId>| {
        named.as_ref().is_some_and(|named| *named != material.identity && Some(named) != asked_for)
    };
    loop {
        let left = life.until_renewal(unit, UnixTime::now());
        if left.is_zero() {
            return;
        }
        let other_name = actix_rt::time::timeout(left.min(CLOCK_EVERY), named.wait_for(has_other_name));
        if let Ok(named) = other_name.await {
            return drop(named.expect("the sender lives as long as the state"));
        }
    }
}

/// Asks each control plane in turn. A refusal for good ends the round: another one would only say the same.
async fn enrol_anywhere(state: &State) -> Result<(), EnrolError> {
    let mut failed = None;
    for control_plane in &state.config.control_planes {
        match enrol_at(state, control_plane).await {
            Ok((identity, material)) => return Ok(state.adopt(identity, material)?),
            Err(error) if error.is_final() => return Err(error),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.expect("a session has at least one control plane"))
}

/// Renews, or joins where there is nothing to renew, or where the control plane no longer knows this sidecar.
async fn enrol_at(
    state: &State,
    control_plane: &str,
) -> Result<(store::StoredIdentity, outrider_shared::identity::Material), EnrolError> {
    let (credential, service) = (state.config.join.as_ref(), &state.config.service);
    let identity = state.identity().zip(state.material());
    if let (Some(_), Some(credential), true) = (&identity, credential, state.other_mesh()) {
        match enrol::join(control_plane, credential, service).await {
            // The roots may have been replaced since the credential was minted: then renewing still works.
            Err(error) => {
                tracing::warn!(error = %crate::error_chain(&error), "joining by another root than ours");
            }
            joined => return joined,
        }
    }
    match (identity, credential) {
        (Some((identity, material)), credential) => {
            match (enrol::renew(control_plane, &identity, &material.bundle).await, credential) {
                (Err(error), Some(credential)) if error.is_final() => {
                    tracing::warn!(error = %crate::error_chain(&error), "renewal is refused: joining anew");
                    enrol::join(control_plane, credential, service).await
                }
                (renewed, _) => renewed,
            }
        }
        (None, Some(credential)) => enrol::join(control_plane, credential, service).await,
        (None, None) => unreachable!("a session without identity starts only with a join credential"),
    }
}

/// Keeps one session open, with whichever control plane answers.
pub(super) async fn keep_connected(state: Rc<State>) {
    let mut backoff = Backoff::new(CONNECT_WAIT.0, CONNECT_WAIT.1);
    let mut turn = 0;
    loop {
        let material = state.valid_material().await;
        let control_planes = &state.config.control_planes;
        let ended = link::run(&state, &control_planes[turn % control_planes.len()], &material).await;
        state.disconnected();
        match ended {
            Ok(Ending::LeafReplaced) => {
                backoff.reset();
                continue;
            }
            Ok(Ending::Left) => return,
            Ok(Ending::Down { error, useful }) => {
                state.note_error(&error);
                if useful {
                    backoff.reset();
                }
            }
            Err(error) => {
                state.note_error(&error);
                turn = turn.wrapping_add(1);
            }
        }
        actix_rt::time::sleep(backoff.after_failure(rand::random())).await;
    }
}
