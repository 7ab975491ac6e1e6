//! A control plane in this process, and sidecars that speak to it over real sockets.

mod actors;
mod api;
mod sessions;
mod sidecar;
mod world;
