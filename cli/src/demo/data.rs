//! The directory of a mesh on this machine: `./.outrider/demo`, or an experiment's beside it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use outrider_shared::ServiceId;
use outrider_shared::policy::load_dir;

use super::layout::{GRPC_APP, HTTP_APP, Layout, Service};

const OUTER: &str = ".outrider";
/// The shop's policy, as it stands in the repository.
const POLICY: &str = include_str!("../../../deploy/policy/shop.yaml");

/// Locked for as long as the demo runs: a second one in the same directory would take it away from under the first.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Empties it first, unless what is there is to be used again.
    pub fn open(inner: &str, keep: bool) -> anyhow::Result<Self> {
        let path = Path::new(OUTER).join(inner);
        let making = || format!("making {}", path.display());
        fs::create_dir_all(&path).with_context(making)?;
        // Beside the directory, not in it: the lock outlives what is removed.
        let lock = File::create(path.with_extension("lock")).with_context(making)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{inner} runs in this directory already: start the second one from another directory")
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(making),
        }
        if !keep {
            fs::remove_dir_all(&path).with_context(|| format!("emptying {}", path.display()))?;
        }
        let path = std::path::absolute(&path).with_context(making)?;
        let data = Self { path, _lock: lock };
        for directory in [data.policy(), data.control_plane(), data.join(), data.logs()] {
            fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        }
        Ok(data)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
    pub fn policy(&self) -> PathBuf {
        self.path.join("policy")
    }
    pub fn control_plane(&self) -> PathBuf {
        self.path.join("control-plane")
    }
    pub fn join(&self) -> PathBuf {
        self.path.join("join")
    }
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }
    /// Written by the control plane at its first start.
    pub fn operator_token(&self) -> PathBuf {
        self.control_plane().join("operator-token")
    }
    pub fn join_secret(&self, service: Service) -> PathBuf {
        self.join().join(format!("shop.{}", service.name()))
    }
    pub fn sidecar(&self, pod: &str) -> PathBuf {
        self.path.join("sidecars").join(pod)
    }

    /// Writes the shop's policy, unless one is there that may have been edited.
    pub fn write_policy(&self, layout: &Layout) -> anyhow::Result<()> {
        let path = self.policy().join("shop.yaml");
        if path.exists() {
            return judge_kept(&self.policy(), layout);
        }
        fs::write(&path, policy(layout)).with_context(|| format!("writing {}", path.display()))
    }

    /// Removes it, and what held it if that is empty now.
    pub fn close(self, keep: bool) -> anyhow::Result<()> {
        if keep {
            eprintln!("Kept {}.", self.path.display());
            return Ok(());
        }
        fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))?;
        let _ = fs::remove_file(self.path.with_extension("lock"));
        // Not empty: somebody else's.
        if let Some(outer) = self.path.parent() {
            let _ = fs::remove_dir(outer);
        }
        Ok(())
    }
}

/// Whether policy of an earlier run leads to where the apps listen in this one. No app would ever answer otherwise.
pub fn judge_kept(dir: &Path, layout: &Layout) -> anyhow::Result<()> {
    // What else is wrong with it is for the control plane to say.
    let Ok(loaded) = load_dir(dir) else { return Ok(()) };
    for pod in &layout.pods {
        let id = ServiceId::new("shop", pod.service.name()).context("the shop's names are names")?;
        let Some(service) = loaded.policy.service(&id) else { continue };
        let (listens, mut ports) = (layout.app(pod).port(), service.ports().iter());
        if !ports.any(|port| port.target_port == listens) {
            bail!(
                "the policy that was kept in {} has no targetPort {listens} for {id}, where it would listen now: give the \
                 --move-port of that run, or edit it, or begin anew without --keep-data",
                dir.display()
            );
        }
    }
    Ok(())
}

/// The shop's policy, with the apps' ports where they were moved to.
pub fn policy(layout: &Layout) -> String {
    let mut text = POLICY.to_owned();
    for usual in [HTTP_APP, GRPC_APP] {
        if layout.is_moved(usual) {
            let target = format!("targetPort: {}", layout.port(usual));
            text = text.replace(&format!("targetPort: {usual}"), &target).replace(
                &format!("{{port: {usual}, appProtocol"),
                &format!("{{port: {usual}, {target}, appProtocol"),
            );
        }
    }
    text
}
