//! HTTP/1.1, by a codec of our own: a strict parser as pure machines, and the two ends of a connection around it.
//!
//! Our own, and not hyper's, for two reasons. What is forwarded must be what was decided on, so a message that two readers
//! could take for two things is refused at the first byte that makes it so; hyper's parser takes bare line feeds, and
//! drops `Content-Length` beside `Transfer-Encoding` without a word. And its two legs cost a fifth of a pair's processor
//! time, in a task for each connection, a channel for each body and a timer for each head, none of which this needs.
//!
//! ```text
//! bytes ─▶ scan (where does the head end?) ─▶ head (what does it say?) ─▶ framing (where does the body end?) ─▶ chunked
//! ```
//!
//! Everything before [`conn`] is pure: no socket, no clock, no task. [`malformed::Malformed`] is the closed list of what
//! is refused, each with a reason that is counted.

pub mod chunked;
pub mod client;
pub mod conn;
pub mod encode;
pub mod framing;
pub mod head;
pub mod malformed;
pub mod scan;
pub mod server;
pub mod sink;

#[cfg(test)]
mod tests;
