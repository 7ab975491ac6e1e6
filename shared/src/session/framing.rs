//! Cuts a message into frames and puts it together again: one byte that says whether more follow, then a part.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::snapshot::SNAPSHOT_BYTES_MAX;

/// Part of a message in one frame, in bytes. Half of what actix's WebSocket codecs take by default.
pub const PART_BYTES_MAX: usize = 32 << 10;
/// A whole message: the largest snapshot, its JSON escaped once more as a string (at most doubled), and its signature.
pub const MESSAGE_BYTES_MAX: usize = 2 * SNAPSHOT_BYTES_MAX + (64 << 10);

const MORE: u8 = 1;
const LAST: u8 = 0;

/// Why a frame or message was refused. The session ends: nothing after it could be understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("an empty frame")]
    Empty,
    #[error("a frame that begins with byte {got}, which is neither 0 (last) nor 1 (more)")]
    Marker { got: u8 },
    #[error("a message of more than {limit} bytes")]
    TooLong { limit: usize },
    #[error("a message that is not what this version knows")]
    Json(#[source] serde_json::Error),
}

/// The frames of one message, in order.
pub fn frames<M: Serialize>(message: &M) -> Vec<Bytes> {
    let json = serde_json::to_vec(message).expect("our own messages are plain data");
    let parts = json.len().div_ceil(PART_BYTES_MAX).max(1);
    let mut frames = Vec::with_capacity(parts);
    for (index, part) in json.chunks(PART_BYTES_MAX).enumerate() {
        let mut frame = Vec::with_capacity(1 + part.len());
        frame.push(if index + 1 == parts { LAST } else { MORE });
        frame.extend_from_slice(part);
        frames.push(Bytes::from(frame));
    }
    frames
}

/// Puts messages of type `M` together. Holds at most [`MESSAGE_BYTES_MAX`], or the bound given.
#[derive(Debug)]
pub struct Assembler {
    partial: Vec<u8>,
    limit: usize,
}

impl Assembler {
    pub fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), limit }
    }

    /// Takes a frame; returns the message that it completes.
    pub fn take<M: DeserializeOwned>(&mut self, frame: &[u8]) -> Result<Option<M>, FrameError> {
        let (&marker, part) = frame.split_first().ok_or(FrameError::Empty)?;
        if self.partial.len() + part.len() > self.limit {
            return Err(FrameError::TooLong { limit: self.limit });
        }
        self.partial.extend_from_slice(part);
        match marker {
            MORE => Ok(None),
            LAST => {
                let json = std::mem::take(&mut self.partial);
                serde_json::from_slice(&json).map(Some).map_err(FrameError::Json)
            }
            got => Err(FrameError::Marker { got }),
        }
    }
}

#[cfg(test)]
mod tests;
