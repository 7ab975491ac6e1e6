//! The sidecar: enforces mTLS and policy for what comes in to its app, and finds, balances and secures what the app calls.
//!
//! Modules in the order in which a request passes them, then what surrounds it.

pub mod admin;
pub mod config;
pub mod contexts;
pub mod drain;
pub mod edges;
pub mod egress;
pub mod health;
pub mod healthcheck;
pub mod leg;
pub mod limits;
pub mod listen;
pub mod mesh;
pub mod node;
pub mod overload;
pub mod pipeline;
pub mod probe;
pub mod session;
pub mod shard;
pub mod stats;
pub mod telemetry;
pub mod upstream;
pub mod view;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

pub use config::Args;

/// Signals that wait; more of them say nothing new.
const SIGNALS_MAX: usize = 4;

/// Runs a sidecar until SIGTERM or SIGINT has drained it; a second one ends it at once.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.check()?;
    actix_rt::System::new().block_on(async move {
        let (ask, asked) = mpsc::channel(SIGNALS_MAX);
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let mut signals = signal(kind)?;
            let ask = ask.clone();
            actix_rt::spawn(async move {
                while signals.recv().await.is_some() {
                    // Full: two are there already, and no more are needed.
                    let _ = ask.try_send(());
                }
            });
        }
        node::serve(config, asked).await.map(drop)
    })
}

/// An error with its causes, for a log.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut chain = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push_str(": ");
        chain.push_str(&error.to_string());
        cause = error.source();
    }
    chain
}
