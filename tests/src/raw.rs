//! HTTP by the byte: what no library would send, and what no library would show of what came.
//!
//! Nothing in here is shared with what is under test. The parser is stricter than RFC 9112 asks a recipient to be: what
//! it calls bad is what two readers might read in two ways.

pub mod client;
pub mod http2;
pub mod message;
pub mod recorder;
pub mod script;
