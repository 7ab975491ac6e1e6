//! Loopback addresses that belong to one case alone, so that fixed ports on them cannot collide.
//!
//! Linux answers on all of 127.0.0.0/8. A [`Block`] is one 127.x.y.0/24 in it, held by a listener on its first address
//! for as long as the case runs: two cases, also of two processes, never share a block.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};

/// Holds a block. Any port would do; this one belongs to nothing that a case binds.
const LOCK_PORT: u16 = 21_399;

/// Ports of sidecars and control planes under test: not the usual ones, which a mesh that runs on this machine may have on
/// every address, and below those that the system gives away by itself.
pub mod port {
    pub const ADMIN: u16 = 21_400;
    pub const OUTBOUND: u16 = 21_401;
    pub const INBOUND: u16 = 21_406;
    pub const HEALTH: u16 = 21_490;
    pub const API: u16 = 21_500;
    pub const CONTROL: u16 = 21_501;
    /// The first listener for one upstream.
    pub const UPSTREAM: u16 = 21_601;
    /// An edge listener of policies.
    pub const EDGE: u16 = 21_410;
    /// Where apps listen, whatever port their service is called by.
    pub const APP: u16 = 21_080;
}

/// A /24 of addresses, handed out one after the other.
#[derive(Debug)]
pub struct Block {
    network: [u8; 3],
    next: AtomicU8,
}

impl Block {
    /// The first block that nobody holds, beginning at one that other processes hardly begin at.
    pub fn claim() -> Self {
        let start = std::process::id().wrapping_mul(31);
        // Past 127.15.x.x, where people and tools put addresses by hand.
        for index in 0..240_u32 * 256 {
            let at = start.wrapping_add(index);
            let [_, _, high, low] = (at % (240 * 256)).to_be_bytes();
            let network = [127, 16 + high % 240, low];
            let first = Ipv4Addr::new(network[0], network[1], network[2], 1);
            if let Ok(lock) = TcpListener::bind((first, LOCK_PORT)) {
                // Closed by the end of the process.
                std::mem::forget(lock);
                return Self { network, next: AtomicU8::new(2) };
            }
        }
        panic!("61,440 blocks of loopback addresses are held by others");
    }

    /// An address that nothing else in this block has.
    pub fn address(&self) -> IpAddr {
        let last = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(last != 0 && last < 255, "a case uses at most 252 addresses");
        IpAddr::V4(Ipv4Addr::new(self.network[0], self.network[1], self.network[2], last))
    }
}
