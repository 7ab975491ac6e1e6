//! How the parts of an experiment's mesh are started: this program again, each with the flags that its place asks for.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use outrider_chaos::trial::{Mesh, Node, Serves, Sidecars, Topology, port};
use outrider_chaos::{Part, Ready};
use outrider_shared::names;

use crate::demo::layout::{Arguments, Net};

/// The namespace of an experiment's policy.
const NAMESPACE: &str = "trial";

#[derive(Debug)]
pub struct Program {
    pub net: Net,
}

impl Sidecars for Program {
    fn part_arguments(&self, plan: &Path) -> Vec<OsString> {
        let mut arguments = Arguments::of("chaos");
        arguments.word("part");
        arguments.word(plan);
        arguments.list()
    }

    fn mesh(&self, folder: &Path, topology: &Topology, policy: &str) -> anyhow::Result<Mesh> {
        let folders = Folders { folder };
        for made in [folders.policy(), folders.control_plane(), folders.join()] {
            fs::create_dir_all(&made).with_context(|| format!("making {}", made.display()))?;
        }
        let path = folders.policy().join("trial.yaml");
        fs::write(&path, policy).with_context(|| format!("writing {}", path.display()))?;
        let secrets = topology.nodes.iter().map(|node| Ready::Exists(folders.secret(node)));
        let control_plane = Part {
            name: "control-plane".to_owned(),
            program: None,
            arguments: self.control_plane(&folders),
            ready: std::iter::once(Ready::Answers(self.api(), "/ready")).chain(secrets).collect(),
        };
        let sidecars = topology.nodes.iter().map(|node| Part {
            name: format!("{}-sidecar", node.name),
            program: None,
            arguments: self.sidecar(&folders, node),
            ready: vec![Ready::Answers(node.at(port::HEALTH), "/ready")],
        });
        Ok(Mesh { control_plane, sidecars: sidecars.collect() })
    }
}

impl Program {
    fn home(&self, last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, self.net.number(), 0, last)), port)
    }

    fn api(&self) -> SocketAddr {
        self.home(2, names::port::API)
    }

    fn control(&self) -> SocketAddr {
        self.home(1, names::port::CONTROL)
    }

    fn control_plane(&self, folders: &Folders<'_>) -> Vec<OsString> {
        let mut arguments = Arguments::of("control-plane");
        arguments.flag("--policy", folders.policy());
        arguments.flag("--data-dir", folders.control_plane());
        arguments.flag("--join-secrets-dir", folders.join());
        arguments.flag("--api", self.api().to_string());
        arguments.flag("--control", self.control().to_string());
        arguments.list()
    }

    fn sidecar(&self, folders: &Folders<'_>, node: &Node) -> Vec<OsString> {
        let mut arguments = Arguments::of("sidecar");
        arguments.flag("--service", format!("{NAMESPACE}/{}", node.name));
        arguments.flag("--control-plane", self.control().to_string());
        arguments.flag("--join-file", folders.secret(node));
        arguments.flag("--data-dir", folders.sidecar(node));
        arguments.flag("--app-host", node.ip.to_string());
        arguments.flag("--inbound", node.at(port::INBOUND).to_string());
        arguments.flag("--advertise", node.at(port::INBOUND).to_string());
        arguments.flag("--outbound", node.at(names::port::OUTBOUND).to_string());
        arguments.flag("--admin", node.at(names::port::ADMIN).to_string());
        arguments.flag("--health", node.at(port::HEALTH).to_string());
        if let Some(called) = &node.calls {
            let listener = format!("{NAMESPACE}/{called}:{}={}", port::APP, node.at(port::UPSTREAM));
            arguments.flag("--upstream", listener);
        }
        if node.serves == Serves::Nothing {
            // Twenty of them share the machine, and each carries a twentieth of the load.
            arguments.flag("--shards", "1");
        }
        arguments.list()
    }
}

/// Where a mesh writes.
struct Folders<'a> {
    folder: &'a Path,
}

impl Folders<'_> {
    fn policy(&self) -> PathBuf {
        self.folder.join("policy")
    }
    fn control_plane(&self) -> PathBuf {
        self.folder.join("control-plane")
    }
    fn join(&self) -> PathBuf {
        self.folder.join("join")
    }
    fn secret(&self, node: &Node) -> PathBuf {
        self.join().join(format!("{NAMESPACE}.{}", node.name))
    }
    fn sidecar(&self, node: &Node) -> PathBuf {
        self.folder.join("sidecars").join(&node.name)
    }
}
