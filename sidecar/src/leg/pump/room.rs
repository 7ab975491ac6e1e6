//! Room for copies of requests' bodies, of the whole sidecar.
//!
//! Each request that may have to be sent again keeps its body up to a bound of its own; with many requests at once those
//! bounds together are no bound. Here they share one. What finds no room is not kept: its request is sent all the same, and
//! is final once a part of its body is gone. A request without a body touches none of this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of bodies that are kept at once, where memory is not bounded or is plenty. 64 MiB: a thousand requests with 64 KiB
/// each.
const BYTES_MAX: u64 = 64 << 20;
/// Of the memory that the sidecar may use, no more than this part. A sixteenth: buffers of connections need more, and
/// overload is declared from nine tenths on.
const PART: u64 = 16;

/// How much is kept, and may be. Shared by all shards; written for each frame of a body that is kept.
#[derive(Debug)]
pub struct Room {
    bytes_max: u64,
    bytes: AtomicU64,
    full: AtomicU64,
    too_long: AtomicU64,
}

/// What metrics show of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomView {
    pub bytes: u64,
    pub bytes_max: u64,
    /// Bodies that were not kept: since others filled the room, and since they were longer than one request may keep.
    pub no_room: u64,
    pub too_long: u64,
}

impl Room {
    /// `memory_bytes`: what the sidecar may use; `None`: nobody has set a bound.
    pub fn new(memory_bytes: Option<u64>) -> Self {
        let bytes_max = memory_bytes.map_or(BYTES_MAX, |memory| (memory / PART).min(BYTES_MAX));
        Self { bytes_max, bytes: AtomicU64::new(0), full: AtomicU64::new(0), too_long: AtomicU64::new(0) }
    }

    pub fn view(&self) -> RoomView {
        RoomView {
            bytes: self.bytes.load(Ordering::Relaxed),
            bytes_max: self.bytes_max,
            no_room: self.full.load(Ordering::Relaxed),
            too_long: self.too_long.load(Ordering::Relaxed),
        }
    }

    /// A place that is empty as yet.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        Place { room: Arc::clone(self), bytes: 0 }
    }
}

/// What one body takes of it. Its drop gives it back.
#[derive(Debug)]
pub(super) struct Place {
    room: Arc<Room>,
    bytes: u64,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Place {
    pub fn grow(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let more = bytes as u64;
        let taken = self.room.bytes.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
        if taken.saturating_add(more) > self.room.bytes_max {
            // What was taken beyond the bound goes back with the place, which is dropped for it.
            self.room.full.fetch_add(1, Ordering::Relaxed);
            return Err(NoRoom);
        }
        Ok(())
    }

    /// It would be longer than one body may be.
    pub fn is_too_long(&self) {
        self.room.too_long.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
