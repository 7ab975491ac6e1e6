//! The scenarios: what is believed, what is broken, and how much of it a caller may see.

use std::slice;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::sleep;

use crate::experiment::{Experiment, Injected, SERVED};
use crate::report::Tolerated;

/// For a sidecar that starts from what lies on disk: it takes tens of milliseconds on a quiet machine.
const READY_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Until callers send to it again: they try an endpoint that they had ejected after a few seconds.
const SERVES_AGAIN_MAX: Duration = Duration::from_secs(15);
/// Until every sidecar has a session again: the bound is the longest wait between two tries.
const SESSIONS_AGAIN_MAX: Duration = Duration::from_secs(30);
/// Between a fault and what is done next, so that callers meet it.
const PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    EndpointKilled,
    SidecarKilled,
    ControlPlaneDown,
}

impl Scenario {
    pub const ALL: [Self; 3] = [Self::EndpointKilled, Self::SidecarKilled, Self::ControlPlaneDown];

    pub fn name(self) -> &'static str {
        match self {
            Self::EndpointKilled => "endpoint-killed",
            Self::SidecarKilled => "sidecar-killed",
            Self::ControlPlaneDown => "control-plane-down",
        }
    }

    pub fn hypothesis(self) -> &'static str {
        match self {
            Self::EndpointKilled => {
                "When an instance vanishes without a word, only what it was working on fails; what never reached it goes \
                 to another instance."
            }
            Self::SidecarKilled => {
                "A sidecar that is killed takes with it what it was working on and nothing else, comes back by itself \
                 from what lies on its disk, and serves again."
            }
            Self::ControlPlaneDown => {
                "Nobody notices that the control plane is down: no request fails, a sidecar restarts from its disk and \
                 serves, and all sessions come back with the control plane."
            }
        }
    }

    pub fn fault(self) -> &'static str {
        match self {
            Self::EndpointKilled => "SIGKILL of one of three payments apps, and of its sidecar, at once.",
            Self::SidecarKilled => {
                "SIGKILL of the sidecar of one of two orders apps; it is started again two seconds later."
            }
            Self::ControlPlaneDown => {
                "SIGKILL of the control plane; a payments sidecar is ended by SIGTERM and started again meanwhile; then \
                 the control plane is started again."
            }
        }
    }

    pub(crate) fn tolerated(self) -> Tolerated {
        match self {
            Self::EndpointKilled | Self::SidecarKilled => Tolerated::UnderWay,
            Self::ControlPlaneDown => Tolerated::Nothing,
        }
    }

    pub(crate) async fn inject(self, experiment: &mut Experiment<'_>) -> anyhow::Result<Injected> {
        match self {
            Self::EndpointKilled => endpoint_killed(experiment).await,
            Self::SidecarKilled => sidecar_killed(experiment).await,
            Self::ControlPlaneDown => control_plane_down(experiment).await,
        }
    }
}

async fn endpoint_killed(experiment: &mut Experiment<'_>) -> anyhow::Result<Injected> {
    let pod = experiment.pod("payments-1")?;
    experiment.is_called(pod).await?;
    let fault_at = experiment.kill(&pod.app).await?;
    experiment.kill(&pod.sidecar).await?;
    sleep(PAUSE).await;
    Ok(Injected { fault_at, checks: Vec::new() })
}

async fn sidecar_killed(experiment: &mut Experiment<'_>) -> anyhow::Result<Injected> {
    let pod = experiment.pod("orders-1")?;
    experiment.is_called(pod).await?;
    let fault_at = experiment.kill(&pod.sidecar).await?;
    sleep(PAUSE).await;
    let checks = vec![
        experiment.restart(&pod.sidecar, READY_AGAIN_MAX).await?,
        experiment.reach_one(slice::from_ref(pod), SERVED, "orders-1 serves again", SERVES_AGAIN_MAX).await,
    ];
    Ok(Injected { fault_at, checks })
}

async fn control_plane_down(experiment: &mut Experiment<'_>) -> anyhow::Result<Injected> {
    let control_plane = experiment.control_plane();
    let pod = experiment.pod("payments-1")?;
    experiment.is_called(pod).await?;
    let fault_at = experiment.kill(control_plane).await?;
    sleep(PAUSE).await;
    let mut checks =
        vec![experiment.end(&pod.sidecar).await?, experiment.restart(&pod.sidecar, READY_AGAIN_MAX).await?];
    let serves = "payments-1 serves without a control plane";
    checks.push(experiment.reach_one(slice::from_ref(pod), SERVED, serves, SERVES_AGAIN_MAX).await);
    sleep(PAUSE).await;
    checks.push(experiment.restart(control_plane, READY_AGAIN_MAX).await?);
    let sessions = "every sidecar has a session again";
    let pods = experiment.pods();
    checks.push(experiment.reach_one(pods, "outrider_session_connected", sessions, SESSIONS_AGAIN_MAX).await);
    Ok(Injected { fault_at, checks })
}

/// A name that no scenario has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownScenario {
    given: String,
}

impl std::error::Error for UnknownScenario {}

impl std::fmt::Display for UnknownScenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Scenario::ALL.map(Scenario::name).join(", ");
        write!(f, "there is no scenario {:?}; there are {known}", self.given)
    }
}

impl FromStr for Scenario {
    type Err = UnknownScenario;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|scenario| scenario.name() == given);
        found.ok_or_else(|| UnknownScenario { given: given.to_owned() })
    }
}
