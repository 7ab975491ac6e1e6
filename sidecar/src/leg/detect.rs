//! Ports whose policy does not say what they speak.
//!
//! What a connection speaks is told by its first bytes ([`judge`]). The outbound side asks it of what its app sends
//! ([`client`]), and sends HTTP on as requests; the inbound side asks it of what comes through a tunnel all the same
//! ([`watch`]), so that nobody carries HTTP past the rules about it.

pub mod client;
pub mod judge;
pub mod watch;

#[cfg(test)]
mod tests;
