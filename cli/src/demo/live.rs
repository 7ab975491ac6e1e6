//! What the demo shows each second: a table on a terminal, a line elsewhere, or JSON.

use std::fmt::Write as _;
use std::io::Stdout;
use std::time::Duration;

use outrider_shared::api::{ServiceStat, StatAnswer};
use outrider_shared::names::port;
use serde::Serialize;

use super::layout::{EDGE, Layout};
use super::load::LoadView;
use crate::api::ApiError;
use crate::screen::{Output, Redraw, Screen};
use crate::show::{self, Breadth};
use crate::table::{Palette, microseconds, milliseconds, percent};

pub struct Live {
    screen: Screen<Stdout>,
    output: Output,
    palette: Palette,
}

/// A line of `-o json`.
#[derive(Serialize)]
struct Line<'a> {
    services: &'a [ServiceStat],
}

impl Live {
    pub fn new(screen: Screen<Stdout>, output: Output) -> Self {
        Self { screen, output, palette: Palette::from_environment() }
    }

    pub fn show(
        &mut self,
        elapsed: Duration,
        stat: Result<StatAnswer, ApiError>,
        load: &LoadView,
    ) -> std::io::Result<()> {
        let stat = match stat {
            Ok(stat) => stat,
            // The next second may bring one; a control plane that has ended is noticed otherwise.
            Err(error) => {
                eprintln!("{error}");
                return Ok(());
            }
        };
        match self.output {
            Output::Json => self.screen.json(&Line { services: &stat.services }),
            Output::Table if self.screen.is_terminal() => {
                let table = show::stat_table(&stat, self.palette, Breadth::Narrow);
                let text = format!("{}\n{table}", load_line(elapsed, load));
                self.screen.draw(&text, Redraw::InPlace)
            }
            Output::Table => self.screen.line(&plain_line(elapsed, &stat.services)),
        }
    }
}

fn load_line(elapsed: Duration, load: &LoadView) -> String {
    format!(
        "{:>4} s   {} requests, {} ok, p50 {}, p99 {} as the client sees it",
        elapsed.as_secs(),
        load.answered,
        percent(load.success()),
        microseconds(load.quantile_us(0.5)),
        microseconds(load.quantile_us(0.99)),
    )
}

/// Without anything that only a terminal understands.
pub fn plain_line(elapsed: Duration, services: &[ServiceStat]) -> String {
    let mut line = format!("{:>4} s", elapsed.as_secs());
    for service in services {
        // Writing into a string does not fail.
        let _ = write!(
            line,
            "  | {} {} at {:.1}/s, p50 {} p95 {} p99 {}, {} {}, mTLS {}",
            service.name,
            percent(service.success),
            service.rps,
            milliseconds(service.p50_ms),
            milliseconds(service.p95_ms),
            milliseconds(service.p99_ms),
            service.peers.len(),
            if service.peers.len() == 1 { "peer" } else { "peers" },
            percent(service.mtls),
        );
    }
    line
}

/// What to open and what to type, as it works in this directory.
pub fn invitation(layout: &Layout) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "outrider".to_owned());
    let moved = |usual: u16, flag: String| if layout.is_moved(usual) { flag } else { String::new() };
    let api = moved(port::API, format!(" --api {}", layout.api_url()));
    let via = moved(port::OUTBOUND, format!(" --via 127.0.0.1:{}", layout.port(port::OUTBOUND)));
    let data = std::path::Path::new(".outrider").join("demo");
    let policy = data.join("policy").join("shop.yaml");
    let credential = data.join("control-plane").join("read-token");
    format!(
        "Open        http://127.0.0.1:{}/    the shop: order something\n\
         \x20           {}/    the control plane, with the credential in {}\n\
         Type next   {program} stat{api}\n\
         \x20           {program} upstreams{api}\n\
         \x20           {program} get http://orders/api/orders{via}\n\
         Edit        {}    and see it take effect\n\
         End with Ctrl-C.\n",
        layout.port(EDGE),
        layout.api_url(),
        credential.display(),
        policy.display(),
    )
}
