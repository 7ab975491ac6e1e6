//! HTTP as attackers write it: tables of malformed and ambiguous messages, and what must become of each.
//!
//! One request in means at most one request out. Every byte that reaches the app is recorded and read by a parser of the
//! tests' own; what a client hears is too. The expectations are those of the RFCs, and where they leave a choice, those of
//! a proxy that does not guess.

mod answers;
mod cut;
mod envoy;
mod http2;
mod judge;
mod known;
mod requests;
mod table;
mod world;
