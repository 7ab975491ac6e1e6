//! What was measured, as a table and as JSON, and whether it reaches the goals.

use serde::Serialize;

use super::caller::Work;

/// The goals, in nanoseconds on one thread, and in the throughput of two threads by that of one.
pub const NANOS_MAX: f64 = 300.0;
pub const SCALING_MIN: f64 = 1.8;

/// Of several rounds.
#[derive(Serialize)]
pub struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    pub fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self { median: all[all.len() / 2], min: all[0], max: all[all.len() - 1] }
    }
}

#[derive(Serialize)]
pub struct Figures {
    pub work: Work,
    pub limit: u32,
    /// Of one admission and completion, on one thread.
    pub nanos: Spread,
    /// A second, of one thread and of two.
    pub one: Spread,
    pub two: Spread,
    /// The throughput of two threads by that of one right before.
    pub scaling: Spread,
    /// Pairs of rounds that were made until enough had no disturbance.
    pub tries: usize,
}

impl Figures {
    /// The time by the best round, since whatever else the machine does makes it longer and never shorter; the ratio, which
    /// it moves both ways, by the median.
    pub fn reaches_goals(&self) -> bool {
        matches!(self.work, Work::Control)
            || (self.nanos.min <= NANOS_MAX && self.scaling.median >= SCALING_MIN)
    }
}

pub fn print(all: &[Figures]) {
    println!(
        "          limit   ns: best  median     max    two threads by one: median     min     max    tries"
    );
    for Figures { work, limit, nanos, scaling, tries, .. } in all {
        let Spread { median, min, max } = nanos;
        print!("{work:<9} {limit:>5} {min:>10.0} {median:>7.0} {max:>7.0}");
        let Spread { median, min, max } = scaling;
        println!("{median:>30.2} {min:>7.2} {max:>7.2} {tries:>8}");
    }
}
