//! How the kernel is to treat the sockets of requests.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// What may lie in the kernel's buffer and not be on its way yet. 64 KiB: one turn of a large body.
///
/// The kernel says that there is room again once a third of its buffer is free. Of one that has grown to 4 MiB that is a burst
/// of more than a megabyte at a time, for which small requests wait; and what a slow reader has not taken is held in kernel
/// memory.
const NOT_SENT_BYTES_MAX: u32 = 64 << 10;

/// A silent client is asked whether it is still there: a phone or a NAT that has gone says nothing. 60 s, and then each 10 s, three
/// times: half of what Go's and many other servers wait, so that what they notice is noticed in front of them.
const SILENT_MAX: Duration = Duration::from_mins(1);
const ASK_EVERY: Duration = Duration::from_secs(10);
const ASKS: u32 = 3;

/// Of a listener: all that it accepts.
pub fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let asks = TcpKeepalive::new().with_time(SILENT_MAX).with_interval(ASK_EVERY).with_retries(ASKS);
    SockRef::from(socket).set_tcp_keepalive(&asks)
}

/// Small writes go at once, and large ones in small bursts. Of a listener: all that it accepts.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)
}
