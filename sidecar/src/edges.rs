//! The edge listeners, which policy declares and may change while the sidecar runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use outrider_shared::snapshot::Edge;
use rustls::ServerConfig;
use tokio::sync::watch;

use crate::listen::{self, Doors, Entry};
use crate::node::Node;

pub mod certificates;
pub mod tls;

/// How each port with TLS answers handshakes; shards look it up for each connection.
pub type TlsByPort = HashMap<u16, EdgeTls>;

/// TLS at one edge.
#[derive(Debug, Clone)]
pub struct EdgeTls {
    certificates: Vec<String>,
    pub server: Arc<ServerConfig>,
}

/// The ports that are bound, each with what stops its listener. Where a port leads is the snapshot's, request by request.
pub struct Edges {
    node: Arc<Node>,
    doors: Rc<Doors>,
    bound: RefCell<HashMap<u16, watch::Sender<bool>>>,
}

impl Edges {
    pub fn new(node: Arc<Node>, doors: Rc<Doors>) -> Rc<Self> {
        Rc::new(Self { node, doors, bound: RefCell::default() })
    }

    /// Binds what is new, then closes what is gone. Where one cannot be bound, or a certificate was given to no flag,
    /// nothing changes.
    pub fn adopt(&self, edges: &[Edge]) -> Result<(), Vec<String>> {
        let mut bound = self.bound.borrow_mut();
        let mut problems = Vec::new();
        let tls = self.tls_of(edges, &mut problems);
        let mut fresh = Vec::new();
        for edge in edges.iter().filter(|edge| !bound.contains_key(&edge.port)) {
            match listen::bind(self.node.config.edge_address(edge.port), "--edge-port") {
                Ok(listener) => fresh.push((edge.port, listener)),
                Err(error) => problems.push(format!("edge port {}: {error}", edge.port)),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        // Before a listener accepts: a port with TLS must never be taken for one without.
        self.node.edge_tls.store(Arc::new(tls));
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

    /// What has not changed is kept, and with it the sessions that may be resumed.
    fn tls_of(&self, edges: &[Edge], problems: &mut Vec<String>) -> TlsByPort {
        let before = self.node.edge_tls.load();
        let mut tls = TlsByPort::new();
        for edge in edges.iter().filter(|edge| !edge.certificates.is_empty()) {
            if let Some(same) =
                before.get(&edge.port).filter(|before| before.certificates == edge.certificates)
            {
                tls.insert(edge.port, same.clone());
                continue;
            }
            let mut keys = Vec::with_capacity(edge.certificates.len());
            for name in &edge.certificates {
                match self.node.certificates.current(name) {
                    Some(key) => keys.push(key),
                    None => problems
                        .push(format!("edge port {}: no --edge-certificate is called {name}", edge.port)),
                }
            }
            let server = tls::server_config(keys);
            tls.insert(edge.port, EdgeTls { certificates: edge.certificates.clone(), server });
        }
        tls
    }

    /// New handshakes at edges that show one of these certificates see it as it was read now.
    fn renew(&self, changed: &[String]) {
        let mut tls = TlsByPort::clone(&self.node.edge_tls.load());
        for edge in
            tls.values_mut().filter(|edge| edge.certificates.iter().any(|name| changed.contains(name)))
        {
            let keys = edge.certificates.iter().filter_map(|name| self.node.certificates.current(name));
            edge.server = tls::server_config(keys.collect());
        }
        self.node.edge_tls.store(Arc::new(tls));
    }
}
