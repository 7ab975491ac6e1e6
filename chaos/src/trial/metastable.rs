//! A CPU-bound backend is slowed for a while, by shares and times of a grid, and its callers try again.

use std::time::Duration;

use super::backend::{Capacity, Order};
use super::bins::{Bins, RECOVERED};
use super::outcome::{Bar, Run, percent, time};
use super::plot::Panel;
use super::policy::Route;
use super::schedule::Phase;
use super::system::System;
use super::topology::Topology;
use super::world::{Apps, Kind, World};
use super::{Grid, Stage};

/// 200 requests a second on a CPU of its own.
const CAPACITY: Capacity = Capacity::Cpu { service: Duration::from_millis(5) };
const CLIENTS: u8 = 4;
/// 0.7 of the capacity: with every request tried twice it is 1.4.
const OFFERED_PER_SECOND: f64 = 140.0;
const PATIENCE: Duration = Duration::from_secs(1);
const RECOVERY_MAX: Duration = Duration::from_secs(5);
/// Before the trigger, which must be good; and after it, in which a cell recovers or is stuck.
const STEADY: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(12);
const SHARES: [f64; 3] = [0.5, 0.7, 0.9];
const SECONDS: [u64; 4] = [1, 3, 10, 30];
/// Between cells, for retries to run out.
const PAUSE: Duration = Duration::from_secs(2);

/// A trigger: how much is taken away, and for how long.
#[derive(Debug, Clone, Copy)]
struct Cell {
    share: f64,
    length: Duration,
    /// As it is called in the grid, before anything is shortened.
    seconds: u64,
}

fn cells(stage: &Stage<'_>) -> Vec<Cell> {
    let of = |share: f64, seconds: u64| {
        let full = Duration::from_secs(seconds);
        Cell { share, seconds, length: stage.setting.time_at_least(full, Duration::from_secs(1)) }
    };
    match stage.setting.grid {
        Grid::Full => SHARES.iter().flat_map(|share| SECONDS.map(|seconds| of(*share, seconds))).collect(),
        Grid::Coarse => vec![of(0.5, 1), of(0.9, 10)],
    }
}

pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Run> {
    let route = Route { timeout: PATIENCE, attempts: 1 };
    let topology = Topology::star(stage.setting.net, CLIENTS);
    let mut world = stage.world(&stage.folder, topology, route, Apps::backend(CAPACITY), None).await?;
    let watched = stage.setting.time_at_least(WATCHED, RECOVERY_MAX + Duration::from_secs(2));
    let cells = cells(stage);
    let mut figures = Vec::new();
    let mut lines = vec![Vec::new(); SHARES.len()];
    let (mut in_time, mut stuck) = (0, 0);
    for cell in &cells {
        let seen = one(&mut world, *cell, watched).await?;
        in_time += usize::from(seen.recovery.is_some_and(|recovery| recovery <= RECOVERY_MAX));
        // What was not well before shows nothing of the trigger.
        stuck += usize::from(seen.recovery.is_none() && seen.was_well());
        let found = seen.found();
        stage.tell(&format!("{} s without {:.0} %: {found}", cell.seconds, cell.share * 100.0));
        figures.push((format!("{} s without {:.0} % of the CPU", cell.seconds, cell.share * 100.0), found));
        if let Some(panel) = SHARES.iter().position(|share| (share - cell.share).abs() < 1e-9) {
            let height = seen.recovery.unwrap_or(watched).as_secs_f64();
            lines[panel].push((cell.length.as_secs_f64(), height));
        }
    }
    let all = cells.len();
    let bars = match stage.system {
        System::Unprotected => vec![Bar::new(
            "cells that stay stuck",
            "at least a third: that is the trouble",
            format!("{stuck} of {all}"),
            stuck * 3 >= all,
        )],
        _ => vec![Bar::new(
            format!("cells that recover within {}", time(RECOVERY_MAX)),
            format!("{all} of {all}"),
            format!("{in_time} of {all}"),
            in_time == all,
        )],
    };
    let run = stage.found(world.lags(), bars, figures, lines);
    world.stop().await?;
    Ok(run)
}

struct Seen {
    /// The share that was good before the trigger.
    before: Option<f64>,
    /// `None`: not while it was watched.
    recovery: Option<Duration>,
}

impl Seen {
    fn was_well(&self) -> bool {
        self.before.is_some_and(|share| share >= RECOVERED)
    }

    fn found(&self) -> String {
        let found = self.recovery.map_or_else(|| "stuck".to_owned(), time);
        match self.before.filter(|_| !self.was_well()) {
            Some(before) => format!("{found} (only {} was good before)", percent(before)),
            None => found,
        }
    }
}

async fn one(world: &mut World<'_>, cell: Cell, watched: Duration) -> anyhow::Result<Seen> {
    let over = STEADY + cell.length;
    let end = over + watched;
    let kind = Kind {
        phases: vec![Phase::new(end, OFFERED_PER_SECOND / f64::from(CLIENTS))],
        patience: PATIENCE,
        retries: 1,
        field: None,
    };
    let orders = [(STEADY, Order::TakeAway(cell.share)), (over, Order::TakeAway(0.0))];
    let samples = world.load(world.streams(&[kind]), &orders).await?;
    let bins = Bins::of(&samples, PATIENCE * 2, end);
    world.order(Order::Clear).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(Seen { before: bins.share(Duration::ZERO, STEADY), recovery: bins.recovery(over, end) })
}

pub fn panels() -> Vec<Panel> {
    let panel = |share: f64| {
        let title =
            format!("{:.0} % of the CPU taken away (dashed: the goal; the top: stuck)", share * 100.0);
        Panel::new(&title, "for so many seconds", "recovered after, s").level(RECOVERY_MAX.as_secs_f64())
    };
    SHARES.iter().map(|share| panel(*share)).collect()
}
