//! What `/metrics` answers: `OpenMetrics`, encoded from one [`Scrape`] of plain values.
//!
//! Nothing is kept between two scrapes: the shards' own counters are the only state, so a metric costs a request nothing
//! beyond them. Labels are bounded by what policy declares and by identities, never by a path, a Host or a user; a family
//! that would still grow past [`SERIES_MAX`] lines folds what came last into `_other`, and says how much.

use std::time::Duration;

use outrider_shared::session::{LeafView, UpstreamView};
use outrider_shared::snapshot::Version;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::TraceCounts;
use crate::edges::certificates::CertificateView;
use crate::leg::pump::room::RoomView;
use crate::stats::{HistogramTotals, PeerTotals, ShardTotals, Side, UpstreamTotals};

mod families;
mod rows;
#[cfg(test)]
mod tests;

use families::{Family, Kind};
use rows::{Row, Value};

/// Lines of one family; a histogram takes 21 for each of its label sets. 2,000: a thousand sidecars are then still a
/// load that one Prometheus carries.
pub const SERIES_MAX: usize = 2_000;

/// The media type of the answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that metrics show, taken at one moment.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    /// `namespace/name` of the service beside us.
    pub service: String,
    pub shards: ShardTotals,
    pub peers: Vec<PeerTotals>,
    pub upstreams: Vec<UpstreamTotals>,
    /// Connections closed at once, since their address had as many as it may have.
    pub refused_by_address: u64,
    /// Bodies of requests that may have to be sent again.
    pub kept: RoomView,
    /// The actors' own view, for permits and endpoints.
    pub upstream_views: Vec<UpstreamView>,
    pub actors: Vec<ActorCounts>,
    pub mailboxes: Vec<MailboxTotals>,
    pub leaf: Option<LeafView>,
    pub edge_certificates: Vec<CertificateView>,
    /// `None`: none is in force.
    pub snapshot: Option<SnapshotInForce>,
    pub session: Session,
    pub traces: TraceCounts,
}

/// The snapshot that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInForce {
    pub version: Version,
    /// Since the control plane last said that it is current: grows while the session is down.
    pub staleness: Duration,
}

/// Whether the control plane is at hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Session {
    Connected,
    #[default]
    Disconnected,
}

/// How the actors of one kind fare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorCounts {
    pub actor: &'static str,
    pub restarts: u64,
    /// Messages that found the mailbox full.
    pub mailbox_full: u64,
}

/// The mailbox of one actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxTotals {
    /// `None`: the supervisor's.
    pub upstream: Option<(Side, String)>,
    pub capacity: u64,
    pub depth: u64,
    /// How long messages lay in it.
    pub latency: HistogramTotals,
}

/// The page.
pub fn encode(scrape: &Scrape) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(rows::of(scrape))));
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry)
        .expect("a String takes whatever is written to it");
    page
}

/// The families that have something to show, with their rows.
#[derive(Debug)]
struct Page(Vec<(&'static Family, Vec<Row>)>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for (family, rows) in &self.0 {
            let (stem, unit) = family.split();
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut of_family = encoder.encode_descriptor(stem, family.help, unit.as_ref(), kind)?;
            for row in rows {
                let labels: Vec<_> =
                    family.labels.iter().copied().zip(row.labels.iter().map(String::as_str)).collect();
                let mut metric = of_family.encode_family(&labels)?;
                match &row.value {
                    Value::Counter(count) => metric.encode_counter::<NoLabelSet, _, f64>(count, None)?,
                    Value::Gauge(level) => metric.encode_gauge(level)?,
                    Value::Histogram(histogram) => {
                        let (sum, count) = (rows::seconds(histogram.sum_us), histogram.count());
                        metric.encode_histogram::<NoLabelSet>(sum, count, &rows::buckets(histogram), None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Family {
    /// The name without its unit, which the library appends, and that unit.
    fn split(&self) -> (&'static str, Option<Unit>) {
        let without = |unit| self.name.strip_suffix(unit);
        if let Some(stem) = without("_seconds") {
            (stem, Some(Unit::Seconds))
        } else if let Some(stem) = without("_bytes") {
            (stem, Some(Unit::Bytes))
        } else {
            (self.name, None)
        }
    }
}
