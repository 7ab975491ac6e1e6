//! The shop of the demo and of the compose file: three small apps that know nothing of the mesh.
//!
//! `frontend` calls `orders` over HTTP/1.1, `orders` calls `payments` over gRPC, each through a listener of its own
//! sidecar. All that they do for the mesh is to pass trace context on, which any app must.
//!
//! The replicas share no store, so an order's id says everything about it (see [`orders::Order`]).

use std::net::SocketAddr;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Uri;
use tokio::signal::unix::{SignalKind, signal};

mod context;
mod fault;
mod frontend;
mod orders;
mod page;
mod payments;
mod reply;
mod serve;

use fault::FaultArgs;

/// Which app to run.
#[derive(Debug, Subcommand)]
pub enum Shop {
    /// The page, and the API behind it.
    Frontend(FrontendArgs),
    /// Keeps orders, and has them paid.
    Orders(OrdersArgs),
    /// Takes payments, over gRPC.
    Payments(PaymentsArgs),
}

/// Where an app listens and what is wrong with it.
#[derive(Debug, Args)]
pub struct AppArgs {
    /// Where the app listens.
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddr,
    /// What this replica calls itself in its answers.
    #[arg(long, value_name = "NAME", default_value = "only")]
    replica: String,
    #[command(flatten)]
    fault: FaultArgs,
}

#[derive(Debug, Args)]
pub struct FrontendArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Where orders is called: the sidecar's listener for it.
    #[arg(long, value_name = "URL")]
    orders: Uri,
    /// What a trace's id is appended to for a link (Jaeger: `http://localhost:16686/trace/`). Without it the page shows
    /// ids only.
    #[arg(long, value_name = "URL")]
    trace_link: Option<Uri>,
}

#[derive(Debug, Args)]
pub struct OrdersArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Where payments is called: the sidecar's listener for it.
    #[arg(long, value_name = "URL")]
    payments: Uri,
}

#[derive(Debug, Args)]
pub struct PaymentsArgs {
    #[command(flatten)]
    app: AppArgs,
}

/// Serves until SIGTERM.
pub async fn run(shop: Shop) -> anyhow::Result<()> {
    match shop {
        Shop::Frontend(args) => {
            let app = frontend::Frontend::new(&args.orders, args.trace_link, &args.app.fault)?;
            serve::serve(serve::bind(args.app.listen).await?, app).await
        }
        Shop::Orders(args) => {
            let app = orders::Orders::new(args.payments, args.app.replica, &args.app.fault)?;
            serve::serve(serve::bind(args.app.listen).await?, app).await
        }
        Shop::Payments(args) => {
            let app = payments::Payments::new(args.app.replica, &args.app.fault);
            serve::serve(serve::bind(args.app.listen).await?, app).await
        }
    }
}

/// What a pod's pause container runs: nothing, until SIGTERM.
pub async fn pause() -> anyhow::Result<()> {
    signal(SignalKind::terminate()).context("waiting for SIGTERM")?.recv().await;
    Ok(())
}

#[cfg(test)]
mod tests;
