//! A backend near its capacity stands still for a while, and its callers try again.

use std::time::Duration;

use super::backend::{Capacity, Order};
use super::bins::Bins;
use super::outcome::{Bar, Run, percent, time};
use super::plot::Panel;
use super::policy::Route;
use super::schedule::Phase;
use super::system::System;
use super::topology::Topology;
use super::world::{Apps, Kind};
use super::{Setting, Stage};

/// 300 requests a second.
pub const CAPACITY: Capacity = Capacity::Rate { workers: 3, service: Duration::from_millis(10) };
const CLIENTS: u8 = 4;
const OFFERED_PER_SECOND: f64 = 280.0;
const PATIENCE: Duration = Duration::from_secs(1);
const RECOVERY_MAX: Duration = Duration::from_secs(2);
/// Tenths of a second in a point of the plot.
const MERGED: usize = 5;

struct Times {
    outage: Duration,
    over: Duration,
    end: Duration,
}

impl Times {
    fn of(setting: &Setting<'_>) -> Self {
        let outage = setting.time_at_least(Duration::from_secs(5), Duration::from_secs(2));
        let over = outage + setting.time_at_least(Duration::from_secs(10), Duration::from_secs(2));
        let end = over + setting.time_at_least(Duration::from_secs(20), Duration::from_secs(5));
        Self { outage, over, end }
    }
}

pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Run> {
    let Times { outage, over, end } = Times::of(stage.setting);
    let route = Route { timeout: PATIENCE, attempts: 1 };
    let topology = Topology::star(stage.setting.net, CLIENTS);
    let mut world = stage.world(&stage.folder, topology, route, Apps::backend(CAPACITY), None).await?;
    let kind = Kind {
        phases: vec![Phase::new(end, OFFERED_PER_SECOND / f64::from(CLIENTS))],
        patience: PATIENCE,
        retries: 1,
        field: None,
    };
    stage.tell(&format!("{} s of load, an outage in it", end.as_secs()));
    let orders = [(outage, Order::Hang), (over, Order::Resume)];
    let samples = world.load(world.streams(&[kind]), &orders).await?;
    let count = world.count().await?;
    let bins = Bins::of(&samples, PATIENCE * 2, end);
    let recovery = bins.recovery(over, end);
    let bars = match stage.system {
        System::Unprotected => vec![Bar::new(
            "recovers after the outage",
            "never: that is the trouble",
            recovery.map_or_else(|| "never".to_owned(), time),
            recovery.is_none(),
        )],
        _ => vec![Bar::within(
            "95 % of what is asked for is good again after the outage",
            RECOVERY_MAX,
            recovery,
        )],
    };
    let share = |from, to| bins.share(from, to).map_or_else(String::new, percent);
    let figures = vec![
        ("good before the outage".to_owned(), share(Duration::ZERO, outage)),
        ("good during the outage".to_owned(), share(outage, over)),
        ("good after the outage".to_owned(), share(over, end)),
        ("requests that arrived at the backend".to_owned(), count.arrived.to_string()),
        ("worked on by it".to_owned(), count.served.to_string()),
        ("of these for a caller that had gone".to_owned(), count.wasted.to_string()),
    ];
    let lines = vec![bins.goodput_line(MERGED), bins.latency_line(MERGED)];
    let run = stage.found(world.lags(), bars, figures, lines);
    world.stop().await?;
    Ok(run)
}

pub fn panels(setting: &Setting<'_>) -> Vec<Panel> {
    let Times { outage, over, end } = Times::of(setting);
    let (from, to) = (outage.as_secs_f64(), over.as_secs_f64());
    vec![
        Panel::new("Good answers (grey: asked for; shaded: the outage)", "due at, s", "a second")
            .shaded(from, to)
            .asked(&[(0.0, OFFERED_PER_SECOND), (end.as_secs_f64(), OFFERED_PER_SECOND)]),
        Panel::new("Latency of what was answered well, with the second attempt's", "due at, s", "99 %, ms")
            .shaded(from, to),
    ]
}
