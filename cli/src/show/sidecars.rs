//! `outrider sidecars`: who has joined, what they have taken, and why one is not published.

use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{Cell, Table};
use outrider_shared::api::{SidecarView, SidecarsAnswer};

use super::Shown;
use crate::table::{Palette, remaining, short, table};

pub struct Sidecars;

impl Shown for Sidecars {
    const PATH: &'static str = "/v1/sidecars";
    type Answer = SidecarsAnswer;

    fn table(answer: &SidecarsAnswer, palette: Palette) -> Table {
        let mut table = table(
            palette,
            &[
                "sidecar",
                "service",
                "address",
                "session",
                "published",
                "snapshot",
                "certificate",
                "build",
                "remarks",
            ],
        );
        for sidecar in &answer.sidecars {
            table.add_row(row(sidecar, palette));
        }
        table
    }
}

fn row(sidecar: &SidecarView, palette: Palette) -> Vec<Cell> {
    let leaf = sidecar.leaf.as_ref().map(|leaf| leaf.not_after_unix_s.saturating_sub(now_unix_s()));
    vec![
        Cell::new(short(sidecar.sidecar.as_str())),
        Cell::new(&sidecar.service),
        Cell::new(sidecar.address.as_deref().unwrap_or("-")),
        if sidecar.connected { palette.good("connected") } else { palette.bad("away") },
        match (&sidecar.unpublished_because, sidecar.published) {
            (_, true) => palette.good("yes"),
            (Some(why), false) => palette.doubtful(format!("no: {why}")),
            (None, false) => palette.doubtful("no"),
        },
        match (&sidecar.nack, sidecar.acked) {
            (Some(reasons), _) => palette.bad(format!("refused: {}", reasons.join("; "))),
            (None, Some(version)) => Cell::new(version),
            (None, None) => Cell::new("-"),
        },
        Cell::new(remaining(leaf)),
        Cell::new(&sidecar.build),
        Cell::new(remarks(sidecar)),
    ]
}

fn remarks(sidecar: &SidecarView) -> String {
    let remarks = [(sidecar.draining, "draining"), (sidecar.bypassable, "bypassable")];
    remarks.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect::<Vec<_>>().join(", ")
}

fn now_unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
