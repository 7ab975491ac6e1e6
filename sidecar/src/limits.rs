//! What a client may ask of a sidecar, with defaults: flags, each also by environment.
//!
//! Three kinds of clients are told apart. Those from outside (edges, and plaintext where a port permits it) have proved
//! nothing and get all of these bounds. The own app gets those on heads and time. Another sidecar has proved who it is, and
//! what reaches it has passed these bounds at its own listener; its connections are long-lived and carry many streams.

use std::cell::Cell;
use std::time::{Duration, Instant};

use clap::Args;
use http::Request;

use crate::leg::h1::malformed::Malformed;
use crate::leg::h1::scan;
use crate::leg::h2_server::STREAMS_MAX;

#[cfg(test)]
mod tests;

/// Bounds on clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Largest head of a request, in bytes; past it 431.
    #[arg(long = "limit-head-bytes", env = "OUTRIDER_LIMIT_HEAD_BYTES", value_name = "BYTES", default_value_t = HEAD_BYTES, value_parser = clap::value_parser!(u32).range(1_024..=1_048_576))]
    pub head_bytes: u32,

    /// Most fields in a head; past it 431.
    #[arg(long = "limit-fields", env = "OUTRIDER_LIMIT_FIELDS", value_name = "N", default_value_t = FIELDS, value_parser = clap::value_parser!(u32).range(8..=1_000))]
    pub fields: u32,

    /// Longest target of a request (path and query), in bytes; past it 414.
    #[arg(long = "limit-target-bytes", env = "OUTRIDER_LIMIT_TARGET_BYTES", value_name = "BYTES", default_value_t = TARGET_BYTES, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub target_bytes: u32,

    /// Streams that a client from outside may have open on one HTTP/2 connection.
    #[arg(long = "limit-streams", env = "OUTRIDER_LIMIT_STREAMS", value_name = "N", default_value_t = STREAMS, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub streams: u32,

    /// Streams that a client from outside may reset in a second on one connection; past it the connection ends with GOAWAY.
    #[arg(long = "limit-resets-per-second", env = "OUTRIDER_LIMIT_RESETS_PER_SECOND", value_name = "N", default_value_t = RESETS_PER_SECOND, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub resets_per_second: u32,

    /// A head that has begun must be whole within this time, in seconds; past it 408.
    #[arg(long = "limit-head-s", env = "OUTRIDER_LIMIT_HEAD_S", value_name = "SECONDS", default_value_t = HEAD_S, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub head_s: u32,

    /// A connection without a request is closed after this time, in seconds.
    #[arg(long = "limit-idle-s", env = "OUTRIDER_LIMIT_IDLE_S", value_name = "SECONDS", default_value_t = IDLE_S, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub idle_s: u32,

    /// A TLS handshake at an edge must be over within this time, in seconds.
    #[arg(long = "limit-handshake-s", env = "OUTRIDER_LIMIT_HANDSHAKE_S", value_name = "SECONDS", default_value_t = HANDSHAKE_S, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub handshake_s: u32,

    /// Connections that one address (of IPv6 one /64) may have open to the inbound port and the edges together; more of
    /// them are closed at once.
    #[arg(long = "limit-connections-per-address", env = "OUTRIDER_LIMIT_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value_t = CONNECTIONS_PER_ADDRESS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_per_address: u32,
}

/// 64 KiB: what HTTP/2 may bring on the other side, and Envoy takes 60 KiB.
const HEAD_BYTES: u32 = 64 << 10;
/// 100: Envoy's bound. A browser sends 20.
const FIELDS: u32 = 100;
/// 16 KiB: twice what RFC 9110, section 4.1, asks every recipient to take.
const TARGET_BYTES: u32 = 16 << 10;
/// 128: nginx's; RFC 9113, section 6.5.2, asks for no less than 100.
const STREAMS: u32 = 128;
/// 200: a page that is left cancels fewer, and an attack by resets needs thousands (CVE-2023-44487).
const RESETS_PER_SECOND: u32 = 200;
/// 10 s: a slow link sends 16 KiB in less.
const HEAD_S: u32 = 10;
/// 620 s: longer than any client in common use keeps a connection (Chrome: 5 minutes; Google Cloud's load balancers: 10), so that
/// it is the client who closes, and no request meets a closing connection.
const IDLE_S: u32 = 620;
/// 10 s: a phone on a bad link takes seconds for its round trips.
const HANDSHAKE_S: u32 = 10;
/// 8,192: a proxy or a NAT in front brings thousands, and one host must not take all descriptors.
const CONNECTIONS_PER_ADDRESS: u32 = 8_192;
/// A peer's connection ends with its leaf; a day without a request is longer than most leaves live.
const PEER_IDLE: Duration = Duration::from_hours(24);

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: HEAD_BYTES,
            fields: FIELDS,
            target_bytes: TARGET_BYTES,
            streams: STREAMS,
            resets_per_second: RESETS_PER_SECOND,
            head_s: HEAD_S,
            idle_s: IDLE_S,
            handshake_s: HANDSHAKE_S,
            connections_per_address: CONNECTIONS_PER_ADDRESS,
        }
    }
}

