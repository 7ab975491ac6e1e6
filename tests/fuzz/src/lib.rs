//! The machines that read bytes of strangers, taken in by their path: with the crates that they belong to, a sanitized
//! build would take minutes.

#[path = "../../../sidecar/src/leg/h1"]
pub mod h1 {
    pub mod chunked;
    pub mod encode;
    pub mod framing;
    pub mod head;
    pub mod malformed;
    pub mod scan;
}

#[path = "../../../sidecar/src/leg/detect"]
pub mod detect {
    pub mod judge;
    pub mod watch;
}

#[path = "../../../sidecar/src/pipeline/accept"]
pub mod accept {
    pub mod http2;
    pub mod wire;
}

#[path = "../../../shared/src/ids.rs"]
pub mod ids;
#[path = "../../../shared/src/names.rs"]
pub mod names;

/// What the sidecar's sources call the crate that these two are of.
extern crate self as outrider_shared;
pub use ids::ServiceId;

use h1::malformed::Malformed;
use h1::scan::{Limits, Scanner};

/// Small ones, so that short inputs reach them.
pub const LIMITS: Limits = Limits { head_bytes: 512, fields: 8, target_bytes: 64 };

/// Where the head ends, as it comes in pieces of `piece` bytes.
pub fn scan(mut scanner: Scanner, bytes: &[u8], piece: usize) -> Result<Option<usize>, Malformed> {
    for start in (0..bytes.len()).step_by(piece) {
        let end = (start + piece).min(bytes.len());
        if let Some(length) = scanner.scan(&bytes[..end], &LIMITS)? {
            return Ok(Some(length));
        }
    }
    Ok(None)
}

/// The same for every way of cutting it up: [`None`] where it is not whole, or no head.
pub fn whole_head(scanner: &Scanner, bytes: &[u8]) -> Option<usize> {
    let at_once = scan(scanner.clone(), bytes, bytes.len().max(1));
    let pieces = scan(scanner.clone(), bytes, 1);
    // Which bound is met first depends on how much has come; that one is, does not.
    assert_eq!(at_once.ok(), pieces.ok(), "pieces are read as the whole");
    let length = at_once.ok()??;
    let head = &bytes[..length];
    assert!(head.ends_with(b"\r\n"));
    for (at, byte) in head.iter().enumerate() {
        assert!(*byte != b'\n' || at > 0 && head[at - 1] == b'\r', "every line feed ends a line");
    }
    Some(length)
}
