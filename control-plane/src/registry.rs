//! Who is alive, where, and who is told: sidecars, their sessions, the published directory.
//!
//! ```text
//!   Hello ─▶ known ─▶ dialled and proved ─▶ serving ─▶ published ─▶ (session ends) ─▶ lease ends ─▶ gone
//! ```
//!
//! An address is published only after we have dialled it ourselves and the handshake has shown the identity that
//! registered it. Every change is planned anew for each session; what has not changed for a sidecar is not pushed.

pub mod actor;
pub mod dial;
pub mod machine;
mod push;
mod sessions;
mod views;

pub use actor::{Message, Origin, Registry};

#[cfg(test)]
mod tests;
