//! A class that matters beside one that rises twelvefold; and one peer of twenty that asks far too much.

use std::time::Duration;

use super::backend::Order;
use super::bins::Bins;
use super::outcome::{Bar, Run, percent, time};
use super::plot::Panel;
use super::policy::{BULK, CLASS, CRITICAL, Route, classes};
use super::retry_storm::CAPACITY;
use super::schedule::Phase;
use super::system::System;
use super::topology::Topology;
use super::traffic::Sample;
use super::world::{Apps, Kind, World};
use super::{Setting, Stage};

const CLIENTS: u8 = 20;
/// Times what the backend can do.
const CRITICAL_LOAD: f64 = 0.4;
const BULK_LOAD: f64 = 0.6;
const RISE: f64 = 12.0;
const PEERS_LOAD: f64 = 0.8;
const MISBEHAVING_LOAD: f64 = 6.0;
const OBJECTIVE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(2);
const CRITICAL_SUCCESS: f64 = 0.999;
/// Of the latency that the critical class has alone.
const CRITICAL_LATENCY: f64 = 2.0;
/// Of what each of the others asks for: together less than the backend can do, and each less than its share.
const PEER_SUCCESS: f64 = 0.95;
const MERGED: usize = 5;

/// When the critical class is no longer alone, when the other rises, and the end.
struct Times {
    joined: Duration,
    risen: Duration,
    end: Duration,
}

impl Times {
    fn of(setting: &Setting<'_>) -> Self {
        let joined = setting.time_at_least(Duration::from_secs(10), Duration::from_secs(2));
        let risen = joined + setting.time_at_least(Duration::from_secs(5), Duration::from_secs(1));
        let end = risen + setting.time_at_least(Duration::from_secs(15), Duration::from_secs(2));
        Self { joined, risen, end }
    }
}

pub async fn run(stage: &Stage<'_>) -> anyhow::Result<Run> {
    let route = Route { timeout: OBJECTIVE, attempts: 1 };
    let topology = Topology::star(stage.setting.net, CLIENTS);
    let server = Some(classes(&topology));
    let mut world = stage.world(&stage.folder, topology, route, Apps::backend(CAPACITY), server).await?;
    let by_class = by_class(&mut world, stage).await?;
    world.order(Order::Clear).await?;
    let by_peer = by_peer(&mut world, stage).await?;
    let bars = match stage.system {
        System::Unprotected => vec![Bar::new(
            "critical requests that succeed while bulk is twelvefold",
            format!("fewer than {}: that is the trouble", percent(CRITICAL_SUCCESS)),
            by_class.success.map_or_else(|| "nothing".to_owned(), percent),
            by_class.success.is_none_or(|share| share < CRITICAL_SUCCESS),
        )],
        _ => vec![
            Bar::at_least(
                "critical requests that succeed while bulk is twelvefold",
                CRITICAL_SUCCESS,
                by_class.success,
            ),
            by_class.latency_bar(),
            Bar::at_least(
                "of what the worst off of 19 peers asks for, beside one that misbehaves",
                PEER_SUCCESS,
                by_peer.worst,
            ),
        ],
    };
    let show = |share: Option<f64>| share.map_or_else(String::new, percent);
    let latency = |latency: Option<Duration>| latency.map_or_else(String::new, time);
    let figures = vec![
        ("critical, alone: 99 % within".to_owned(), latency(by_class.unloaded)),
        ("critical, bulk twelvefold: 99 % within".to_owned(), latency(by_class.loaded)),
        ("critical, bulk twelvefold: success".to_owned(), show(by_class.success)),
        ("bulk, twelvefold: success".to_owned(), show(by_class.bulk)),
        ("19 peers, one misbehaves: success of the worst off".to_owned(), show(by_peer.worst)),
        ("19 peers, one misbehaves: success of all".to_owned(), show(by_peer.others)),
        ("the one that misbehaves: success".to_owned(), show(by_peer.misbehaving)),
    ];
    let lines = vec![
        by_class.bins.share_line(MERGED),
        by_class.bins.latency_line(MERGED),
        by_peer.bins.share_line(MERGED),
    ];
    let run = stage.found(world.lags(), bars, figures, lines);
    world.stop().await?;
    Ok(run)
}

struct ByClass {
    /// The critical class's.
    bins: Bins,
    success: Option<f64>,
    unloaded: Option<Duration>,
    loaded: Option<Duration>,
    bulk: Option<f64>,
}

