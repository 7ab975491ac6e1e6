//! The harness: a whole mesh on real loopback sockets, apps that record, and what cases call them with.
//!
//! A case takes a [`loopback::Block`] of addresses, so that the usual ports can be used on each; it waits on levels
//! within a bound ([`wait`]) and never sleeps to let something happen.

pub mod app;
pub mod authority;
pub mod call;
pub mod collector;
pub mod loopback;
pub mod mesh;
pub mod net;
pub mod pattern;
pub mod peer;
pub mod policy;
pub mod process;
pub mod raw;
pub mod reference;
pub mod relay;
pub mod third_party;
pub mod tools;
pub mod wait;
