//! The edge listeners, which policy declares and may change while the sidecar runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use outrider_shared::snapshot::Edge;
use tokio::sync::watch;

use crate::listen::{self, Doors, Entry};
use crate::node::Node;

/// The ports that are bound, each with what stops its listener. Where a port leads is the snapshot's, request by request.
pub struct Edges {
    node: Arc<Node>,
    doors: Rc<Doors>,
    bound: RefCell<HashMap<u16, watch::Sender<bool>>>,
}

impl Edges {
    pub fn new(node: Arc<Node>, doors: Rc<Doors>) -> Self {
        Self { node, doors, bound: RefCell::default() }
    }

    /// Binds what is new, then closes what is gone. Where one cannot be bound, nothing changes.
    pub fn adopt(&self, edges: &[Edge]) -> Result<(), Vec<String>> {
        let mut bound = self.bound.borrow_mut();
        let mut problems = Vec::new();
        let mut fresh = Vec::new();
        for edge in edges.iter().filter(|edge| !bound.contains_key(&edge.port)) {
            let moved = self.node.config.edge_ports.iter().find(|pair| pair.from == edge.port);
            let address =
                SocketAddr::new(self.node.config.edge_host, moved.map_or(edge.port, |pair| pair.to));
            match listen::bind(address, "--edge-port") {
                Ok(listener) => fresh.push((edge.port, listener)),
                Err(error) => problems.push(format!("edge port {}: {error}", edge.port)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        for (port, listener) in fresh {
            let (stop, stopped) = watch::channel(false);
            let finish = self.node.finish.outside.subscribe();
            let doors = Rc::clone(&self.doors);
            actix_rt::spawn(async move {
                tokio::select! {
                    () = listen::accept(listener, Entry::Edge { port }, doors, stopped) => {}
                    () = listen::turned(finish) => {}
                }
            });
            bound.insert(port, stop);
        }
        bound.retain(|port, stop| {
            let kept = edges.iter().any(|edge| edge.port == *port);
            if !kept {
                stop.send_replace(true);
            }
            kept
        });
        Ok(())
    }
}