impl ByClass {
    fn latency_bar(&self) -> Bar {
        let what = "99 % of critical answers while bulk is twelvefold";
        match (self.unloaded, self.loaded) {
            (Some(unloaded), Some(loaded)) => {
                let max = unloaded.mul_f64(CRITICAL_LATENCY);
                Bar::new(
                    what,
                    format!("within {}, twice the unloaded", time(max)),
                    time(loaded),
                    loaded <= max,
                )
            }
            _ => Bar::new(what, "within twice the unloaded", "no answer", false),
        }
    }
}

/// Streams alternate: the critical one of a client, then its other one.
async fn by_class(world: &mut World<'_>, stage: &Stage<'_>) -> anyhow::Result<ByClass> {
    let Times { joined, risen, end } = Times::of(stage.setting);
    let each = CAPACITY.per_second() / f64::from(CLIENTS);
    let kind = |class, phases| Kind { phases, patience: PATIENCE, retries: 0, field: Some((CLASS, class)) };
    let kinds = [
        kind(CRITICAL, vec![Phase::new(end, each * CRITICAL_LOAD)]),
        kind(
            BULK,
            vec![
                Phase::new(joined, 0.0),
                Phase::new(risen.saturating_sub(joined), each * BULK_LOAD),
                Phase::new(end.saturating_sub(risen), each * BULK_LOAD * RISE),
            ],
        ),
    ];
    stage.tell("two classes");
    let samples = world.load(world.streams(&kinds), &[]).await?;
    let of = |class: usize| samples.iter().filter(move |sample| sample.stream % 2 == class);
    let bins = Bins::of(of(0), OBJECTIVE, end);
    let bulk = Bins::of(of(1), OBJECTIVE, end);
    Ok(ByClass {
        success: bins.share(risen, end),
        unloaded: bins.quantile(Duration::ZERO, joined, 0.99),
        loaded: bins.quantile(risen, end, 0.99),
        bulk: bulk.share(risen, end),
        bins,
    })
}

struct ByPeer {
    /// Of all that behave.
    bins: Bins,
    worst: Option<f64>,
    others: Option<f64>,
    misbehaving: Option<f64>,
}

/// The last client is the one that misbehaves, from the third on of the same times.
async fn by_peer(world: &mut World<'_>, stage: &Stage<'_>) -> anyhow::Result<ByPeer> {
    let Times { risen, end, .. } = Times::of(stage.setting);
    let each = CAPACITY.per_second() * PEERS_LOAD / f64::from(CLIENTS);
    let kind = |after| Kind {
        phases: vec![Phase::new(risen, each), Phase::new(end.saturating_sub(risen), after)],
        patience: PATIENCE,
        retries: 0,
        field: None,
    };
    let last = usize::from(CLIENTS) - 1;
    let clients = world.topology.clients().enumerate();
    let streams = clients
        .map(|(number, client)| {
            let after = if number == last { CAPACITY.per_second() * MISBEHAVING_LOAD } else { each };
            world.stream(client, &kind(after))
        })
        .collect();
    stage.tell("twenty peers");
    let samples = world.load(streams, &[]).await?;
    let share = |wanted: &dyn Fn(&&Sample) -> bool| {
        Bins::of(samples.iter().filter(|sample| wanted(sample)), OBJECTIVE, end).share(risen, end)
    };
    let shares = (0..last).filter_map(|peer| share(&|sample| sample.stream == peer));
    Ok(ByPeer {
        worst: shares.reduce(f64::min),
        others: share(&|sample| sample.stream != last),
        misbehaving: share(&|sample| sample.stream == last),
        bins: Bins::of(samples.iter().filter(|sample| sample.stream != last), OBJECTIVE, end),
    })
}

pub fn panels(setting: &Setting<'_>) -> Vec<Panel> {
    let Times { risen, end, .. } = Times::of(setting);
    let (from, to) = (risen.as_secs_f64(), end.as_secs_f64());
    vec![
        Panel::new("Critical requests that succeed (shaded: bulk is twelvefold)", "due at, s", "%")
            .shaded(from, to)
            .level(100.0),
        Panel::new("Latency of critical answers", "due at, s", "99 %, ms").shaded(from, to),
        Panel::new("Requests of 19 peers that succeed (shaded: the twentieth misbehaves)", "due at, s", "%")
            .shaded(from, to)
            .level(100.0),
    ]
}
