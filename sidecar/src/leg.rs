//! The four ends of the data path: HTTP/1.1 and HTTP/2, as a server and as a client.
//!
//! HTTP/1.1 is a codec of our own; HTTP/2, towards apps and between sidecars, is the `h2` crate with [`coalesce`] under it.
//! Both present a request or an answer with a [`body::Body`], so that the pipeline does not know which version it came
//! in. Everything here lives on one shard: `Rc`, not `Arc`.

pub mod body;
pub mod coalesce;
pub mod detect;
pub mod h1;
pub mod h2_client;
pub mod h2_server;
pub mod interim;
pub mod keepalive;
pub mod later;
pub mod opaque;
pub mod patience;
pub mod pump;
pub mod service;
pub mod socket;
pub mod wire;
