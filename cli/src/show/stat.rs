//! `outrider stat`: how each service fares.

use comfy_table::{Cell, Table};
use outrider_shared::api::{ServiceStat, StatAnswer};

use super::Shown;
use crate::table::{Palette, milliseconds, number, percent, principal, remaining, table};

/// Peers that are named; more are counted.
const PEERS_NAMED: usize = 3;

pub struct Stat;

impl Shown for Stat {
    const PATH: &'static str = "/v1/stat";
    type Answer = StatAnswer;

    fn table(answer: &StatAnswer, palette: Palette) -> Table {
        stat_table(answer, palette, Breadth::Full)
    }
}

/// How much is shown of each service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breadth {
    /// What fits into 80 columns.
    Narrow,
    Full,
}

pub fn stat_table(answer: &StatAnswer, palette: Palette, breadth: Breadth) -> Table {
    let mut headers = vec!["service", "success", "rps", "p50 ms", "p95", "p99", "peers", "mTLS", "cert"];
    if breadth == Breadth::Full {
        headers.extend(["endpoints", "refused/s"]);
    }
    let mut table = table(palette, &headers);
    for service in &answer.services {
        table.add_row(row(service, palette, breadth));
    }
    table
}

fn row(service: &ServiceStat, palette: Palette, breadth: Breadth) -> Vec<Cell> {
    let certificate = remaining(service.cert_remaining_s);
    let name = match breadth {
        Breadth::Narrow => service.name.clone(),
        Breadth::Full => format!("{}/{}", service.namespace, service.name),
    };
    let name = match service.overload_level {
        0 => Cell::new(name),
        level => palette.doubtful(format!("{name}\noverloaded {level}/10")),
    };
    let mut row = vec![
        name,
        palette.success(service.success),
        number(format!("{:.1}", service.rps)),
        number(bare_milliseconds(service.p50_ms)),
        number(bare_milliseconds(service.p95_ms)),
        number(bare_milliseconds(service.p99_ms)),
        Cell::new(peers(&service.peers)),
        number(percent(service.mtls)),
        match service.cert_remaining_s {
            Some(seconds) if seconds <= 0 => palette.bad(certificate),
            _ => Cell::new(certificate),
        },
    ];
    if breadth == Breadth::Full {
        let endpoints = format!("{} of {}", service.endpoints, service.sidecars);
        row.push(match service.endpoints {
            0 => palette.bad(endpoints),
            published if published < service.sidecars => palette.doubtful(endpoints),
            _ => Cell::new(endpoints),
        });
        row.push(number(format!("{:.1}", service.refusals_per_s)));
    }
    row
}

/// The unit is in the column's header.
fn bare_milliseconds(ms: Option<f64>) -> String {
    milliseconds(ms).trim_end_matches(" ms").to_owned()
}

/// The first few by name, and how many more.
pub fn peers(peers: &[String]) -> String {
    if peers.is_empty() {
        return "-".to_owned();
    }
    let named: Vec<&str> = peers.iter().take(PEERS_NAMED).map(|peer| principal(peer)).collect();
    match peers.len().saturating_sub(PEERS_NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
