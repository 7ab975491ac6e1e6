//! How a request ended, in the few words that a label can afford.

use http::StatusCode;

/// How a request ended. Few enough to keep a histogram for each; which status it was exactly is in the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnswerClass {
    /// 2xx, and for gRPC status `OK`. 1xx is never final, but 101 counts here.
    Success,
    Redirect,
    /// 4xx: the caller's fault.
    Caller,
    /// 5xx.
    Server,
    /// A gRPC status that is an answer, not a failure: `NOT_FOUND`, `PERMISSION_DENIED` and their like.
    GrpcRefused,
    /// A gRPC status that says the server failed.
    GrpcFailed,
    /// The answer broke off, or never came.
    Aborted,
    /// The caller left before the answer's end: its own decision, and no failure.
    Cancelled,
}

impl AnswerClass {
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Redirect,
        Self::Caller,
        Self::Server,
        Self::GrpcRefused,
        Self::GrpcFailed,
        Self::Aborted,
        Self::Cancelled,
    ];

    /// Of an answer that came to its end; `grpc` is its `grpc-status`, from headers or trailers, where it speaks gRPC.
    pub fn of(status: StatusCode, grpc: Option<u32>) -> Self {
        match (status.as_u16(), grpc) {
            (500.., _) => Self::Server,
            (400..=499, _) => Self::Caller,
            (300..=399, _) => Self::Redirect,
            (_, None | Some(0)) => Self::Success,
            (_, Some(code)) if grpc_failure(code) => Self::GrpcFailed,
            (_, Some(_)) => Self::GrpcRefused,
        }
    }

    /// Whether a report counts it among the failures.
    pub fn is_failure(self) -> bool {
        match self {
            Self::Server | Self::GrpcFailed | Self::Aborted => true,
            Self::Success | Self::Redirect | Self::Caller | Self::GrpcRefused | Self::Cancelled => false,
        }
    }

    /// The value of the label `class`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirect => "3xx",
            Self::Caller => "4xx",
            Self::Server => "5xx",
            Self::GrpcRefused => "grpc_refused",
            Self::GrpcFailed => "grpc_failed",
            Self::Aborted => "aborted",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Success => 0,
            Self::Redirect => 1,
            Self::Caller => 2,
            Self::Server => 3,
            Self::GrpcRefused => 4,
            Self::GrpcFailed => 5,
            Self::Aborted => 6,
            Self::Cancelled => 7,
        }
    }
}

/// `UNKNOWN`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`, and
/// every number that gRPC does not define.
fn grpc_failure(code: u32) -> bool {
    matches!(code, 2 | 4 | 8 | 12..=15 | 17..)
}
