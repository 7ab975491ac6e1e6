//! Quantities with their unit in the type.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration in Gateway API's spelling (GEP-2257): up to four of `h`, `m`, `s`, `ms`, each with at most five digits,
/// as in `1h30m` or `250ms`. Exact to the millisecond, and at most `99999h59m59s999ms`, the longest that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GepDuration(Duration);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is no duration: write one to four of 1h, 30m, 10s, 250ms, with at most five digits each, and less than 100000h together"
)]
pub struct BadDuration {
    pub given: String,
}

impl GepDuration {
    const BEYOND_MS: u64 = 100_000 * 3_600_000;

    pub const fn get(self) -> Duration {
        self.0
    }
    pub const fn from_millis(ms: u32) -> Self {
        Self(Duration::from_millis(ms as u64))
    }
}

impl FromStr for GepDuration {
    type Err = BadDuration;
    fn from_str(given: &str) -> Result<Self, BadDuration> {
        let bad = || BadDuration { given: given.chars().take(40).collect() };
        let mut rest = given;
        let mut total_ms: u64 = 0;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if !(1..=5).contains(&digits) || parts == 4 {
                return Err(bad());
            }
            let count: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let (unit, unit_ms) = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)]
                .into_iter()
                .find(|(unit, _)| rest.starts_with(unit))
                .ok_or_else(bad)?;
            rest = &rest[unit.len()..];
            total_ms += count * unit_ms;
            parts += 1;
        }
        if parts == 0 || total_ms >= Self::BEYOND_MS {
            return Err(bad());
        }
        Ok(Self(Duration::from_millis(total_ms)))
    }
}
impl TryFrom<String> for GepDuration {
    type Error = BadDuration;
    fn try_from(given: String) -> Result<Self, BadDuration> {
        given.parse()
    }
}
impl From<GepDuration> for String {
    fn from(duration: GepDuration) -> Self {
        duration.to_string()
    }
}
impl fmt::Display for GepDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, unit_ms, next_ms) in
            [("h", 3_600_000, u128::MAX), ("m", 60_000, 3_600_000), ("s", 1_000, 60_000), ("ms", 1, 1_000)]
        {
            let count = (ms % next_ms) / unit_ms;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

/// A share from 0 to 1, as numerator and denominator (Gateway API's `Fraction`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    pub numerator: u32,
    pub denominator: u32,
}

impl Fraction {
    pub const NONE: Self = Self { numerator: 0, denominator: 100 };
    /// Between 0 and 1; a denominator of 0 counts as none.
    pub fn ratio(self) -> f64 {
        if self.denominator == 0 {
            return 0.0;
        }
        (f64::from(self.numerator) / f64::from(self.denominator)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests;
