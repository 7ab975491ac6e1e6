//! What others wrote, on both ends of two sidecars: gRPC's own cases, and every kind of HTTP client against every kind of
//! server. Each is compared with what the same two do without a sidecar between them.

mod ask;
mod cell;
mod clients;
mod grpc;
mod matrix;
mod operation;
mod page;
mod parse;
mod servers;
