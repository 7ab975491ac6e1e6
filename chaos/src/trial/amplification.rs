//! Five calls one after another, each of which may be tried three times, and a leaf that fails.

use std::time::Duration;

use super::Stage;
use super::backend::{Capacity, Order};
use super::bins::Bins;
use super::hop::Forwards;
use super::outcome::{Bar, Run, percent};
use super::plot::Panel;
use super::policy::Route;
use super::schedule::Phase;
use super::system::System;
use super::topology::Topology;
use super::traffic::Sample;
use super::world::{Apps, Kind, World};

const CALLS: u8 = 5;
const ATTEMPTS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(5);
const LENGTH: Duration = Duration::from_secs(10);
/// Before anything fails, and not counted: what learns (limits, latencies) learns from a leaf that is well.
const WARM_UP: Duration = Duration::from_secs(5);
/// Ten times the least rate of a retry budget (GEP-3388: 10 a second), so that its share decides.
const ROOTS_PER_SECOND: f64 = 100.0;
/// Each becomes 3^5 at the leaf.
const UNPROTECTED_ROOTS_PER_SECOND: f64 = 5.0;
const UNPROTECTED_MIN: f64 = 200.0;
/// Of a leaf that fails at times.
const FAILING: f64 = 0.1;
const SUCCESS: f64 = 0.995;

/// Load at the leaf, over what the root asked for.
fn load_max(kind: Forwards) -> f64 {
    match kind {
        Forwards::All | Forwards::Trace => 1.2,
        Forwards::Nothing => 2.5,
    }
}

/// What was seen with one kind of apps.
struct Seen {
    kind: Forwards,
    /// At the leaf that fails wholly, times what the root asked for.
    load: Option<f64>,
    /// At the root, of a leaf that fails at times.
    success: Option<f64>,
}

pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Run> {
    // Without a mesh nobody reads what an app passes on.
    let kinds: &[Forwards] = match stage.system {
        System::Unprotected => &[Forwards::Nothing],
        _ => &Forwards::ALL,
    };
    let mut seen = Vec::new();
    let mut lags = Vec::new();
    for kind in kinds {
        stage.tell(&format!("apps that forward {}", kind.name()));
        let folder = stage.folder.join(format!("{kind:?}").to_lowercase());
        let mut world = chain(stage, &folder, *kind).await?;
        seen.push(one(&mut world, stage, *kind).await?);
        lags.extend_from_slice(world.lags());
        world.stop().await?;
    }
    let bars = seen.iter().flat_map(|seen| bars(stage.system, seen)).collect();
    let figures = seen.iter().flat_map(figures).collect();
    let line = |of: &dyn Fn(&Seen) -> Option<f64>| {
        let points =
            seen.iter().zip(1_u32..).filter_map(|(seen, number)| Some((f64::from(number), of(seen)?)));
        let points: Vec<_> = points.collect();
        match points[..] {
            // The same whatever the apps forward.
            [(_, only)] => vec![(1.0, only), (3.0, only)],
            _ => points,
        }
    };
    let lines = vec![line(&|seen| seen.load), line(&|seen| seen.success.map(|share| share * 100.0))];
    Ok(stage.found(&lags, bars, figures, lines))
}

async fn chain<'g>(
    stage: &'g Stage<'g>,
    folder: &'g std::path::Path,
    forwards: Forwards,
) -> anyhow::Result<World<'g>> {
    // Where there is a mesh, trying again is its work.
    let attempts = if stage.system == System::Unprotected { ATTEMPTS } else { 1 };
    let route = Route { timeout: PATIENCE, attempts: ATTEMPTS };
    let apps = Apps { capacity: Capacity::Unbounded, forwards, attempts };
    stage.world(folder, Topology::chain(stage.setting.net, CALLS), route, apps, None).await
}

async fn one(world: &mut World<'_>, stage: &Stage<'_>, kind: Forwards) -> anyhow::Result<Seen> {
    let length = stage.setting.time_at_least(LENGTH, Duration::from_secs(2));
    let (rate, retries) = match stage.system {
        System::Unprotected => (UNPROTECTED_ROOTS_PER_SECOND, ATTEMPTS - 1),
        _ => (ROOTS_PER_SECOND, 0),
    };
    let load =
        |length| Kind { phases: vec![Phase::new(length, rate)], patience: PATIENCE, retries, field: None };
    let warm_up = stage.setting.time_at_least(WARM_UP, Duration::from_secs(1));
    world.load(world.streams(&[load(warm_up)]), &[]).await?;
    world.order(Order::Fail(FAILING)).await?;
    let samples = world.load(world.streams(&[load(length)]), &[]).await?;
    let success = Bins::of(&samples, PATIENCE, length).share(Duration::ZERO, length);
    world.order(Order::Fail(1.0)).await?;
    let before = world.count().await?.arrived;
    let samples = world.load(world.streams(&[load(length)]), &[]).await?;
    let arrived = world.count().await?.arrived.saturating_sub(before);
    Ok(Seen { kind, load: times(arrived, &samples), success })
}

fn times(arrived: u64, samples: &[Sample]) -> Option<f64> {
    let count = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let asked = u64::try_from(samples.len()).ok().filter(|asked| *asked > 0)?;
    Some(count(arrived) / count(asked))
}

fn bars(system: System, seen: &Seen) -> Vec<Bar> {
    let got = seen.load.map_or_else(|| "nothing".to_owned(), |load| format!("{load:.2} times"));
    if system == System::Unprotected {
        let met = seen.load.is_some_and(|load| load >= UNPROTECTED_MIN);
        let goal = format!("at least {UNPROTECTED_MIN} times: that is the trouble");
        return vec![Bar::new("load at a leaf that fails wholly", goal, got, met)];
    }
    let kind = seen.kind.name();
    let max = load_max(seen.kind);
    vec![
        Bar::new(
            format!("load at a leaf that fails wholly, apps that forward {kind}"),
            format!("at most {max} times"),
            got,
            seen.load.is_some_and(|load| load <= max),
        ),
        Bar::at_least(
            format!("success at the root, 10 % of the leaf's answers failing, apps that forward {kind}"),
            SUCCESS,
            seen.success,
        ),
    ]
}

fn figures(seen: &Seen) -> Vec<(String, String)> {
    let kind = seen.kind.name();
    vec![
        (
            format!("forward {kind}: load at the leaf that fails wholly"),
            seen.load.map_or_else(String::new, |load| format!("{load:.2} times")),
        ),
        (
            format!("forward {kind}: success at the root, 10 % failing"),
            seen.success.map_or_else(String::new, percent),
        ),
    ]
}

pub fn panels() -> Vec<Panel> {
    let kinds = "apps that forward 1: outrider-*, 2: traceparent, 3: nothing";
    vec![
        Panel::new("Load at a leaf that fails wholly (dashed: the goal of 1 and 2)", kinds, "times")
            .log()
            .level(1.2),
        Panel::new("Success at the root, 10 % of the leaf's answers failing", kinds, "%").level(100.0),
    ]
}
