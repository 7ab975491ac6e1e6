//! HTTP/2 as attackers write it, at an edge that takes it with prior knowledge.

use std::net::SocketAddr;

use outrider_tests::raw::http2::{Fate, Peer, code, frame, headers};

use crate::world::HOST;

mod floods;
mod frames;
mod heads;

/// The head of an ordinary request of this id.
fn ordinary(stream: u32, id: &str, end: bool) -> Vec<u8> {
    let path = format!("/{id}");
    let fields = ordinary_fields(&path);
    headers(stream, &fields, end)
}

fn ordinary_fields(path: &str) -> [(&[u8], &[u8]); 4] {
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", HOST.as_bytes()),
        (b":path", path.as_bytes()),
    ]
}

/// An ordinary request on a connection of its own is served.
async fn is_served(address: SocketAddr, id: &str) -> Result<(), String> {
    let mut peer = Peer::connect(address, &[]).await;
    peer.send(&ordinary(1, id, true)).await.map_err(|error| error.to_string())?;
    match peer.fate(1).await {
        Fate::Answered(200) => Ok(()),
        fate => Err(format!("{fate:?}")),
    }
}
