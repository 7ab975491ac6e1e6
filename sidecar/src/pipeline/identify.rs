//! Whose request it is, which a connection knows once for all of its requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use http::{HeaderValue, Request, Response};
use outrider_shared::{ServiceId, SpiffeId};
use smallvec::SmallVec;

use super::accept::Accepted;
use super::answer::Answer;
use super::forwarded::{self, Hop};
use super::principal::Principal;
use super::record::Record;
use super::refused::Refused;
use super::rejection::{Rejection, Side};
use super::trace::Trace;
use crate::leg::body::Body;
use crate::node::Published;
use crate::shard::Shard;
use crate::stats::InboundPeerStats;
use crate::upstream::queue::PeerKey;

/// A connection of the own app.
pub struct AppConnection {
    pub shard: Rc<Shard>,
    /// The service and port of the listener, where it is one of its own.
    pub upstream: Option<(ServiceId, u16)>,
    /// The one whose places in a queue of the sidecar's own are counted.
    pub(super) peer: PeerKey,
    /// What it asks for is a tunnel that may turn out not to be wanted.
    pub(super) ahead: bool,
}

impl AppConnection {
    pub fn new(shard: Rc<Shard>, upstream: Option<(ServiceId, u16)>) -> Rc<Self> {
        let peer = PeerKey(Arc::clone(&shard.own));
        Rc::new(Self { shard, upstream, peer, ahead: false })
    }

    /// The same before it has said a byte.
    pub fn ahead(shard: Rc<Shard>, upstream: (ServiceId, u16)) -> Rc<Self> {
        let peer = PeerKey(Arc::clone(&shard.own));
        Rc::new(Self { shard, upstream: Some(upstream), peer, ahead: true })
    }

    pub fn refuse(&self, refused: &Refused, record: Record) -> Response<Answer> {
        refused.answer(Side::Outbound, &self.shard, record)
    }
}

/// A connection from another sidecar, from outside, or in plaintext from whoever it is.
pub struct InboundConnection {
    pub shard: Rc<Shard>,
    principal: Principal,
    way_in: WayIn,
    /// Whom its places in a queue are counted for.
    pub(super) peer: PeerKey,
    /// What the app is told of the caller.
    pub(super) certificate: Option<HeaderValue>,
    peers: RefCell<SmallVec<[PeerPort; 1]>>,
}

/// A port, and where requests of the connection's peer to it are counted.
type PeerPort = (u16, Arc<CachePadded<InboundPeerStats>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WayIn {
    Mesh,
    Edge {
        port: u16,
        hop: Hop,
    },
    /// At the mesh's port, from somebody who proves nothing.
    Plaintext {
        hop: Hop,
    },
}

/// A request of a known principal.
pub struct Identified {
    pub(super) accepted: Accepted,
    pub(super) principal: Principal,
}

impl InboundConnection {
    pub fn of_peer(shard: Rc<Shard>, identity: SpiffeId) -> Rc<Self> {
        let certificate = HeaderValue::try_from(format!("URI={identity}")).expect("a SPIFFE ID is ASCII");
        Rc::new(Self {
            shard,
            peer: PeerKey(identity.as_str().into()),
            principal: Principal::Mesh(Arc::new(identity)),
            way_in: WayIn::Mesh,
            certificate: Some(certificate),
            peers: RefCell::default(),
        })
    }

    pub fn of_outside(shard: Rc<Shard>, port: u16, hop: Hop) -> Rc<Self> {
        Rc::new(Self {
            shard,
            peer: PeerKey(Principal::External.as_str().into()),
            principal: Principal::External,
            way_in: WayIn::Edge { port, hop },
            certificate: None,
            peers: RefCell::default(),
        })
    }

    /// From whoever sends plaintext to the mesh's port.
    pub fn of_plaintext(shard: Rc<Shard>, hop: Hop) -> Rc<Self> {
        Rc::new(Self {
            shard,
            peer: PeerKey(Principal::Unauthenticated.as_str().into()),
            principal: Principal::Unauthenticated,
            way_in: WayIn::Plaintext { hop },
            certificate: None,
            peers: RefCell::default(),
        })
    }

    pub(super) fn way_in(&self) -> WayIn {
        self.way_in
    }

    /// Reads the head, and says whose it is.
    pub fn identify(
        &self,
        published: &Published,
        request: Request<Body>,
        record: &mut Record,
    ) -> Result<Identified, Rejection> {
        let (table, now) = (&published.table, record.started());
        let (mut accepted, client) = match self.way_in {
            WayIn::Mesh => (Accepted::from_peer(request, table.paths(), now)?, None),
            WayIn::Edge { port, hop } => {
                let mut accepted = Accepted::from_outside(request, table.paths(), now)?;
                let trust = &table.edge(port).ok_or(Rejection::NotReady)?.forwarded;
                let client = forwarded::settle(&mut accepted.head.headers, hop, trust);
                (accepted, Some(client))
            }
            WayIn::Plaintext { hop } => {
                self.shard.stats.shard().plaintext_sources.increment(&hop.address.to_canonical().to_string());
                let mut accepted = Accepted::from_outside(request, table.paths(), now)?;
                let client = forwarded::settle(&mut accepted.head.headers, hop, table.forwarded());
                (accepted, Some(client))
            }
        };
        record.trace = Trace::inbound(published, &self.shard.node.tracer, &mut accepted, record.started());
        if let Some(trace) = &mut record.trace {
            trace.peer(self.principal.as_str());
            trace.client(client);
        }
        Ok(Identified { accepted, principal: self.principal.clone() })
    }

    /// Where requests of this peer to `port` are counted.
    pub(super) fn peer_stats(&self, port: u16) -> Arc<CachePadded<InboundPeerStats>> {
        let mut peers = self.peers.borrow_mut();
        if let Some((_, stats)) = peers.iter().find(|(known, _)| *known == port) {
            return Arc::clone(stats);
        }
        let mtls = matches!(self.principal, Principal::Mesh(_));
        let stats = self.shard.stats.peer(port, self.principal.as_str(), mtls);
        peers.push((port, Arc::clone(&stats)));
        stats
    }

    pub fn refuse(&self, refused: &Refused, record: Record) -> Response<Answer> {
        let side = match self.way_in {
            WayIn::Mesh => Side::Inbound,
            WayIn::Edge { .. } | WayIn::Plaintext { .. } => Side::Edge,
        };
        refused.answer(side, &self.shard, record)
    }
}
