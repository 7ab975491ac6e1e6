//! `Service`: a name that others call, its ports, its identity, and whom it calls.

use crate::ids::is_dns_label;

use super::mesh::Mtls;
use super::metadata::Label;
use super::{Int, List, Located};

record! {
    /// A service: what others call by this name, or an app that only calls others.
    ServiceSpec {
        /// What callers may ask for. None: the app is only a client.
        "ports" ports: List<Located<ServicePort>, 0, 64>,
        /// Where plaintext from outside comes in, as principal `external`.
        "edge" edge: List<Located<EdgePort>, 0, 16>,
        /// Makes the identity `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; the service's own name where
        /// it is left out.
        "serviceAccount" service_account: Option<Label>,
        /// Services that it calls, `name` or `namespace/name`: a sidecar has a listener for each.
        "upstreams" upstreams: List<Located<ServiceName>, 0, 256>,
        /// `Strict`, which the mesh asks for anyway.
        "mtls" mtls: Option<Mtls>,
    }
}

record! {
    /// A port that callers ask for.
    ServicePort {
        /// Read by people alone.
        "name" name: Option<Label>,
        /// What callers ask for.
        "port" port: Located<Int<1, 65535>>,
        /// Where the app listens; `port` where it is left out.
        "targetPort" target_port: Option<Int<1, 65535>>,
        /// How the app is spoken to. Detecting it is not built yet, so it must be said.
        "appProtocol" app_protocol: AppProtocolWord,
        /// `Strict`, which the mesh asks for anyway.
        "mtls" mtls: Option<Mtls>,
    }
}

record! {
    /// A port for callers from outside.
    EdgePort {
        /// Where the sidecar listens.
        "port" port: Located<Int<1, 65535>>,
        /// The `targetPort` of one of the service's ports.
        "targetPort" target_port: Located<Int<1, 65535>>,
    }
}

choice! {
    /// How an app is spoken to.
    AppProtocolWord {
        "http" => Http,
        "http2" => Http2,
        "kubernetes.io/h2c" => H2c,
        "grpc" => Grpc,
    } not built {
        "tcp" => "accepted: http, http2, kubernetes.io/h2c, grpc",
        "https" => "accepted: http, http2, kubernetes.io/h2c, grpc; the sidecars encrypt between peers",
        "kubernetes.io/ws" => "accepted: http, http2, kubernetes.io/h2c, grpc",
        "kubernetes.io/wss" => "accepted: http, http2, kubernetes.io/h2c, grpc",
    }
}

text! {
    /// A service as others name it.
    ServiceName, "a service: `name`, or `namespace/name`",
    |given| match given.split_once('/') {
        Some((namespace, name)) => is_dns_label(namespace) && is_dns_label(name),
        None => is_dns_label(given),
    }
}
