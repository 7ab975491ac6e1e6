//! What an attempt's end means: for the breaker of whoever got it, and for whether it is made again.
//!
//! Both are policy's to say: `failureWhen` what counts against an endpoint, the rule's `retry` what is worth another attempt.
//! Pure; [`crate::upstream::breaker`] counts the outcome, and budget, deadline and number of attempts come after this.

use std::fmt;

use http::{HeaderMap, HeaderName, Method, StatusCode};
use outrider_shared::traffic::{FailureWhen, Retry};

use crate::upstream::breaker::Outcome;

#[cfg(test)]
mod tests;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Codes of gRPC that are not read but concluded.
mod code {
    pub const UNKNOWN: u8 = 2;
    pub const PERMISSION_DENIED: u8 = 7;
    pub const UNIMPLEMENTED: u8 = 12;
    pub const INTERNAL: u8 = 13;
    pub const UNAVAILABLE: u8 = 14;
    pub const UNAUTHENTICATED: u8 = 16;
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Answered(Answered),
    /// No connection, or none with the right identity.
    ConnectFailed,
    ConnectTimedOut,
    /// The far side took the connection and not the request (`REFUSED_STREAM`, GOAWAY): it provably never ran.
    Declined,
    /// Connection or stream ended before an answer began.
    Reset,
    /// They ended after a part of the answer had gone down.
    BrokeOff,
    /// The attempt took longer than its route allows.
    AttemptTimedOut,
    /// The whole request did, or its deadline came.
    RequestTimedOut,
    /// The client went away first.
    ClientLeft,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    pub status: StatusCode,
    /// Where the request is gRPC, and as soon as it is known: [`grpc`].
    pub grpc: Option<u8>,
    pub by: By,
}

/// Who made an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The app, or its sidecar for the app's sake.
    Backend,
    /// The far sidecar, which protects its app: no permit, no place in the queue, no time left.
    Shed,
}

/// How much of an answer there is.
#[derive(Debug, Clone, Copy)]
pub enum Trailers<'a> {
    ToCome,
    /// The answer is over; `None`: it had none.
    Over(Option<&'a HeaderMap>),
}

/// The code of a gRPC answer, from its trailers, or from its head where there is nothing but trailers. `None`: its trailers
/// are still to come. A status other than 200 without a code is mapped as gRPC's clients do it
/// (grpc/doc/http-grpc-status-mapping.md), and an answer that ends without a code is `UNKNOWN`.
pub fn grpc(status: StatusCode, head: &HeaderMap, trailers: Trailers<'_>) -> Option<u8> {
    let read = |fields: &HeaderMap| {
        let value = fields.get(&GRPC_STATUS)?;
        let code = value.to_str().ok().and_then(|code| code.parse().ok());
        Some(code.filter(|code| *code <= code::UNAUTHENTICATED).unwrap_or(code::UNKNOWN))
    };
    let (read_last, over) = match trailers {
        Trailers::ToCome => (None, None),
        Trailers::Over(fields) => (fields.and_then(read), Some(code::UNKNOWN)),
    };
    read_last.or_else(|| read(head)).or_else(|| mapped(status)).or(over)
}

/// The same of one that is over, by the code that was read on its way.
pub fn grpc_at_end(status: StatusCode, read: Option<u32>) -> u8 {
    let read = read.map(|code| {
        u8::try_from(code).ok().filter(|code| *code <= code::UNAUTHENTICATED).unwrap_or(code::UNKNOWN)
    });
    read.or_else(|| mapped(status)).unwrap_or(code::UNKNOWN)
}

fn mapped(status: StatusCode) -> Option<u8> {
    match status.as_u16() {
        200 => None,
        400 => Some(code::INTERNAL),
        401 => Some(code::UNAUTHENTICATED),
        403 => Some(code::PERMISSION_DENIED),
        404 => Some(code::UNIMPLEMENTED),
        429 | 502..=504 => Some(code::UNAVAILABLE),
        _ => Some(code::UNKNOWN),
    }
}

