//! `outrider events`: what happened to upstreams, as their sidecars tell it.

use comfy_table::{Cell, Table};
use outrider_shared::ServiceId;
use outrider_shared::api::UpstreamsAnswer;

use super::Shown;
use crate::table::{Palette, short, table};

pub struct Events;

impl Shown for Events {
    const PATH: &'static str = "/v1/upstreams";
    type Answer = UpstreamsAnswer;

    fn table(answer: &UpstreamsAnswer, palette: Palette) -> Table {
        let mut table = table(palette, &["when", "sidecar", "upstream", "endpoint", "what"]);
        let of = |sidecar: &outrider_shared::api::SidecarUpstreams| {
            let name = format!("{} {}", sidecar.service, short(sidecar.sidecar.as_str()));
            sidecar.events.iter().map(move |event| (event.clone(), name.clone())).collect::<Vec<_>>()
        };
        let mut events: Vec<_> = answer.sidecars.iter().flat_map(of).collect();
        events.sort_by_key(|(event, _)| event.unix_ms);
        for (event, sidecar) in events {
            table.add_row([
                Cell::new(clock(event.unix_ms)),
                Cell::new(sidecar),
                Cell::new(event.upstream),
                Cell::new(event.endpoint.unwrap_or_default()),
                Cell::new(event.what),
            ]);
        }
        table
    }

    fn nothing(answer: &UpstreamsAnswer, service: Option<&ServiceId>) -> String {
        if answer.sidecars.is_empty() {
            return super::Upstreams::nothing(answer, service);
        }
        let of = service.map_or_else(String::new, |service| format!(" of {service}"));
        format!("No events{of}: no breaker has opened, no endpoint was left out, no actor was started anew.")
    }
}

/// In the reader's own time.
fn clock(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => unix_ms.to_string(),
    }
}
