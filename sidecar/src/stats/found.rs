//! What connections turned out to speak, to ports whose policy does not say.

/// What was found out, and by whose word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Found {
    /// Outbound: the app spoke HTTP/1.
    Http1,
    /// Outbound: the app spoke HTTP/2 with prior knowledge.
    Http2,
    /// Outbound: the app spoke something else.
    Opaque,
    /// Outbound: the server spoke before the app did.
    ServerFirst,
    /// Outbound: the app ended without a word, or nobody spoke for too long.
    Silent,
    /// Inbound: a tunnel carried HTTP, and was ended.
    Disguised,
}

impl Found {
    pub const ALL: [Self; 6] =
        [Self::Http1, Self::Http2, Self::Opaque, Self::ServerFirst, Self::Silent, Self::Disguised];

    pub fn label(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Opaque => "opaque",
            Self::ServerFirst => "server_first",
            Self::Silent => "silent",
            Self::Disguised => "disguised",
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Http1 => 0,
            Self::Http2 => 1,
            Self::Opaque => 2,
            Self::ServerFirst => 3,
            Self::Silent => 4,
            Self::Disguised => 5,
        }
    }
}

/// What became of a tunnel that was asked for before anybody knew whether it was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfAhead {
    /// Bytes went through it: it is counted as a request.
    Used,
    Unused,
    /// It is counted as no refusal: where the app does want a tunnel, another one is asked for.
    Refused,
}

impl OfAhead {
    pub const ALL: [Self; 3] = [Self::Used, Self::Unused, Self::Refused];

    pub fn label(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unused => "unused",
            Self::Refused => "refused",
        }
    }
}
