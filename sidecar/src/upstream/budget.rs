//! A retry budget: how many of the requests to an upstream may be retries (GEP-3388).
//!
//! Without it, each caller of a backend that fails multiplies its load just when the backend can bear it least. The
//! upstream's actor owns one [`Machine`]; shards tell it what began and what they spent, and get tokens in blocks.
//!
//! ```text
//!   shard:  began n requests (each 50 ms) ─────────────▶ actor: counts them
//!           a retry, and no token: asks  ──────────────▶        grants a Block: tokens, and when they expire
//!           spends tokens of the block, without a message
//!           spent so far, and whether it is done with it ▶       counts them; what is left can be granted again
//! ```
//!
//! **What is never exceeded.** Let I and `percent` be of the budget, m and `count` of the minimum rate. At each retry of any
//! shard, the retries of all shards within the I that ends with it, itself included, are at most
//! - `percent` of the requests that began within the same I, or
//! - `count` x I / m, while those within the m that ends with it are at most `count`,
//!
//! whichever allows more. The first is the share; the second the minimum rate, which is spread, so that little traffic gets
//! its retries at a rate and not as one burst each I. So the retries within I are at most the larger of the share and the
//! minimum rate. Windows that end between retries are not meant: when requests stop, no rule could take retries back.
//!
//! **Why it holds although everything told is old.** A grant at g lets tokens be spent until g + E, where E is a tenth of the
//! shorter interval. It counts only requests that are still within I at g + E, by the earliest time at which they can have
//! begun, and every retry by the latest time at which it can have been made: an outstanding token by its expiry. So what
//! holds at g holds whenever a token of it, or an older one, is spent before the next grant. A late or lost message only
//! makes the count too careful.
//!
//! **What it costs.** The budget may be under-used by what other shards hold for E (shards x [`machine::BLOCK_MAX`] at most)
//! and by what expires within E and one bucket of each interval (a tenth and a twentieth).
//!
//! A retry is made when its token is spent, before it waits for its backoff: spent after that, the answer that it replaces
//! would be gone.
//!
//! Messages in: methods of [`Machine`], all from shards. Out: [`Block`], [`View`].

pub mod machine;
#[cfg(test)]
mod tests;

pub use machine::{Block, Machine, View};
