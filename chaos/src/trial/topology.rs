//! Who there is and who calls whom, with a loopback address for each, whatever stands between them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The ports of a node, on its own address. A proxy of either kind listens at the same ones.
pub mod port {
    /// Where the app listens.
    pub const APP: u16 = 8_080;
    /// From where the app is broken and counted.
    pub const CONTROL: u16 = 8_081;
    /// Where the app's proxy takes calls to the one service that it calls.
    pub const UPSTREAM: u16 = 15_001;
    /// Where the app's proxy takes calls of others.
    pub const INBOUND: u16 = 14_006;
    /// Whether the proxy is in service.
    pub const HEALTH: u16 = 14_090;
}

/// An app's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The service's name; each has one instance.
    pub name: String,
    pub ip: Ipv4Addr,
    pub serves: Serves,
    /// The service that it calls.
    pub calls: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    Http,
    /// Only a client.
    Nothing,
}

impl Node {
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.ip), port)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// 127.N.
    pub net: u8,
    pub nodes: Vec<Node>,
}

/// The service at the end of every topology.
pub const BACKEND: &str = "backend";

impl Topology {
    /// So many clients of one backend.
    pub fn star(net: u8, clients: u8) -> Self {
        let client = |number: u8| Node {
            name: format!("client-{number}"),
            ip: Ipv4Addr::new(127, net, 2, number),
            serves: Serves::Nothing,
            calls: Some(BACKEND.to_owned()),
        };
        Self { net, nodes: (1..=clients).map(client).chain([backend(net)]).collect() }
    }

    /// A client, and so many calls one after another, the last of them to the backend.
    pub fn chain(net: u8, calls: u8) -> Self {
        let name = |number: u8| if number == calls { BACKEND.to_owned() } else { format!("hop-{number}") };
        let root = Node {
            name: "client-1".to_owned(),
            ip: Ipv4Addr::new(127, net, 2, 1),
            serves: Serves::Nothing,
            calls: Some(name(1)),
        };
        let hop = |number: u8| Node {
            name: name(number),
            ip: Ipv4Addr::new(127, net, 3, number),
            serves: Serves::Http,
            calls: Some(name(number + 1)),
        };
        Self { net, nodes: [root].into_iter().chain((1..calls).map(hop)).chain([backend(net)]).collect() }
    }

    /// Those that only call: where load comes from.
    pub fn clients(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.serves == Serves::Nothing)
    }

    /// Those in between.
    pub fn hops(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.serves == Serves::Http && node.calls.is_some())
    }

    pub fn backend(&self) -> &Node {
        self.node(BACKEND)
    }

    /// The one whom this one calls.
    pub fn called_by(&self, node: &Node) -> &Node {
        self.node(node.calls.as_deref().unwrap_or(BACKEND))
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect("whoever is called is in the topology")
    }
}

fn backend(net: u8) -> Node {
    Node { name: BACKEND.to_owned(), ip: Ipv4Addr::new(127, net, 1, 1), serves: Serves::Http, calls: None }
}
