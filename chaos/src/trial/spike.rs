//! From half of what a backend can do to 1.4 times as much, at once.

use std::time::Duration;

use super::backend::Capacity;
use super::bins::Bins;
use super::outcome::{Bar, Run, percent, time};
use super::plot::Panel;
use super::policy::Route;
use super::schedule::Phase;
use super::system::System;
use super::topology::Topology;
use super::world::{Apps, Kind};
use super::{Setting, Stage};

/// 1,000 requests a second.
const CAPACITY: Capacity = Capacity::Rate { workers: 1, service: Duration::from_millis(1) };
const CLIENTS: u8 = 20;
const BEFORE: f64 = 0.5;
const AFTER: f64 = 1.4;
const OBJECTIVE: Duration = Duration::from_millis(100);
/// Ten times the objective: late answers are seen as late, not cut off.
const PATIENCE: Duration = Duration::from_secs(1);
const SETTLED_MAX: Duration = Duration::from_millis(100);
/// Of what the backend can do.
const SETTLED: f64 = 0.95;

fn times(setting: &Setting<'_>) -> (Duration, Duration) {
    let step = setting.time_at_least(Duration::from_secs(3), Duration::from_secs(1));
    (step, step + setting.time_at_least(Duration::from_secs(7), Duration::from_secs(2)))
}

pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Run> {
    let (step, end) = times(stage.setting);
    let route = Route { timeout: OBJECTIVE, attempts: 1 };
    let topology = Topology::star(stage.setting.net, CLIENTS);
    let mut world = stage.world(&stage.folder, topology, route, Apps::backend(CAPACITY), None).await?;
    let each = CAPACITY.per_second() / f64::from(CLIENTS);
    let kind = Kind {
        phases: vec![Phase::new(step, each * BEFORE), Phase::new(end.saturating_sub(step), each * AFTER)],
        patience: PATIENCE,
        retries: 0,
        field: None,
    };
    let samples = world.load(world.streams(&[kind]), &[]).await?;
    let bins = Bins::of(&samples, OBJECTIVE, end);
    let settled = bins.settled(step, end, CAPACITY.per_second(), SETTLED);
    let p99 = bins.quantile(step + SETTLED_MAX, end, 0.99);
    let got = p99.map_or_else(|| "no answer".to_owned(), time);
    let in_time = p99.is_some_and(|p99| p99 <= OBJECTIVE);
    let bars = match stage.system {
        System::Unprotected => vec![Bar::new(
            "99 % of answers after the step",
            format!("later than {}: that is the trouble", time(OBJECTIVE)),
            got.clone(),
            !in_time,
        )],
        _ => vec![
            Bar::within(
                "goodput stays at 95 % of what the backend can do, after the step",
                SETTLED_MAX,
                settled,
            ),
            Bar::new(
                format!("99 % of answers later than {} after the step", time(SETTLED_MAX)),
                format!("within {}", time(OBJECTIVE)),
                got.clone(),
                in_time,
            ),
        ],
    };
    let share = |from, to| bins.share(from, to).map_or_else(String::new, percent);
    let figures = vec![
        ("good before the step".to_owned(), share(Duration::ZERO, step)),
        (
            "good answers a second after it".to_owned(),
            format!("{:.0}", bins.goodput(step + SETTLED_MAX, end)),
        ),
        ("settled after".to_owned(), settled.map_or_else(|| "never".to_owned(), time)),
        ("99 % of answers after it".to_owned(), got),
    ];
    let run = stage.found(world.lags(), bars, figures, vec![bins.goodput_line(1), bins.latency_line(1)]);
    world.stop().await?;
    Ok(run)
}

pub fn panels(setting: &Setting<'_>) -> Vec<Panel> {
    let (step, end) = times(setting);
    let (from, to) = (step.as_secs_f64(), end.as_secs_f64());
    let (before, after) = (CAPACITY.per_second() * BEFORE, CAPACITY.per_second() * AFTER);
    vec![
        Panel::new(
            "Good answers (dashed: what the backend can do; grey: asked for)",
            "due at, s",
            "a second",
        )
        .shaded(from, to)
        .asked(&[(0.0, before), (from, before), (from, after), (to, after)])
        .level(CAPACITY.per_second()),
        Panel::new("Latency of what was answered well (dashed: the objective)", "due at, s", "99 %, ms")
            .shaded(from, to)
            .level(OBJECTIVE.as_secs_f64() * 1_000.0),
    ]
}
