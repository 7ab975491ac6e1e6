//! What to start: the caller's knowledge of the mesh, as programs and arguments.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A mesh of one control plane and some pods.
#[derive(Debug, Clone)]
pub struct Plan {
    pub program: PathBuf,
    /// Where each process's log goes.
    pub logs: PathBuf,
    /// Where callers from outside come in.
    pub edge: SocketAddr,
    pub control_plane: Part,
    pub pods: Vec<Pod>,
}

/// An app and the sidecar beside it.
#[derive(Debug, Clone)]
pub struct Pod {
    pub app: Part,
    pub sidecar: Part,
    /// The sidecar's port of `/ready` and `/metrics`.
    pub health: SocketAddr,
}

/// One process.
#[derive(Debug, Clone)]
pub struct Part {
    /// Unique in its plan.
    pub name: String,
    /// `None`: the plan's own program.
    pub program: Option<PathBuf>,
    pub arguments: Vec<OsString>,
    /// What tells that it is in service; all of it.
    pub ready: Vec<Ready>,
}

#[derive(Debug, Clone)]
pub enum Ready {
    /// `GET` of this path answers 200 there.
    Answers(SocketAddr, &'static str),
    Exists(PathBuf),
}

impl Plan {
    /// The control plane, then pod by pod.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.control_plane).chain(self.pods.iter().flat_map(|pod| [&pod.app, &pod.sidecar]))
    }

    pub fn pod(&self, app: &str) -> Option<&Pod> {
        self.pods.iter().find(|pod| pod.app.name == app)
    }
}
