//! Where choices come from: a seed, or every one in turn.

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

/// Draws.
pub enum Dice {
    /// The same ones for the same seed.
    Seeded(SmallRng),
    /// The next of all there are, as [`Every`] has them.
    Given(Every),
}

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(SmallRng::seed_from_u64(seed))
    }

    /// Uniform in 0..`n`.
    pub fn below(&mut self, n: u64) -> u64 {
        match self {
            Self::Seeded(random) => random.random_range(0..n),
            Self::Given(every) => every.below(n),
        }
    }

    /// In 0..1; among all choices only 0.
    pub fn unit(&mut self) -> f64 {
        match self {
            Self::Seeded(random) => random.random(),
            Self::Given(_) => 0.0,
        }
    }

    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// `true` once in `n`.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these; with a seed as often as its weight says.
    pub fn pick<T: Copy>(&mut self, from: &[(u64, T)]) -> T {
        match self {
            Self::Given(every) => from[usize::try_from(every.below(from.len() as u64)).expect("an index")].1,
            Self::Seeded(random) => {
                let mut drawn = random.random_range(0..from.iter().map(|(weight, _)| weight).sum());
                let found = from.iter().find(|(weight, _)| {
                    let is_it = drawn < *weight;
                    drawn = drawn.saturating_sub(*weight);
                    is_it
                });
                found.expect("below the sum").1
            }
        }
    }
}

/// Goes through all sequences of choices, depth first, each from its begin.
#[derive(Default)]
pub struct Every {
    /// What is chosen, of how many.
    path: Vec<(u64, u64)>,
    at: usize,
}

impl Every {
    fn below(&mut self, n: u64) -> u64 {
        if self.at == self.path.len() {
            self.path.push((0, n));
        }
        let (chosen, of) = self.path[self.at];
        assert_eq!(of, n, "the same choices lead to the same choice");
        self.at += 1;
        chosen
    }

    /// The next sequence; `None`: that was the last.
    pub fn next(mut self) -> Option<Self> {
        self.at = 0;
        while let Some((chosen, of)) = self.path.pop() {
            if chosen + 1 < of {
                self.path.push((chosen + 1, of));
                return Some(self);
            }
        }
        None
    }
}
