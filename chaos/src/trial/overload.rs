//! From half of what a backend can do to ten times as much, step by step.

use std::time::Duration;

use super::backend::Order;
use super::bins::Bins;
use super::outcome::{Bar, Run, percent, time};
use super::plot::Panel;
use super::policy::Route;
use super::retry_storm::CAPACITY;
use super::schedule::Phase;
use super::system::System;
use super::topology::Topology;
use super::world::{Apps, Kind};
use super::{Grid, Stage};

const CLIENTS: u8 = 4;
const LOADS: [f64; 8] = [0.5, 1.0, 1.5, 2.0, 4.0, 6.0, 8.0, 10.0];
const COARSE: [f64; 3] = [1.0, 2.0, 10.0];
const LENGTH: Duration = Duration::from_secs(8);
const OBJECTIVE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
/// Of the peak, at the highest load.
const KEPT: f64 = 0.95;
/// Below this share of the peak there is a trouble to prevent.
const COLLAPSED: f64 = 0.5;
/// Between loads, for what is under way to run out.
const PAUSE: Duration = Duration::from_secs(1);

pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Run> {
    let route = Route { timeout: OBJECTIVE, attempts: 1 };
    let topology = Topology::star(stage.setting.net, CLIENTS);
    let mut world = stage.world(&stage.folder, topology, route, Apps::backend(CAPACITY), None).await?;
    let length = stage.setting.time_at_least(LENGTH, Duration::from_secs(2));
    let loads: &[f64] = match stage.setting.grid {
        Grid::Full => &LOADS,
        Grid::Coarse => &COARSE,
    };
    let mut figures = Vec::new();
    let mut lines = vec![Vec::new(); 2];
    for load in loads {
        let each = CAPACITY.per_second() * load / f64::from(CLIENTS);
        let phases = vec![Phase::new(length, each)];
        let kind = Kind { phases, patience: PATIENCE, retries: 0, field: None };
        let samples = world.load(world.streams(&[kind]), &[]).await?;
        world.order(Order::Clear).await?;
        tokio::time::sleep(PAUSE).await;
        let bins = Bins::of(&samples, OBJECTIVE, length);
        let goodput = bins.goodput(length / 4, length);
        let p99 = bins.quantile(length / 4, length, 0.99);
        stage.tell(&format!("{load} times: {goodput:.0} good answers a second"));
        let latency = p99.map_or_else(|| "no answer".to_owned(), |p99| format!("99 % within {}", time(p99)));
        figures.push((format!("{load} times"), format!("{goodput:.0} a second, {latency}")));
        lines[0].push((*load, goodput));
        lines[1].extend(p99.map(|p99| (*load, p99.as_secs_f64() * 1_000.0)));
    }
    let peak = lines[0].iter().map(|(_, goodput)| *goodput).fold(0.0, f64::max);
    let last = lines[0].last().map_or(0.0, |(_, goodput)| *goodput);
    let kept = (peak > 0.0).then(|| last / peak);
    let bars = match stage.system {
        System::Unprotected => vec![Bar::new(
            "goodput at 10 times, of the peak",
            format!("below {}: that is the trouble", percent(COLLAPSED)),
            kept.map_or_else(|| "nothing".to_owned(), percent),
            kept.is_none_or(|kept| kept < COLLAPSED),
        )],
        _ => vec![Bar::at_least("goodput at 10 times, of the peak", KEPT, kept)],
    };
    let run = stage.found(world.lags(), bars, figures, lines);
    world.stop().await?;
    Ok(run)
}

pub fn panels() -> Vec<Panel> {
    vec![
        Panel::new(
            "Good answers (dashed: what the backend can do; grey: asked for)",
            "asked for, times that",
            "a second",
        )
        .asked(&[(LOADS[0], CAPACITY.per_second() * LOADS[0]), (1.0, CAPACITY.per_second())])
        .level(CAPACITY.per_second()),
        Panel::new(
            "Latency of what was answered well (dashed: the objective)",
            "asked for, times that",
            "99 %, ms",
        )
        .level(OBJECTIVE.as_secs_f64() * 1_000.0),
    ]
}
