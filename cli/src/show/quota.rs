//! `outrider quota`: who has used what since the mesh began.

use comfy_table::{Cell, Table};
use outrider_shared::api::QuotaAnswer;

use super::Shown;
use crate::table::{Palette, bytes, number, table};

pub struct Quota;

impl Shown for Quota {
    const PATH: &'static str = "/v1/quota";
    type Answer = QuotaAnswer;

    fn table(answer: &QuotaAnswer, palette: Palette) -> Table {
        let mut table = table(
            palette,
            &["service", "peer", "requests", "refused", "failed", "bytes received", "bytes sent"],
        );
        for row in &answer.rows {
            table.add_row([
                Cell::new(&row.service),
                Cell::new(&row.peer),
                number(row.requests),
                number(row.refusals),
                number(row.failures),
                number(bytes(row.bytes_received)),
                number(bytes(row.bytes_sent)),
            ]);
        }
        table
    }
}