/// Bounds on one connection as a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfConnection {
    pub head: scan::Limits,
    pub head_bytes: u32,
    pub streams: u32,
    /// `None`: as many as it likes.
    pub resets_per_second: Option<u32>,
    pub head_time: Duration,
    pub idle_time: Duration,
}

impl Limits {
    pub fn handshake_time(&self) -> Duration {
        Duration::from_secs(self.handshake_s.into())
    }

    /// Of heads, on every HTTP/1.1 connection.
    pub fn heads(&self) -> scan::Limits {
        let size = |n: u32| usize::try_from(n).expect("32 bits fit on every target");
        scan::Limits {
            head_bytes: size(self.head_bytes),
            fields: size(self.fields),
            target_bytes: size(self.target_bytes),
        }
    }

    /// For whoever has proved nothing.
    pub fn of_outside(&self) -> OfConnection {
        OfConnection {
            head: self.heads(),
            head_bytes: self.head_bytes,
            streams: self.streams,
            resets_per_second: Some(self.resets_per_second),
            head_time: Duration::from_secs(self.head_s.into()),
            idle_time: Duration::from_secs(self.idle_s.into()),
        }
    }

    /// For the own app, which may cancel what it likes.
    pub fn of_app(&self) -> OfConnection {
        OfConnection { streams: STREAMS_MAX, resets_per_second: None, ..self.of_outside() }
    }

    /// For another sidecar: heads may be twice as large, since it and its routes add to what was within bounds there, and
    /// HTTP/2 counts each field's bytes with 32 more.
    pub fn of_peer(&self) -> OfConnection {
        let scan::Limits { head_bytes, fields, target_bytes } = self.heads();
        let head =
            scan::Limits { head_bytes: 2 * head_bytes, fields: 2 * fields, target_bytes: 2 * target_bytes };
        OfConnection { head, head_bytes: 2 * self.head_bytes, idle_time: PEER_IDLE, ..self.of_app() }
    }
}

impl OfConnection {
    /// What HTTP/2 does not bound by itself: the codec counts a head's bytes alone.
    pub fn judge<B>(&self, request: &Request<B>) -> Result<(), Malformed> {
        if request.headers().len() > self.head.fields {
            return Err(Malformed::TooManyFields { limit: self.head.fields });
        }
        let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
        if target > self.head.target_bytes {
            return Err(Malformed::TargetTooLong { limit: self.head.target_bytes });
        }
        Ok(())
    }
}

/// Counts resets of one connection: a bucket that holds one second's worth and is filled as time passes.
#[derive(Debug)]
pub struct ResetMeter {
    per_second: Option<f64>,
    left: Cell<f64>,
    filled_at: Cell<Instant>,
}

impl ResetMeter {
    pub fn new(per_second: Option<u32>, now: Instant) -> Self {
        let per_second = per_second.map(f64::from);
        Self { per_second, left: Cell::new(per_second.unwrap_or_default()), filled_at: Cell::new(now) }
    }

    /// The client has reset a stream.
    pub fn count(&self, now: Instant) {
        let Some(per_second) = self.per_second else { return };
        let passed = now.saturating_duration_since(self.filled_at.replace(now.max(self.filled_at.get())));
        let filled = (self.left.get() + passed.as_secs_f64() * per_second).min(per_second);
        self.left.set(filled - 1.0);
    }

    /// More were reset than may be.
    pub fn is_over(&self) -> bool {
        self.left.get() < 0.0
    }
}
