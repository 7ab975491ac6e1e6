//! Servers and proxies that others wrote, started the way their users start them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use crate::app::Speaks;
use crate::process::Process;
use crate::wait;

pub mod envoy;
pub mod haproxy;
pub mod nginx;

pub use envoy::{app as envoy_app, proxy as envoy_proxy};
pub use nginx::server as nginx;

/// A proxy's listener, and where all that comes there goes.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub listen: SocketAddr,
    pub from: Speaks,
    pub to: SocketAddr,
    pub speaks: Speaks,
}

/// Waits until something accepts connections at an address.
pub async fn answers(process: &mut Process, address: SocketAddr) {
    wait::until(&format!("{address} answers"), || {
        process.assert_runs();
        async move { TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string()) }
    })
    .await;
}

/// Python's grpcio, serving `python/grpc_server.py`.
pub async fn grpc_server(python: &Path, folder: &Path, address: SocketAddr) -> Process {
    serves("grpc-server", folder, python_server(python, "grpc_server.py", address), address).await
}

/// Python's grpcio, serving `python/interop_server.py`.
pub async fn interop_server(python: &Path, folder: &Path, address: SocketAddr) -> Process {
    serves("interop-server", folder, python_server(python, "interop_server.py", address), address).await
}

/// Python's websockets, serving `python/websocket_server.py`.
pub async fn websocket_server(python: &Path, folder: &Path, address: SocketAddr) -> Process {
    serves("websocket-server", folder, python_server(python, "websocket_server.py", address), address).await
}

fn python_server(python: &Path, name: &str, address: SocketAddr) -> Command {
    let mut command = Command::new(python);
    command.arg(script(name)).arg(address.to_string());
    command
}

/// Starts what serves at an address, and waits until it does.
pub async fn serves(name: &str, folder: &Path, mut command: Command, address: SocketAddr) -> Process {
    let mut process = Process::start(name, folder, &mut command);
    answers(&mut process, address).await;
    process
}

/// A file of this crate's `python` folder.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// A file of this crate's `peers` folder: the same HTTP server and client in several languages.
pub fn peer(ending: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(format!("http_peer.{ending}"))
}
