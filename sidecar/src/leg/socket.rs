//! How the kernel is to treat the sockets of requests.

use std::io;
use std::os::fd::AsFd;

use socket2::SockRef;

/// What may lie in the kernel's buffer and not be on its way yet. 64 KiB: one turn of a large body.
///
/// The kernel says that there is room again once a third of its buffer is free. Of one that has grown to 4 MiB that is a burst
/// of more than a megabyte at a time, for which small requests wait; and what a slow reader has not taken is held in kernel
/// memory.
const NOT_SENT_BYTES_MAX: u32 = 64 << 10;

/// Small writes go at once, and large ones in small bursts. Of a listener: all that it accepts.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)
}
