//! The pure machine: readings in, a level out, with hysteresis.

use std::time::{Duration, Instant};

/// The highest level. Ten steps: each is a tenth of what may be refused, so that no step is a cliff.
pub const LEVEL_MAX: u8 = 10;
/// A level is left downwards by one at a time, and not sooner than this after the last change. 500 ms: what was refused less
/// must show in the readings first.
const HOLD: Duration = Duration::from_millis(500);
/// How far below the edge at which it was entered a level is left, in levels: readings that tremble change nothing.
const SLACK: f64 = 0.5;
/// Readings of a shard's lag that must all be late. 10, which is a second: one long poll, or a moment without a core, is no
/// overload.
pub const LAG_WINDOW: usize = 10;

/// Where there is one class alone, each level refuses so much more of it: nine tenths at the most.
const ONE_CLASS_STEP: f64 = 0.09;

/// What a sidecar may be short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    Memory,
    Connections,
    EventLoop,
}

impl Resource {
    pub const ALL: [Self; 3] = [Self::Memory, Self::Connections, Self::EventLoop];

    /// In metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Connections => "connections",
            Self::EventLoop => "event_loop",
        }
    }

    pub fn index(self) -> usize {
        match self {
            Self::Memory => 0,
            Self::Connections => 1,
            Self::EventLoop => 2,
        }
    }

    /// The pressures at which refusing begins and is at its most.
    fn bounds(self) -> (f64, f64) {
        match self {
            // Below, an allocator's own reserve would count; above, one burst of bodies is the end of the process.
            Self::Memory => (0.90, 0.98),
            // Each request may take a descriptor more, and those of files and of the control plane must be left.
            Self::Connections => (0.80, 0.95),
            // Of a second: 100 ms late are felt by every caller, and a second is longer than most of them wait.
            Self::EventLoop => (0.1, 1.0),
        }
    }

    /// In levels; below 0 there is room to spare.
    fn score(self, pressure: f64) -> f64 {
        let (begin, full) = self.bounds();
        let score = (pressure - begin) / (full - begin) * f64::from(LEVEL_MAX);
        if score.is_finite() { score } else { 0.0 }
    }
}

/// What was read at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Used, of what may be; `None`: there is no bound.
    pub memory: Option<f64>,
    pub connections: Option<f64>,
    /// How late each shard's event loop is.
    pub lags: Vec<Duration>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    pub level: u8,
    /// Used, of what may be, by [`Resource::index`]; lag in seconds. `None`: it is not known, or has no bound.
    pub pressures: [Option<f64>; Resource::ALL.len()],
    /// What it is shortest of.
    pub shortest_of: Resource,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    view: View,
    changed_at: Option<Instant>,
    /// The last lags of each shard, a ring.
    lags: Vec<[Duration; LAG_WINDOW]>,
    readings: usize,
}

impl Default for Machine {
    fn default() -> Self {
        let view = View { level: 0, pressures: [None; 3], shortest_of: Resource::Memory };
        Self { view, changed_at: None, lags: Vec::new(), readings: 0 }
    }
}

impl Machine {
    /// Up at once, down step by step.
    pub fn handle(&mut self, reading: &Reading, now: Instant) -> View {
        let lag = self.lag(&reading.lags);
        self.view.pressures = [reading.memory, reading.connections, lag];
        let scores = Resource::ALL
            .iter()
            .filter_map(|resource| Some((*resource, resource.score(self.view.pressures[resource.index()]?))));
        let worst = scores.max_by(|(_, a), (_, b)| a.total_cmp(b));
        let score = worst.map_or(f64::MIN, |(_, score)| score);
        let level = self.view.level;
        let held = self.changed_at.is_some_and(|at| now.saturating_duration_since(at) < HOLD);
        let next = if score > f64::from(level) {
            level_of(score)
        } else if level > 0 && score <= f64::from(level) - 1.0 - SLACK && !held {
            level - 1
        } else {
            level
        };
        if next != level {
            self.changed_at = Some(now);
        }
        if let Some((resource, _)) = worst.filter(|_| next >= level) {
            self.view.shortest_of = resource;
        }
        self.view.level = next;
        debug_assert!(self.view.level <= LEVEL_MAX);
        self.view
    }

    /// The lag that the most belated shard has had for the whole window, in seconds.
    fn lag(&mut self, lags: &[Duration]) -> Option<f64> {
        self.lags.resize(lags.len(), [Duration::ZERO; LAG_WINDOW]);
        let at = self.readings % LAG_WINDOW;
        self.readings += 1;
        for (ring, lag) in self.lags.iter_mut().zip(lags) {
            ring[at] = *lag;
        }
        let lasting = |ring: &[Duration; LAG_WINDOW]| ring.iter().min().copied().unwrap_or_default();
        self.lags.iter().map(lasting).max().map(|lag| lag.as_secs_f64())
    }
}

/// The level at which a score above 0 is.
fn level_of(score: f64) -> u8 {
    (1..LEVEL_MAX).find(|level| score <= f64::from(*level)).unwrap_or(LEVEL_MAX)
}

/// The share of a class's requests that is refused at a level, from 0 to 1. Index 0 is the most important of `classes`.
///
/// Class by class, the least important first, as much as the level's tenth of all classes but the first, which is never
/// refused. Where there is one class alone, a part of it always gets through: what is served must show when it is over.
pub fn share_refused(level: u8, class: usize, classes: usize) -> f64 {
    let level = f64::from(level.min(LEVEL_MAX));
    if classes <= 1 {
        return level * ONE_CLASS_STEP;
    }
    if class == 0 {
        return 0.0;
    }
    let few = |n: usize| f64::from(u16::try_from(n).unwrap_or(u16::MAX));
    let (refusable, less_important) = (few(classes - 1), few(classes.saturating_sub(class + 1)));
    (level / f64::from(LEVEL_MAX) * refusable - less_important).clamp(0.0, 1.0)
}
