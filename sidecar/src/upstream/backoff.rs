//! How long a retry waits: full jitter below a ceiling that doubles, or what the far side asked for.
//!
//! Full jitter (a wait anywhere between nothing and the ceiling, or above what is asked for: Gateway API's `backoff` is the least
//! wait) spreads retries of requests that failed in one moment
//! better than any narrower one, at the least total of attempts (Brooker, "Exponential Backoff And Jitter"). It is not the
//! session's backoff, which never tries again at once. Pure: time and the random number are arguments.

use std::time::{Duration, SystemTime};

use actix_http::header::HttpDate;
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

#[cfg(test)]
mod tests;

/// The ceiling doubles up to so many times policy's first. 10, as Envoy: later retries of one request are for a backend
/// that restarts, and whoever waits is still there.
const CEILING_MAX: u32 = 10;

/// Of a request without a deadline, what the far side may ask for. 30 s: a client that has not said how long it waits holds its
/// connection and its body so long, and no longer on another's word.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// Why a request is not sent again although it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLate {
    /// It would be sent when nobody waits any more.
    #[error("the next attempt would begin in {wait:?}, and {left:?} are left")]
    Backoff { wait: Duration, left: Duration },
    /// Sooner is not what the far side asked for, and later is of no use.
    #[error("the far side asks for another attempt in {asked:?} at the earliest, and {left:?} are left")]
    RetryAfter { asked: Duration, left: Duration },
}

/// What the wait before an attempt depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// 1: the first retry.
    pub retry: u32,
    /// Policy's first ceiling.
    pub first: Duration,
    /// As [`retry_after`] read it.
    pub retry_after: Option<Duration>,
    /// Until the request's deadline; `None`: it has none.
    pub left: Option<Duration>,
}

/// How long to wait; `unit` is uniform in [0, 1). What the far side asks for is waited for, and the jitter goes on top, so
/// that whoever got the same answer does not come back in the same moment; only where the deadline leaves no room for
/// both the jitter gives way.
pub fn wait(before: &Before, unit: f64) -> Result<Duration, TooLate> {
    let doublings = before.retry.saturating_sub(1).min(u32::BITS - 1);
    let ceiling = before.first.saturating_mul((1 << doublings).min(CEILING_MAX));
    let drawn = ceiling.mul_f64(unit.clamp(0.0, 1.0));
    let left = before.left.unwrap_or(Duration::MAX);
    match before.retry_after {
        Some(asked) if before.left.is_none() && asked > RETRY_AFTER_MAX.max(before.first) => {
            Err(TooLate::RetryAfter { asked, left: RETRY_AFTER_MAX })
        }
        None if drawn < left => Ok(drawn),
        None => Err(TooLate::Backoff { wait: drawn, left }),
        Some(asked) if asked.saturating_add(drawn) < left => Ok(asked.saturating_add(drawn)),
        Some(asked) if asked < left => Ok(asked),
        Some(asked) => Err(TooLate::RetryAfter { asked, left }),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, of which one that is over means at once. A date is by the clock of
/// whoever wrote it, which the answer's `Date` tells; `now` is for answers without one. `None`: there is none that can be read.
pub fn retry_after(fields: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = fields.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a time that no deadline reaches.
        return Some(value.parse().map_or(Duration::MAX, Duration::from_secs));
    }
    let date = |text: &str| text.trim().parse::<HttpDate>().ok().map(SystemTime::from);
    let written = fields.get(DATE).and_then(|value| value.to_str().ok()).and_then(date).unwrap_or(now);
    Some(date(value)?.duration_since(written).unwrap_or(Duration::ZERO))
}
