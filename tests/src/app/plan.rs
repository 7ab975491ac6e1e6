//! What an app is asked to do with a request.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use super::Speaks;

/// How a request is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Way {
    /// Read it, then answer.
    #[default]
    Answer,
    /// Send its body and trailers back as they come.
    Echo,
    /// Answer before its body is read, and never read it.
    Early,
    /// Do not read its body before the gate opens.
    Stall,
    /// Read it, and do not answer before the gate opens.
    Hold,
    /// Close the connection instead of answering.
    Close,
}

/// A call that an app makes before it answers, as part of the same trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Onward {
    /// Its sidecar's outbound port.
    pub via: SocketAddr,
    pub host: String,
    pub speaks: Speaks,
}

/// Written as `delay=250,status=503,bytes=1000`, in any order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Answer with this status; 0: 200.
    pub status: u16,
    /// Wait so many milliseconds once the request is read.
    pub delay: Duration,
    /// Answer with so many bytes of the pattern; otherwise with the request's body, up to 64 KiB.
    pub bytes: Option<u64>,
    /// Answer with this, given in hex.
    pub content: Option<Bytes>,
    /// Break the answer off after so many bytes of it.
    pub broken_at: Option<u64>,
    pub way: Way,
    /// Once it is read, the connection takes no further requests: GOAWAY (HTTP/2).
    pub goaway: bool,
    /// Call this first, by POST of the same path, and answer with its status.
    pub onward: Option<Onward>,
    /// Answer's headers.
    pub headers: Vec<(String, String)>,
    /// Answer's trailers.
    pub trailers: Vec<(String, String)>,
}

impl FromStr for Plan {
    type Err = String;
    fn from_str(given: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for item in given.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            let number = || value.parse::<u64>().map_err(|error| format!("{item}: {error}"));
            let pair = || {
                let (name, value) = value.split_once(':').ok_or_else(|| format!("{item}: not name:value"))?;
                Ok::<_, String>((name.to_owned(), value.to_owned()))
            };
            match key {
                "status" => plan.status = value.parse().map_err(|error| format!("{item}: {error}"))?,
                "delay" => plan.delay = Duration::from_millis(number()?),
                "bytes" => plan.bytes = Some(number()?),
                "broken-at" => plan.broken_at = Some(number()?),
                "hex" => plan.content = Some(hex(value).ok_or_else(|| format!("{item}: no hex"))?),
                "echo" => plan.way = Way::Echo,
                "early" => plan.way = Way::Early,
                "stall" => plan.way = Way::Stall,
                "hold" => plan.way = Way::Hold,
                "close" => plan.way = Way::Close,
                "goaway" => plan.goaway = true,
                "call" => plan.onward = Some(onward(value, Speaks::Http1)?),
                "call-grpc" => plan.onward = Some(onward(value, Speaks::Http2)?),
                "header" => plan.headers.push(pair()?),
                "trailer" => plan.trailers.push(pair()?),
                _ => return Err(format!("{item} is no part of a plan")),
            }
        }
        Ok(plan)
    }
}

fn hex(given: &str) -> Option<Bytes> {
    let byte = |at| u8::from_str_radix(given.get(at..at + 2)?, 16).ok();
    (0..given.len()).step_by(2).map(byte).collect()
}

/// `orders.test:8080@127.20.1.2:21401`.
fn onward(given: &str, speaks: Speaks) -> Result<Onward, String> {
    let (host, via) = given.split_once('@').ok_or_else(|| format!("{given}: not host@sidecar"))?;
    let via = via.parse().map_err(|error| format!("{given}: {error}"))?;
    Ok(Onward { via, host: host.to_owned(), speaks })
}
