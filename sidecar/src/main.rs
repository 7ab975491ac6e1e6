//! The sidecar as a binary of its own, for images: nothing of the control plane is in it.

use clap::{Parser, Subcommand};

/// The sidecar of the Outrider mesh.
#[derive(Parser)]
#[command(
    name = "outrider-sidecar",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Command {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    run: Option<outrider_sidecar::Args>,
}

#[derive(Subcommand)]
enum Other {
    /// Asks a health port once, and says by the exit code whether it answered 200: for images without a shell.
    Healthcheck {
        #[arg(default_value = "http://127.0.0.1:14090/ready")]
        url: String,
    },
}

fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    match (command.other, command.run) {
        (Some(Other::Healthcheck { url }), _) => Ok(outrider_sidecar::healthcheck::healthcheck(&url)?),
        (None, Some(args)) => {
            outrider_sidecar::telemetry::log::init();
            outrider_sidecar::run(args)
        }
        (None, None) => anyhow::bail!("no service given: see outrider-sidecar --help"),
    }
}
