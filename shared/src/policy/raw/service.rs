//! `Service`: a name that others call, its ports, its identity, and whom it calls.

use crate::ids::is_dns_label;

use super::mesh::{Forwarded, Mtls};
use super::metadata::{DnsName, Label};
use super::{Int, List, Located, Text};

record! {
    /// A service: what others call by this name, or an app that only calls others.
    ServiceSpec {
        /// What callers may ask for. None: the app is only a client.
        "ports" ports: List<Located<ServicePort>, 0, 64>,
        /// Where callers from outside come in, as principal `external`.
        "edge" edge: List<Located<EdgePort>, 0, 16>,
        /// Makes the identity `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`; the service's own name where
        /// it is left out.
        "serviceAccount" service_account: Option<Label>,
        /// Services that it calls, `name` or `namespace/name`: a sidecar has a listener for each.
        "upstreams" upstreams: List<Located<ServiceName>, 0, 256>,
        /// Of its ports, unless one says otherwise; the mesh's where it is left out.
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
        /// How the app is spoken to. Left out, each caller's first bytes tell: HTTP/1.1 and HTTP/2 are judged by request, anything
        /// else is a tunnel, which no Allow rule with `to` lets in and every Deny rule with `to` refuses.
        "appProtocol" app_protocol: Option<AppProtocolWord>,
        /// `Permissive`, of HTTP alone: plaintext is taken too, as principal `unauthenticated`, while callers move into the mesh. The
        /// service's where it is left out.
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
        /// Ends TLS 1.2 and 1.3 here. Left out, callers come in plaintext.
        "tls" tls: Option<EdgeTls>,
        /// Who is believed here about where a request began; the mesh's where it is left out.
        "forwarded" forwarded: Option<Located<Forwarded>>,
    }
}

record! {
    /// TLS towards callers from outside, written as a listener's of Gateway API.
    EdgeTls {
        /// `Terminate`.
        "mode" mode: Option<EdgeTlsMode>,
        /// The certificates. Of those that hold for the name that a client asks for (SNI) the first is shown, else the first
        /// of all.
        "certificateRefs" certificate_refs: List<Located<CertificateRef>, 1, 16>,
    }
}

record! {
    /// A certificate with its key, which each sidecar of the service reads from files (`--edge-certificate NAME=CERT,KEY`).
    CertificateRef {
        /// `""`, or left out.
        "group" group: Option<Text<0, 0>>,
        /// `Secret`, or left out.
        "kind" kind: Option<CertificateKind>,
        /// By which the sidecar's flag calls it.
        "name" name: DnsName,
    }
}

choice! {
    /// Where TLS ends.
    EdgeTlsMode {
        "Terminate" => Terminate,
    } not built {
        "Passthrough" => "write Terminate: the edge decides by what it can read",
    }
}

choice! {
    /// What a certificate is kept in.
    CertificateKind {
        "Secret" => Secret,
    }
}

choice! {
    /// How an app is spoken to.
    AppProtocolWord {
        "http" => Http,
        "http2" => Http2,
        "kubernetes.io/h2c" => H2c,
        "grpc" => Grpc,
        "tcp" => Tcp,
    } not built {
        "https" => "accepted: http, http2, kubernetes.io/h2c, grpc, tcp; the sidecars encrypt between peers",
        "kubernetes.io/ws" => "accepted: http, http2, kubernetes.io/h2c, grpc, tcp",
        "kubernetes.io/wss" => "accepted: http, http2, kubernetes.io/h2c, grpc, tcp",
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
