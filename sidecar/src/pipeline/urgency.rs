//! How urgent a request is: by when its caller wants the answer, and in which class it is.
//!
//! Deadlines travel as the time that remains, as gRPC's do, and become an instant of this host's own clock at receipt: no
//! two hosts need the same time of day. What is sent on is what remains then, so it shrinks from hop to hop. So do the
//! attempts that are left: those that hops above have made count against what policy allows here.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use outrider_shared::names::header;
use outrider_shared::traffic;

use super::principal::Principal;
use crate::contexts::{ATTEMPTS_BEFORE_MAX, Context, Contexts, TraceKey};

#[cfg(test)]
mod tests;

/// Between sidecars: milliseconds that remain.
pub static TIMEOUT: HeaderName = HeaderName::from_static(header::TIMEOUT);
static CLASS: HeaderName = HeaderName::from_static(header::CLASS);
/// For the app, which may send it on: names what is kept of the request. In an answer between sidecars: retries below were
/// spent.
pub static CONTEXT: HeaderName = HeaderName::from_static(header::CONTEXT);
static ATTEMPT: HeaderName = HeaderName::from_static(header::ATTEMPT);
pub static RETRIED: HeaderName = HeaderName::from_static(header::RETRIED);
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Longest time that is believed; what is longer counts as this. 1 day: nobody waits for more.
const REMAINING_MAX: Duration = Duration::from_hours(24);

/// What is known of a request.
#[derive(Debug, Clone, Default)]
pub struct Urgency {
    pub deadline: Option<Instant>,
    pub class: Option<HeaderValue>,
    /// That were made at hops above.
    pub attempts_before: u32,
}

/// Whether anything was known of the request that an app's call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    Context,
    Nothing,
}

impl Urgency {
    /// From another sidecar, or from a gRPC client that says it itself.
    pub fn received(fields: &HeaderMap, now: Instant) -> Self {
        let told = fields.get(&TIMEOUT).and_then(milliseconds);
        let own = fields.get(GRPC_TIMEOUT).and_then(grpc_timeout);
        let remaining = [told, own].into_iter().flatten().min();
        let deadline = remaining.map(|remaining| now + remaining.min(REMAINING_MAX));
        let attempt = fields.get(&ATTEMPT).and_then(number).unwrap_or(1);
        let attempts_before = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        Self {
            deadline,
            class: fields.get(&CLASS).cloned(),
            attempts_before: attempts_before.min(ATTEMPTS_BEFORE_MAX),
        }
    }

    /// Of a call of the own app: what the request brought that it belongs to, by what the app has passed on. The app may
    /// shorten the deadline, as gRPC does, and no more.
    pub fn of_apps_call(
        fields: &HeaderMap,
        contexts: &Contexts,
        now: Instant,
    ) -> (Self, Option<TraceKey>, Known) {
        let passed_on = fields.get(&CONTEXT).and_then(TraceKey::parse);
        let key = passed_on.or_else(|| trace_key(fields));
        let context = key.and_then(|key| contexts.find(key));
        let own = fields.get(GRPC_TIMEOUT).and_then(grpc_timeout).map(|own| now + own.min(REMAINING_MAX));
        let found = if context.is_some() { Known::Context } else { Known::Nothing };
        let context = context.unwrap_or_default();
        let deadline = [context.deadline, own].into_iter().flatten().min();
        let class = context.class.and_then(|class| contexts.class_name(class)).cloned();
        (Self { deadline, class, attempts_before: context.attempts_before }, key, found)
    }

    /// What is kept of it while its request is under way.
    pub fn context(&self, contexts: &Contexts) -> Context {
        let class = self.class.as_ref().and_then(|class| contexts.class(class));
        Context { deadline: self.deadline, class, retried: false, attempts_before: self.attempts_before }
    }

    /// For the next sidecar: what remains now until `deadline`, the route's or the caller's own, and which attempt it is after
    /// `made` here.
    pub fn send(&self, deadline: Option<Instant>, made: u32, fields: &mut HeaderMap, now: Instant) {
        let before = self.attempts_before + made;
        if before > 0 {
            fields.insert(&ATTEMPT, HeaderValue::from(before + 1));
        }
        if let Some(deadline) = deadline {
            let ms = deadline.saturating_duration_since(now).as_millis();
            // At least 1: what has run out was refused before.
            let ms = u64::try_from(ms).unwrap_or(u64::MAX).max(1);
            fields.insert(&TIMEOUT, HeaderValue::from(ms));
            if fields.contains_key(GRPC_TIMEOUT) {
                // Eight digits at most (gRPC over HTTP/2, "Timeout").
                let text = format!("{}m", ms.min(99_999_999));
                fields.insert(GRPC_TIMEOUT, HeaderValue::try_from(text).expect("digits and a letter"));
            }
        }
        if let Some(class) = &self.class {
            fields.insert(&CLASS, class.clone());
        }
    }
}

/// The trace that a request says it belongs to (W3C Trace Context, section 3.2).
pub fn trace_key(fields: &HeaderMap) -> Option<TraceKey> {
    let text = fields.get(TRACEPARENT)?.to_str().ok()?;
    let id = text.get(3..35).filter(|_| text.as_bytes().get(2) == Some(&b'-'))?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id > 0).map(TraceKey::of)
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    number(value).map(Duration::from_millis)
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// gRPC over HTTP/2, "Timeout": up to eight digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let sound = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| sound)?;
    match unit {
        "H" => Some(Duration::from_hours(count)),
        "M" => Some(Duration::from_mins(count)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// The classes of a service's policy, ready to be asked about each request.
#[derive(Debug, Clone)]
pub struct Classes {
    header: HeaderName,
    names: Vec<HeaderValue>,
    default: usize,
    trusted: Vec<outrider_shared::SpiffeId>,
}

impl Classes {
    /// `None`: its header is no name, which policy does not let through.
    pub fn new(priority: &traffic::Priority) -> Option<Self> {
        Some(Self {
            header: HeaderName::from_bytes(priority.header.as_bytes()).ok()?,
            names: priority
                .classes
                .iter()
                .map(|class| HeaderValue::try_from(&class.name).ok())
                .collect::<Option<_>>()?,
            default: priority.default,
            trusted: priority.trusted_from.clone(),
        })
    }

    /// At least one.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// Of requests of which nothing is known.
    pub fn default(&self) -> usize {
        self.default
    }

    /// Which class a request is in, and how it is called from here on. Of a trusted caller its header decides, then what the
    /// sidecars before say. Everybody else may be less important than the default, by the one or the other, and never more.
    pub fn of(
        &self,
        principal: &Principal,
        fields: &HeaderMap,
        told: Option<&HeaderValue>,
    ) -> (usize, HeaderValue) {
        let trusted = matches!(principal, Principal::Mesh(identity) if self.trusted.contains(identity));
        let known = |name: &HeaderValue| self.names.iter().position(|known| known == name);
        let (given, told) = (fields.get(&self.header).and_then(known), told.and_then(known));
        let class = if trusted { given.or(told) } else { given.max(told).max(Some(self.default)) };
        let class = class.unwrap_or(self.default);
        (class, self.names[class].clone())
    }
}
