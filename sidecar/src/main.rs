//! The sidecar as a binary of its own, for images: nothing of the control plane is in it.

use clap::{Args as _, Command, FromArgMatches as _, Subcommand};
use outrider_sidecar::Args;

#[derive(Subcommand)]
enum Other {
    /// Asks a health port once, and says by the exit code whether it answered 200: for images without a shell.
    Healthcheck {
        #[arg(default_value = "http://127.0.0.1:14090/ready")]
        url: String,
    },
}

/// Not derived: of arguments that are optional as a whole, `clap` counts none that comes from the environment alone where
/// some of them are a part of their own.
fn command() -> Command {
    let command = Command::new("outrider-sidecar")
        .about("The sidecar of the Outrider mesh")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_negates_reqs(true)
        .args_conflicts_with_subcommands(true);
    Other::augment_subcommands(Args::augment_args(command))
}

fn main() -> anyhow::Result<()> {
    let matches = command().get_matches();
    if matches.subcommand().is_some() {
        let Other::Healthcheck { url } = Other::from_arg_matches(&matches)?;
        return Ok(outrider_sidecar::healthcheck::healthcheck(&url)?);
    }
    let args = Args::from_arg_matches(&matches)?;
    outrider_sidecar::telemetry::log::init();
    outrider_sidecar::run(args)
}
