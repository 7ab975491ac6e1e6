//! The binary `outrider`: every part of the product as a subcommand.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

mod api;
mod chaos;
mod demo;
mod fetch;
mod get;
mod mint;
mod policy;
mod screen;
mod shop;
mod show;
mod table;

const AFTER_HELP: &str = "\
Begin here:
  outrider demo                            a mesh of three services on this machine, under load
  outrider stat                            how each service of it fares
  outrider get http://orders/api/orders    one request through it, and the way it took

Exit codes: 0 done, 1 failed, 2 wrong usage.";

const SIDECAR_EXAMPLE: &str = "\
Example, for an app on port 8080 of this machine that calls shop/payments at 127.0.0.1:15001:
  outrider sidecar --service shop/orders --control-plane mesh.example:14101 --join-file orders.join \\
      --data-dir /var/lib/orders-sidecar --upstream shop/payments:50051=127.0.0.1:15001";

const UPSTREAMS_EXAMPLES: &str = "\
Examples:
  outrider upstreams --service shop/orders --watch
  outrider upstreams --watch -o json                             a line for each upstream that changes
  outrider upstreams --admin 127.0.0.1:14000 --watch -o json     the same of one sidecar, by itself";

/// A service mesh of sidecars and a small control plane, with or without Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "outrider", version, after_help = AFTER_HELP, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a shop of three services with a sidecar beside each, and a control plane, on this machine.
    Demo(demo::DemoArgs),

    /// Shows how each service fares: success, rate, latency, peers, mTLS, certificates.
    #[command(after_help = "Example:\n  outrider stat --watch")]
    Stat(show::ShowArgs),
    /// Shows what each sidecar sends to: endpoints, their state and latency, permits.
    #[command(after_help = UPSTREAMS_EXAMPLES)]
    Upstreams(show::ShowUpstreamsArgs),
    /// What happened to upstreams: breakers that opened and closed, endpoints that were left out, actors started anew.
    #[command(after_help = "Example:\n  outrider events --service shop/orders --watch")]
    Events(show::ShowServiceArgs),
    /// Shows who has used what since the mesh began: requests and bytes by service and peer.
    #[command(after_help = "Example:\n  outrider quota --service shop/payments -o json")]
    Quota(show::ShowServiceArgs),
    /// Shows every sidecar: whether it is connected and published, and why not.
    Sidecars(show::ShowArgs),
    /// Makes one request through the mesh, and prints the way it took.
    #[command(after_help = "Example, while the demo runs:\n  outrider get http://orders/api/orders")]
    Get(get::GetArgs),

    /// Runs a sidecar beside one instance of a service.
    #[command(after_help = SIDECAR_EXAMPLE)]
    Sidecar(Box<outrider_sidecar::Args>),
    /// Runs the control plane.
    #[command(
        after_help = "Example:\n  outrider control-plane --policy policy/ --data-dir /var/lib/outrider"
    )]
    ControlPlane(outrider_control_plane::Args),

    /// Makes credentials with which one sidecar joins.
    #[command(subcommand)]
    Token(mint::Token),
    /// Makes and revokes credentials with which any number of sidecars of one service join.
    #[command(subcommand)]
    JoinSecret(mint::JoinSecret),

    /// Breaks a mesh of its own in known ways, and judges what callers see of it.
    #[command(subcommand)]
    Chaos(chaos::Chaos),

    /// Looks at policy without a control plane.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),

    /// One app of the demo's shop.
    #[command(hide = true, subcommand)]
    Shop(shop::Shop),
    /// Does nothing until SIGTERM: owns the network namespace of a pod made of containers.
    #[command(hide = true)]
    Pause,
    /// Asks a URL once, and says by the exit code whether it answered 200: for images without a shell.
    #[command(hide = true)]
    Healthcheck {
        #[arg(value_name = "URL")]
        url: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if screen::reader_went_away(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => block_on(demo::run(args)),
        Command::Stat(args) => block_on(show::show::<show::Stat>(args)),
        Command::Upstreams(args) => block_on(show::show_upstreams(args)),
        Command::Events(args) => block_on(show::show_service::<show::Events>(args)),
        Command::Quota(args) => block_on(show::show_service::<show::Quota>(args)),
        Command::Sidecars(args) => block_on(show::show::<show::Sidecars>(args)),
        Command::Get(args) => block_on(get::run(args)),
        Command::Sidecar(args) => {
            outrider_sidecar::telemetry::log::init();
            outrider_sidecar::run(*args)
        }
        Command::ControlPlane(args) => {
            outrider_sidecar::telemetry::log::init();
            outrider_control_plane::run(args)
        }
        Command::Token(token) => block_on(mint::token(token)),
        Command::JoinSecret(join_secret) => block_on(mint::join_secret(join_secret)),
        Command::Chaos(chaos) => block_on(chaos::run(chaos)),
        Command::Policy(command) => policy::run(command),
        Command::Shop(shop) => block_on(shop::run(shop)),
        Command::Pause => block_on(shop::pause()),
        Command::Healthcheck { url } => Ok(outrider_sidecar::healthcheck::healthcheck(&url)?),
    }
}

/// On one thread: the sidecar and the control plane make their own, and nothing else here needs more.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(work)
}

#[cfg(test)]
mod tests;