/// What an attempt says about the endpoint that got it. A client that went away never counts; what the far side did not
/// take on purpose counts only where policy says so.
pub fn outcome(when: &FailureWhen, ended: &Ended) -> Outcome {
    let if_listed = |listed| if listed { Outcome::Failure } else { Outcome::Ignored };
    match ended {
        Ended::ClientLeft => Outcome::Ignored,
        Ended::Declined | Ended::Answered(Answered { by: By::Shed, .. }) => if_listed(when.shed),
        Ended::Answered(answered) => {
            let status = answered.status.as_u16();
            let by_status = when.http.iter().any(|range| (range.from..=range.to).contains(&status));
            let by_code = answered.grpc.is_some_and(|code| when.grpc.contains(&code));
            if by_status || by_code { Outcome::Failure } else { Outcome::Success }
        }
        Ended::Reset | Ended::BrokeOff => if_listed(when.resets),
        Ended::AttemptTimedOut | Ended::RequestTimedOut => if_listed(when.timeouts),
        Ended::ConnectFailed | Ended::ConnectTimedOut => Outcome::Failure,
    }
}

/// Whether a request brings an `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdempotencyKey {
    Present,
    Absent,
}

impl IdempotencyKey {
    /// An empty one is none.
    pub fn of(fields: &HeaderMap) -> Self {
        match fields.get(&IDEMPOTENCY_KEY) {
            Some(key) if !key.as_bytes().trim_ascii().is_empty() => Self::Present,
            Some(_) | None => Self::Absent,
        }
    }
}

/// Whether another attempt is made, as far as the request and the end of the last one decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Retry(Why),
    Final(WhyNot),
}

/// Why an attempt is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    Status(StatusCode),
    Grpc(u8),
    ConnectFailed,
    ConnectTimedOut,
    Declined,
    Reset,
    AttemptTimedOut,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the answer was {}", status.as_u16()),
            Self::Grpc(code) => write!(f, "the answer's gRPC status was {code}"),
            Self::ConnectFailed => write!(f, "there was no connection"),
            Self::ConnectTimedOut => write!(f, "there was no connection in time"),
            Self::Declined => write!(f, "the far side did not take it"),
            Self::Reset => write!(f, "the stream ended before an answer"),
            Self::AttemptTimedOut => write!(f, "the attempt took too long"),
        }
    }
}

/// Why an attempt was the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// The answer is none after which policy says to try again.
    NotListed,
    /// A part of it is with the client already.
    AnswerBegun,
    TimeOver,
    ClientLeft,
    NotIdempotent {
        method: Method,
    },
    /// Policy asks for a key whatever the method.
    KeyRequired,
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListed => write!(f, "policy does not retry after this answer"),
            Self::AnswerBegun => write!(f, "a part of the answer had been passed on"),
            Self::TimeOver => write!(f, "the request's time is over"),
            Self::ClientLeft => write!(f, "the client went away"),
            Self::NotIdempotent { method } => {
                write!(f, "{method} is not idempotent, and there is no Idempotency-Key")
            }
            Self::KeyRequired => write!(f, "policy asks for an Idempotency-Key, and there is none"),
        }
    }
}

/// Whether the attempt is made again: what policy retries after, of a request that may be repeated. A method is idempotent
/// by RFC 9110, 9.2.2; a gRPC call is a POST, and so needs a key.
pub fn retry(policy: &Retry, method: &Method, key: IdempotencyKey, ended: &Ended) -> Verdict {
    let why = match ended {
        Ended::ClientLeft => return Verdict::Final(WhyNot::ClientLeft),
        Ended::RequestTimedOut => return Verdict::Final(WhyNot::TimeOver),
        Ended::BrokeOff => return Verdict::Final(WhyNot::AnswerBegun),
        Ended::Answered(answered) => match listed(policy, *answered) {
            Some(why) => why,
            None => return Verdict::Final(WhyNot::NotListed),
        },
        Ended::ConnectFailed => Why::ConnectFailed,
        Ended::ConnectTimedOut => Why::ConnectTimedOut,
        Ended::Declined => Why::Declined,
        Ended::Reset => Why::Reset,
        Ended::AttemptTimedOut => Why::AttemptTimedOut,
    };
    match key {
        IdempotencyKey::Present => Verdict::Retry(why),
        IdempotencyKey::Absent if policy.idempotency_key_required => Verdict::Final(WhyNot::KeyRequired),
        IdempotencyKey::Absent if method.is_idempotent() => Verdict::Retry(why),
        IdempotencyKey::Absent => Verdict::Final(WhyNot::NotIdempotent { method: method.clone() }),
    }
}

fn listed(policy: &Retry, answered: Answered) -> Option<Why> {
    if let Some(code) = answered.grpc.filter(|code| policy.grpc.contains(code)) {
        return Some(Why::Grpc(code));
    }
    policy.http.contains(&answered.status.as_u16()).then_some(Why::Status(answered.status))
}
