//! `outrider upstreams`: what each sidecar sends to, and how it finds it.

use comfy_table::{Cell, Table};
use outrider_shared::api::{SidecarUpstreams, UpstreamsAnswer};
use outrider_shared::session::{EndpointView, UpstreamView};

use super::Shown;
use crate::table::{Palette, microseconds, number, short, table};

pub struct Upstreams;

impl Shown for Upstreams {
    const PATH: &'static str = "/v1/upstreams";
    type Answer = UpstreamsAnswer;

    fn table(answer: &UpstreamsAnswer, palette: Palette) -> Table {
        let mut table = table(
            palette,
            &[
                "from",
                "upstream",
                "requests",
                "failed",
                "refused",
                "moved",
                "p50",
                "p99",
                "permits",
                "endpoint",
                "state",
                "in flight",
                "ewma",
            ],
        );
        for sidecar in &answer.sidecars {
            for upstream in &sidecar.upstreams {
                let mut endpoints = upstream.endpoints.iter();
                let mut row = totals(sidecar, upstream);
                row.extend(endpoint(endpoints.next(), palette));
                table.add_row(row);
                for next in endpoints {
                    let mut row: Vec<Cell> = (0..9).map(|_| Cell::new("")).collect();
                    row.extend(endpoint(Some(next), palette));
                    table.add_row(row);
                }
            }
        }
        table
    }
}

fn totals(sidecar: &SidecarUpstreams, upstream: &UpstreamView) -> Vec<Cell> {
    vec![
        Cell::new(format!("{} {}", sidecar.service, short(sidecar.sidecar.as_str()))),
        Cell::new(&upstream.name),
        number(upstream.requests),
        number(upstream.failures),
        number(upstream.refusals),
        number(upstream.redispatches),
        number(microseconds(upstream.p50_us)),
        number(microseconds(upstream.p99_us)),
        number(format!("{}/{}", upstream.in_use, upstream.limit)),
    ]
}

fn endpoint(endpoint: Option<&EndpointView>, palette: Palette) -> [Cell; 4] {
    let Some(endpoint) = endpoint else {
        return [palette.bad("none"), Cell::new(""), Cell::new(""), Cell::new("")];
    };
    let state = match (&endpoint.cause, endpoint.retry_in_ms) {
        (Some(cause), Some(ms)) => format!("{}: {cause}, tried again in {ms} ms", endpoint.state),
        (Some(cause), None) => format!("{}: {cause}", endpoint.state),
        (None, _) => endpoint.state.clone(),
    };
    [
        Cell::new(&endpoint.address),
        if endpoint.cause.is_some() { palette.bad(state) } else { palette.good(state) },
        number(endpoint.in_flight),
        number(microseconds(endpoint.ewma_us)),
    ]
}
