//! `outrider events`: what happened to upstreams, as their sidecars tell it.

use std::collections::HashSet;

use comfy_table::{Cell, Table};
use outrider_shared::api::{SidecarUpstreams, UpstreamsAnswer};
use outrider_shared::session::EventView;
use outrider_shared::{ServiceId, SidecarId};
use serde_json::{Value, json};

use super::Shown;
use crate::table::{Palette, short, table};

/// Sidecars that are silent and whose events are remembered while somebody watches. 1,024: as many as connect anew at one time;
/// those that are gone for good come no more, however many there were.
const SILENT_MAX: usize = 1_024;

pub struct Events;

impl Shown for Events {
    const PATH: &'static str = "/v1/upstreams";
    type Answer = UpstreamsAnswer;

    fn table(answer: &UpstreamsAnswer, palette: Palette) -> Table {
        let mut table = table(palette, &["when", "sidecar", "upstream", "endpoint", "what"]);
        for (sidecar, event) in all(answer) {
            table.add_row([
                Cell::new(clock(event.unix_ms)),
                Cell::new(format!("{} {}", sidecar.service, short(sidecar.sidecar.as_str()))),
                Cell::new(&event.upstream),
                Cell::new(event.endpoint.as_deref().unwrap_or_default()),
                Cell::new(&event.what),
            ]);
        }
        table
    }

    #[expect(refining_impl_trait, reason = "whoever knows which answer it is may know what it becomes")]
    fn json(answer: &UpstreamsAnswer) -> Value {
        json!({ "events": all(answer).into_iter().map(object).collect::<Vec<_>>() })
    }

    /// One object for each event that is new.
    fn changes(before: Option<&UpstreamsAnswer>, now: &UpstreamsAnswer) -> Option<Vec<Value>> {
        // A sidecar that was started anew counts from 1 again: a number alone names no event.
        let name = |(sidecar, event): &Told<'_>| (sidecar.sidecar.clone(), event.number, event.unix_ms);
        let known: HashSet<_> = before.map(all).unwrap_or_default().iter().map(name).collect();
        let new = all(now).into_iter().filter(|told| !known.contains(&name(told)));
        Some(new.map(object).collect())
    }

    /// Who says nothing for a while, since it connects anew, tells the same again. Of those, the ones that were silent first
    /// are forgotten first.
    fn remembered(last: Option<UpstreamsAnswer>, mut now: UpstreamsAnswer) -> UpstreamsAnswer {
        let known: HashSet<SidecarId> = now.sidecars.iter().map(|of| of.sidecar.clone()).collect();
        let silent =
            last.into_iter().flat_map(|last| last.sidecars).filter(|of| !known.contains(&of.sidecar));
        now.sidecars.extend(silent.take(SILENT_MAX).collect::<Vec<_>>());
        now
    }

    fn nothing(answer: &UpstreamsAnswer, service: Option<&ServiceId>) -> String {
        if answer.sidecars.is_empty() {
            return super::Upstreams::nothing(answer, service);
        }
        let of = service.map_or_else(String::new, |service| format!(" of {service}"));
        format!("No events{of}: no breaker has opened, no endpoint was left out, no actor was started anew.")
    }
}

type Told<'a> = (&'a SidecarUpstreams, &'a EventView);

/// The oldest first.
fn all(answer: &UpstreamsAnswer) -> Vec<Told<'_>> {
    let of = answer.sidecars.iter().flat_map(|of| of.events.iter().map(move |event| (of, event)));
    let mut events: Vec<_> = of.collect();
    events.sort_by_key(|(_, event)| event.unix_ms);
    events
}

fn object((sidecar, event): Told<'_>) -> Value {
    json!({
        "unix_ms": event.unix_ms,
        "sidecar": sidecar.sidecar,
        "service": sidecar.service,
        "number": event.number,
        "upstream": event.upstream,
        "endpoint": event.endpoint,
        "what": event.what,
    })
}

/// In the reader's own time.
fn clock(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(at) => at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => unix_ms.to_string(),
    }
}
