//! Whether every address that the demo needs is free, before anything is started.

use std::fmt;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use super::layout::{Layout, PORTS};

/// Every address that cannot be bound, and what to do about it.
#[derive(Debug)]
pub struct NotFree {
    taken: Vec<Taken>,
}

#[derive(Debug)]
struct Taken {
    address: SocketAddr,
    usual: u16,
    owner: String,
    error: std::io::Error,
}

impl std::error::Error for NotFree {}

impl fmt::Display for NotFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.taken.iter().all(|taken| taken.error.kind() == ErrorKind::AddrNotAvailable) {
            let address = self.taken.first().map_or_else(String::new, |taken| taken.address.ip().to_string());
            return write!(
                f,
                "this system has no address {address}: the demo gives each pod a loopback address of its own, which \
                 Linux has; elsewhere use `docker compose up`"
            );
        }
        write!(f, "the demo cannot use these addresses:")?;
        for (usual, what) in PORTS {
            let mut taken = self.taken.iter().filter(|taken| taken.usual == usual);
            let Some(Taken { address, owner, error, .. }) = taken.next() else { continue };
            let why = match error.kind() {
                ErrorKind::AddrInUse => "taken".to_owned(),
                _ => error.to_string(),
            };
            write!(f, "\n  {address} ({what}, of {owner}): {why}")?;
            match taken.count() {
                0 => {}
                others => write!(f, ", and so for {others} other pods")?,
            }
            write!(f, "; move it with --move-port {usual}=PORT")?;
        }
        if self.taken.iter().any(|taken| !taken.address.ip().to_string().starts_with("127.0.")) {
            write!(f, "\nIf another demo runs, --pods 127.15 gives this one other addresses for its pods.")?;
        }
        Ok(())
    }
}

/// Binds each address once, and lets it go. What takes one between now and then is told by the process that needs it.
pub fn check_free(layout: &Layout) -> Result<(), NotFree> {
    // All are held until all have been tried, so that two that were moved onto each other are found too.
    let mut held = Vec::new();
    let mut taken = Vec::new();
    for (address, usual, owner) in layout.binds() {
        match TcpListener::bind(address) {
            Ok(listener) => held.push(listener),
            Err(error) => taken.push(Taken { address, usual, owner, error }),
        }
    }
    if taken.is_empty() { Ok(()) } else { Err(NotFree { taken }) }
}
