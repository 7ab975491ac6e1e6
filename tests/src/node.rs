//! A sidecar, or a control plane, as a process that cases can signal, kill, and read the log of.

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    Sidecar(Box<outrider_sidecar::Args>),
    ControlPlane(outrider_control_plane::Args),
}

fn main() -> anyhow::Result<()> {
    let role = Command::parse().role;
    outrider_sidecar::telemetry::log::init();
    match role {
        Role::Sidecar(args) => outrider_sidecar::run(*args),
        Role::ControlPlane(args) => outrider_control_plane::run(args),
    }
}
