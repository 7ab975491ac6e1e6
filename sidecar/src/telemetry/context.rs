//! Which trace a request belongs to, read from its headers and written to the next hop's.
//!
//! A sidecar puts itself into a trace only where it will export a span: rewriting the parent without one would tear the
//! app's own spans apart. So a request that is not sampled keeps its caller's context byte for byte, which also costs
//! nothing. A request without a readable context gets one, whether there is a collector or not: its trace id is what ties
//! an app's calls to the request that caused them.

use http::HeaderMap;
use outrider_shared::snapshot::{Propagation, Tracing};
use outrider_shared::units::Fraction;

use super::Exporting;

mod b3;
mod ids;
#[cfg(test)]
mod tests;
mod w3c;

pub use b3::B3Form;

/// Where a request stands in its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// Never 0.
    pub trace_id: u128,
    /// The span that the next hop will name as its parent. Never 0.
    pub span_id: u64,
    /// `None` at the root.
    pub parent_span_id: Option<u64>,
    /// Travels with the trace.
    pub sampled: bool,
    /// The caller says that its trace id is random (W3C Trace Context level 2, section 3.2.2.6).
    random: bool,
    origin: Origin,
    b3: B3Form,
}

/// Whose span [`TraceContext::span_id`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Our own, to be written into the headers.
    Ours,
    /// The caller's, which is in the headers already.
    Callers,
}

impl TraceContext {
    /// A span of ours under this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: ids::span_id(), parent_span_id: Some(self.span_id), origin: Origin::Ours, ..*self }
    }

    /// A span of ours that was not foreseen: it takes the place that was kept for it, or one under the caller's.
    pub(super) fn ours(&self) -> Self {
        match self.origin {
            Origin::Ours => *self,
            Origin::Callers => self.child(),
        }
    }
}

/// What the headers of a request say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Incoming {
    parent: Option<Parent>,
    /// `None`: left to us.
    decision: Option<Decision>,
    b3: B3Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    random: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Sample,
    Drop,
}

/// Which headers are read and written, and what is sampled: made once for each snapshot.
#[derive(Debug, Clone, Copy)]
pub struct TracePolicy {
    formats: Formats,
    parent_based: bool,
    exporting: Exporting,
    /// A trace is sampled if the low 56 bits of its id, the random part of level 2, are not below this; so one threshold
    /// decides alike on every hop.
    reject_below: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Formats {
    trace_context: bool,
    baggage: bool,
    b3: bool,
}

/// One past the greatest value of the random part of a trace id.
const RANDOM_END: u64 = 1 << 56;

impl TracePolicy {
    pub fn new(tracing: &Tracing, exporting: Exporting) -> Self {
        let mut formats = Formats::default();
        for propagation in &tracing.propagation {
            match propagation {
                Propagation::TraceContext => formats.trace_context = true,
                Propagation::Baggage => formats.baggage = true,
                Propagation::B3 => formats.b3 = true,
            }
        }
        Self {
            formats,
            parent_based: tracing.parent_based,
            exporting,
            reject_below: reject_below(tracing.sampling),
        }
    }

    /// Reads the context of a request, takes out what must not go on (an unreadable `traceparent`, a `tracestate` without
    /// one or past its limits, oversized baggage), and decides whether it is sampled.
    pub fn begin(&self, headers: &mut HeaderMap) -> TraceContext {
        let incoming = self.read(headers);
        match (self.exporting, incoming.parent) {
            // We do not take part in it, so we do not tidy it up either.
            (Exporting::Off, Some(_)) => {}
            (Exporting::Off, None) | (Exporting::On, _) => self.tidy(headers),
        }
        let trace_id = incoming.parent.map_or_else(ids::trace_id, |parent| parent.trace_id);
        let decision = incoming.decision.filter(|_| self.parent_based);
        let sampled = match (decision, self.exporting) {
            (Some(decision), _) => decision == Decision::Sample,
            (None, Exporting::On) => self.samples(trace_id),
            (None, Exporting::Off) => incoming.decision == Some(Decision::Sample),
        };
        let (origin, span_id, parent_span_id) = match (incoming.parent, self.exporting) {
            (Some(parent), Exporting::On) if sampled => (Origin::Ours, ids::span_id(), Some(parent.span_id)),
            (Some(parent), _) => (Origin::Callers, parent.span_id, None),
            (None, _) => (Origin::Ours, ids::span_id(), None),
        };
        let random = incoming.parent.is_some_and(|parent| parent.random);
        TraceContext { trace_id, span_id, parent_span_id, sampled, random, origin, b3: incoming.b3 }
    }

    /// Writes the context for the next hop, in every format that policy names.
    pub fn inject(&self, context: &TraceContext, headers: &mut HeaderMap) {
        match context.origin {
            Origin::Ours => {}
            Origin::Callers => return,
        }
        if self.formats.trace_context {
            w3c::inject(context, headers);
        }
        if self.formats.b3 {
            b3::inject(context, headers);
        }
    }

    fn tidy(&self, headers: &mut HeaderMap) {
        if self.formats.trace_context {
            w3c::tidy(headers);
        }
        if self.formats.baggage {
            w3c::tidy_baggage(headers);
        }
    }

    fn read(&self, headers: &HeaderMap) -> Incoming {
        let of_w3c = if self.formats.trace_context { w3c::read(headers) } else { None };
        if !self.formats.b3 {
            return of_w3c.unwrap_or_default();
        }
        let of_b3 = b3::read(headers);
        // Both at once: the standard one is what newer libraries write; B3's spelling is kept for the answer to it.
        of_w3c.map_or(of_b3, |incoming| Incoming { b3: of_b3.b3, ..incoming })
    }

    fn samples(&self, trace_id: u128) -> bool {
        let random = trace_id & u128::from(RANDOM_END - 1);
        random >= u128::from(self.reject_below)
    }
}

/// Exact for every fraction: a share of 1 rejects none, a share of 0 rejects all.
fn reject_below(sampling: Fraction) -> u64 {
    if sampling.denominator == 0 {
        return RANDOM_END;
    }
    let kept = u128::from(RANDOM_END) * u128::from(sampling.numerator) / u128::from(sampling.denominator);
    RANDOM_END - u64::try_from(kept).unwrap_or(RANDOM_END).min(RANDOM_END)
}

/// `N` lower-case hex digits, and nothing else.
fn hex<const N: usize>(digits: &[u8]) -> Option<u128> {
    if digits.len() != N {
        return None;
    }
    digits.iter().try_fold(0_u128, |value, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(nibble))
    })
}

/// A trace id: 32 digits, not all 0.
fn hex_trace_id(digits: &[u8]) -> Option<u128> {
    hex::<32>(digits).filter(|id| *id != 0)
}

/// A span id: 16 digits, not all 0.
fn hex_span_id(digits: &[u8]) -> Option<u64> {
    hex::<16>(digits).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0)
}

/// Writes `value` as lower-case hex that fills `to`.
fn write_hex(mut value: u128, to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in to.iter_mut().rev() {
        *byte = DIGITS[usize::from(value.to_le_bytes()[0] & 15)];
        value >>= 4;
    }
}
