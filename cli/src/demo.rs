//! `outrider demo`: a whole mesh on this machine, each part of it a process of its own.
//!
//! Every process is this binary, executed again. It starts the control plane, then apps and sidecars, drives load from
//! outside through the frontend's edge, and shows what the control plane knows. It ends in the reverse order, and
//! leaves no process, no port and (unless asked) no file behind.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use outrider_shared::api::StatAnswer;
use outrider_shared::units::GepDuration;

use crate::api::{Api, ApiArgs};
use crate::screen::{Output, Screen, reader_went_away};

pub mod data;
mod fleet;
mod interrupt;
pub mod layout;
mod live;
mod load;
pub mod ports;
mod ready;

use data::DataDir;
use fleet::{Fleet, Role};
use interrupt::Interrupts;
use layout::{Layout, Net, PortMove};
use live::Live;
use load::Load;

/// Between two lines or tables: sidecars report once a second.
const SHOW_PERIOD: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
The shop is frontend -> orders (2 replicas, HTTP/1.1) -> payments (3 replicas, gRPC). One replica of payments is \
planted as slow, and fails on some requests. The policy may be edited while it runs: ./.outrider/demo/policy/shop.yaml.

Traces go where the OTEL_* variables say, as \
OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318.

Examples:
  outrider demo
  outrider demo --rate 200 --duration 1m
  outrider demo --duration 30s -o json | tail -1
  outrider demo --move-port 14010=8000 --move-port 8080=18080";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct DemoArgs {
    /// Requests a second to the shop, whether or not it keeps up; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 50, allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(0..=2_000))]
    rate: u32,
    /// Ends by itself after this long, counted from the first request. Default: until Ctrl-C.
    #[arg(long, value_name = "DURATION")]
    duration: Option<GepDuration>,
    /// Goes on from what is in ./.outrider/demo, and leaves it there at the end. Without this it begins anew.
    #[arg(long)]
    keep_data: bool,
    /// What to print each second: a table (a line where there is no terminal), or JSON.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
    /// Binds a port somewhere else, wherever it occurs: 14010=8000.
    #[arg(long = "move-port", value_name = "PORT=PORT")]
    moves: Vec<PortMove>,
    /// The loopback network in which each pod has an address of its own.
    #[arg(long, value_name = "127.N", default_value = "127.14")]
    pods: Net,
    /// What a trace's id is appended to for a link on the shop's page. Default: Jaeger's on this machine, if the OTEL_*
    /// variables name a collector.
    #[arg(long, value_name = "URL")]
    trace_link: Option<http::Uri>,
}

pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let layout = Layout::new(args.pods, &args.moves)?;
    ports::check_free(&layout)?;
    let mut interrupts = Interrupts::listen()?;
    let data = DataDir::open("demo", args.keep_data)?;
    data.write_policy(&layout)?;
    let mut fleet = Fleet::new(data.logs())?;
    let mut load = None;
    let ended = tokio::select! {
        () = interrupts.next() => Ok(()),
        ended = serve(&args, &layout, &data, &mut fleet, &mut load) => match ended {
            // `| head -3` has seen enough.
            Err(error) if reader_went_away(&error) => Ok(()),
            ended => ended,
        },
    };
    let summary = match load {
        Some(load) => Some(load.stop().await),
        None => None,
    };
    eprintln!("Ending.");
    fleet.stop(&mut interrupts).await;
    if let Some(summary) = summary {
        eprintln!("{summary}");
    }
    match ended {
        Ok(()) => data.close(args.keep_data),
        // The logs say why.
        Err(error) => {
            eprintln!("What it has written is kept until the next start: {}", data.path().display());
            Err(error)
        }
    }
}

/// Starts everything, and shows it until the duration is over.
async fn serve(
    args: &DemoArgs,
    layout: &Layout,
    data: &DataDir,
    fleet: &mut Fleet,
    load: &mut Option<Load>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    start(args, layout, data, fleet).await?;
    let api = Api::open(&ApiArgs {
        api: layout.api_url().parse().context("the API's URL is made here")?,
        credential_file: Some(data.operator_token()),
    })?;
    fleet.guard(ready::published(&api, layout)).await??;
    fleet.guard(ready::answers(&format!("{}/api/orders", layout.edge_url()), "the shop")).await??;
    eprintln!("The shop answers, {:.1} s after the start.\n", begun.elapsed().as_secs_f64());
    let load = load.insert(Load::start(&layout.edge_url(), args.rate)?);
    let mut live = Live::new(Screen::stdout(), args.output);
    eprintln!("{}", live::invitation(layout));
    fleet.guard(show(args, &api, load, &mut live)).await?
}

async fn show(args: &DemoArgs, api: &Api, load: &Load, live: &mut Live) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(SHOW_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let stat = api.get::<StatAnswer>("/v1/stat").await;
        live.show(begun.elapsed(), stat, &load.view())?;
        if args.duration.is_some_and(|duration| begun.elapsed() >= duration.get()) {
            return Ok(());
        }
    }
}

/// The control plane first, then everything else at once.
async fn start(args: &DemoArgs, layout: &Layout, data: &DataDir, fleet: &mut Fleet) -> anyhow::Result<()> {
    let begun = Instant::now();
    fleet.start("control-plane", Role::ControlPlane, layout.control_plane_arguments(data))?;
    fleet.guard(ready::answers(&format!("{}/ready", layout.api_url()), "the control plane")).await??;
    eprintln!("Control plane ready in {:.1} s.", begun.elapsed().as_secs_f64());

    let begun = Instant::now();
    let trace_link = trace_link(args);
    for pod in &layout.pods {
        let secret = data.join_secret(pod.service);
        fleet.guard(ready::exists(&secret)).await??;
        fleet.start(pod.name, Role::App, layout.app_arguments(pod, trace_link.as_deref()))?;
        let role = if pod.is_edge() { Role::EdgeSidecar } else { Role::Sidecar };
        fleet.start(&format!("{}-sidecar", pod.name), role, layout.sidecar_arguments(pod, data, &secret))?;
    }
    for pod in &layout.pods {
        let url = format!("http://{}/ready", layout.health(pod));
        fleet.guard(ready::answers(&url, &format!("the sidecar of {}", pod.name))).await??;
    }
    eprintln!(
        "{} apps and their sidecars ready in {:.1} s.",
        layout.pods.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Jaeger's usual place, if anything collects traces at all.
fn trace_link(args: &DemoArgs) -> Option<String> {
    let collected = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let usual = || collected.then(|| "http://localhost:16686/trace/".to_owned());
    args.trace_link.as_ref().map(ToString::to_string).or_else(usual)
}

#[cfg(test)]
mod tests;
