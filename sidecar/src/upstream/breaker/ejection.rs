//! Which endpoints are left out: those that have a reason, as long as enough others are left.
//!
//! A breaker, a failure to connect and a failed health check are all evidence of one shard's or one sidecar's view. Where
//! more endpoints have a reason than policy lets be left out, the evidence speaks against the network or the callee as a
//! whole, and the few that are left would be crushed: then all are used (Envoy's panic). Pure and without memory: the
//! same reasons give the same decision, in whatever order they come.
//!
//! In panic a half-open breaker's endpoint gets ordinary requests beside its probes, which alone are counted.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

/// Why an endpoint may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason<R> {
    pub since: Instant,
    /// A breaker's cause, an error of connecting, a health check's answer.
    pub why: R,
}

/// An endpoint that has a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit<E, R> {
    pub endpoint: E,
    /// The oldest first.
    pub reasons: Vec<Reason<R>>,
}

impl<E, R> Unfit<E, R> {
    fn since(&self) -> Option<Instant> {
        self.reasons.first().map(|reason| reason.since)
    }
}

/// What shards do with the unfit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are left out.
    Ordinary,
    /// They are used as all others.
    Panic {
        unfit: usize,
        endpoints: usize,
        /// That may be left out.
        ceiling: usize,
    },
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordinary => write!(f, "what has a reason is left out"),
            Self::Panic { unfit, endpoints, ceiling } => write!(
                f,
                "{unfit} of {endpoints} endpoints have a reason to be left out, and at most {ceiling} may be: all are used"
            ),
        }
    }
}

/// Who is unfit, the oldest first, and whether that has a consequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<E, R> {
    pub mode: Mode,
    pub unfit: Vec<Unfit<E, R>>,
}

impl<E: PartialEq, R> Decision<E, R> {
    pub fn is_left_out(&self, endpoint: &E) -> bool {
        self.mode == Mode::Ordinary && self.unfit.iter().any(|unfit| unfit.endpoint == *endpoint)
    }
}

/// Decides about `endpoints`, of which at most the share `ejected_max` may be left out: all only where it is 1. Reasons of
/// others are ignored.
pub fn decide<E: Ord + Clone, R>(
    endpoints: &[E],
    reasons: impl IntoIterator<Item = (E, Reason<R>)>,
    ejected_max: f64,
) -> Decision<E, R> {
    let mut by_endpoint: BTreeMap<E, Vec<Reason<R>>> =
        endpoints.iter().map(|endpoint| (endpoint.clone(), Vec::new())).collect();
    for (endpoint, reason) in reasons {
        if let Some(known) = by_endpoint.get_mut(&endpoint) {
            known.push(reason);
        }
    }
    let total = by_endpoint.len();
    let mut unfit: Vec<Unfit<E, R>> = by_endpoint
        .into_iter()
        .filter(|(_, reasons)| !reasons.is_empty())
        .map(|(endpoint, mut reasons)| {
            reasons.sort_by_key(|reason| reason.since);
            Unfit { endpoint, reasons }
        })
        .collect();
    // Stable: among those of one moment the order is the endpoints'.
    unfit.sort_by_key(Unfit::since);
    let ceiling = ceiling(total, ejected_max);
    let mode = match unfit.len().cmp(&ceiling) {
        Ordering::Less | Ordering::Equal => Mode::Ordinary,
        Ordering::Greater => Mode::Panic { unfit: unfit.len(), endpoints: total, ceiling },
    };
    Decision { mode, unfit }
}

/// How many may be left out: the share, rounded down.
fn ceiling(endpoints: usize, ejected_max: f64) -> usize {
    let float = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    // By division, so that 0.29 of 100 are 29, and by search, since a float becomes an integer only by a cast.
    (1..=endpoints).take_while(|&n| float(n) / float(endpoints) <= ejected_max).last().unwrap_or(0)
}
