//! Faults planted in an app, so that there is something for a mesh to show.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use outrider_shared::units::GepDuration;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[derive(Debug, Clone, Args)]
pub struct FaultArgs {
    /// Added to each request.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    delay: GepDuration,
    /// Added on top: evenly spread from nothing to this.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    jitter: GepDuration,
    /// Share of requests that fail.
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = ratio)]
    fail_ratio: f64,
    /// The same seed plants the same faults in the same order.
    #[arg(long, value_name = "N", default_value_t = 14)]
    fault_seed: u64,
}

fn ratio(given: &str) -> Result<f64, String> {
    given
        .parse()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| format!("{given:?} is not a share from 0 to 1"))
}

/// What is planted in one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planted {
    pub delay: Duration,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Succeed,
    Fail,
}

/// Draws the faults of one app: the nth request's depends on the seed and n alone.
#[derive(Debug)]
pub struct Faults {
    args: FaultArgs,
    drawn: AtomicU64,
}

impl Faults {
    pub fn new(args: &FaultArgs) -> Self {
        Self { args: args.clone(), drawn: AtomicU64::new(0) }
    }

    pub fn draw(&self) -> Planted {
        let n = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut random = StdRng::seed_from_u64(self.args.fault_seed.wrapping_add(n));
        let jitter = self.args.jitter.get().mul_f64(random.random::<f64>());
        let verdict = if random.random_bool(self.args.fail_ratio) { Verdict::Fail } else { Verdict::Succeed };
        Planted { delay: self.args.delay.get() + jitter, verdict }
    }

    /// Waits the planted time.
    pub async fn strike(&self) -> Verdict {
        let planted = self.draw();
        if !planted.delay.is_zero() {
            tokio::time::sleep(planted.delay).await;
        }
        planted.verdict
    }
}
