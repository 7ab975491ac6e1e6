//! The atomics under [`super::lease`]: apart, so that its models run the same code on loom's, which tries every order.

pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub use crossbeam_utils::CachePadded;
