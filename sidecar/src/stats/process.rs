//! What the control arbiter counts, and publishes for all shards.

use crossbeam_utils::CachePadded;

use super::{Gauge, LabelledCounters};
use crate::overload::machine::{Resource, View};

/// Written by the control arbiter alone.
#[derive(Debug, Default)]
pub struct ProcessStats {
    /// Active checks of other services' endpoints, by what they have shown.
    pub health_checks: LabelledCounters,
    pub overload: OverloadStats,
}

/// How short the sidecar is of what it needs. Every request reads the level, and next to nobody writes it.
#[derive(Debug, Default)]
pub struct OverloadStats {
    level: CachePadded<Gauge>,
    shortest_of: Gauge,
    /// In thousandths, and one more: 0 is not known.
    pressures: [Gauge; Resource::ALL.len()],
}

impl OverloadStats {
    pub fn publish(&self, view: &View) {
        for (gauge, pressure) in self.pressures.iter().zip(view.pressures) {
            gauge.set(pressure.map_or(0, |pressure| thousandths(pressure) + 1));
        }
        self.shortest_of.set(view.shortest_of.index() as u64);
        self.level.set(view.level.into());
    }

    /// From 0 to [`crate::overload::machine::LEVEL_MAX`]. From any thread.
    pub fn level(&self) -> u8 {
        u8::try_from(self.level.get()).unwrap_or(u8::MAX)
    }

    /// What it is shortest of.
    pub fn shortest_of(&self) -> Resource {
        let index = self.shortest_of.get();
        Resource::ALL.into_iter().find(|of| of.index() as u64 == index).unwrap_or(Resource::Memory)
    }

    /// Of what is known, what is used of what may be.
    pub fn pressures(&self) -> impl Iterator<Item = (Resource, f64)> {
        Resource::ALL.into_iter().filter_map(|resource| {
            let thousandths = self.pressures[resource.index()].get().checked_sub(1)?;
            let thousandths = u32::try_from(thousandths).unwrap_or(u32::MAX);
            Some((resource, f64::from(thousandths) / 1_000.0))
        })
    }
}

/// Bounded by a million, which no pressure comes near.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn thousandths(pressure: f64) -> u64 {
    (pressure * 1_000.0).round().clamp(0.0, 1e9) as u64
}
