//! Peers that are let in and peers that are refused, each for its own reason.

mod authority;
mod chains;
mod handshakes;
mod limbo;
mod names;
mod texts;
