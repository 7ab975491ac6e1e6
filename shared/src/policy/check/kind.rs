//! The kinds of documents, and the documents of each.

use super::{Document, Entry, whole};
use crate::policy::raw::authorization::AuthorizationPolicySpec;
use crate::policy::raw::mesh::MeshConfigSpec;
use crate::policy::raw::metadata::Metadata;
use crate::policy::raw::route::{GrpcRouteSpec, HttpRouteSpec};
use crate::policy::raw::service::ServiceSpec;
use crate::policy::raw::telemetry::TelemetryPolicySpec;
use crate::policy::raw::traffic::{BackendTrafficPolicySpec, XBackendTrafficPolicySpec};
use crate::policy::raw::{Raw, Reader};
use crate::policy::reference::Shapes;
use crate::policy::yaml::Node;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Kind {
    MeshConfig,
    Service,
    HttpRoute,
    GrpcRoute,
    AuthorizationPolicy,
    TelemetryPolicy,
    BackendTrafficPolicy,
    XBackendTrafficPolicy,
}

/// Kinds that the design has, or that stand beside ours in Gateway API, and that nothing enforces yet.
pub(in crate::policy) const NOT_BUILT: [&str; 14] = [
    "RequestAuthentication",
    "ApiKeySet",
    "RateLimitPolicy",
    "FaultInjection",
    "Gateway",
    "GatewayClass",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "UDPRoute",
    "BackendTLSPolicy",
    "ListenerSet",
    "XListenerSet",
    "XMesh",
];

/// Whether a document says that it is of such a kind.
pub(super) fn is_not_built(root: &Node) -> bool {
    root.get("kind").and_then(Node::text).is_some_and(|kind| NOT_BUILT.contains(&kind))
}

const OURS: &str = "outrider.mesh/v1alpha1";

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::MeshConfig,
        Self::Service,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::AuthorizationPolicy,
        Self::TelemetryPolicy,
        Self::BackendTrafficPolicy,
        Self::XBackendTrafficPolicy,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::MeshConfig => "MeshConfig",
            Self::Service => "Service",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::TelemetryPolicy => "TelemetryPolicy",
            Self::BackendTrafficPolicy => "BackendTrafficPolicy",
            Self::XBackendTrafficPolicy => "XBackendTrafficPolicy",
        }
    }

    pub fn api_version(self) -> &'static str {
        match self {
            Self::MeshConfig
            | Self::Service
            | Self::AuthorizationPolicy
            | Self::TelemetryPolicy
            | Self::BackendTrafficPolicy => OURS,
            Self::HttpRoute | Self::GrpcRoute => "gateway.networking.k8s.io/v1",
            Self::XBackendTrafficPolicy => "gateway.networking.x-k8s.io/v1alpha1",
        }
    }

    /// Reports what is wrong with the spec of a document of which no more can be known: one mistake hides no other.
    pub(super) fn judge_spec(self, document: &Document<'_>, reader: &mut Reader<'_>) {
        match self {
            Self::MeshConfig => drop(read_spec::<MeshConfigSpec>(document, reader)),
            Self::Service => drop(read_spec::<ServiceSpec>(document, reader)),
            Self::HttpRoute => drop(read_spec::<HttpRouteSpec>(document, reader)),
            Self::GrpcRoute => drop(read_spec::<GrpcRouteSpec>(document, reader)),
            Self::AuthorizationPolicy => drop(read_spec::<AuthorizationPolicySpec>(document, reader)),
            Self::TelemetryPolicy => drop(read_spec::<TelemetryPolicySpec>(document, reader)),
            Self::BackendTrafficPolicy => drop(read_spec::<BackendTrafficPolicySpec>(document, reader)),
            Self::XBackendTrafficPolicy => drop(read_spec::<XBackendTrafficPolicySpec>(document, reader)),
        }
    }

    /// The spec's part of the reference.
    pub fn shape(self, shapes: &mut Shapes) -> String {
        match self {
            Self::MeshConfig => MeshConfigSpec::shape(shapes),
            Self::Service => ServiceSpec::shape(shapes),
            Self::HttpRoute => HttpRouteSpec::shape(shapes),
            Self::GrpcRoute => GrpcRouteSpec::shape(shapes),
            Self::AuthorizationPolicy => AuthorizationPolicySpec::shape(shapes),
            Self::TelemetryPolicy => TelemetryPolicySpec::shape(shapes),
            Self::BackendTrafficPolicy => BackendTrafficPolicySpec::shape(shapes),
            Self::XBackendTrafficPolicy => XBackendTrafficPolicySpec::shape(shapes),
        }
    }
}

/// All documents that could be read, by kind.
#[derive(Default)]
pub(super) struct Specs<'a> {
    pub mesh_configs: Vec<Entry<'a, MeshConfigSpec>>,
    pub services: Vec<Entry<'a, ServiceSpec>>,
    pub http_routes: Vec<Entry<'a, HttpRouteSpec>>,
    pub grpc_routes: Vec<Entry<'a, GrpcRouteSpec>>,
    pub authorization: Vec<Entry<'a, AuthorizationPolicySpec>>,
    pub telemetry: Vec<Entry<'a, TelemetryPolicySpec>>,
    pub traffic: Vec<Entry<'a, BackendTrafficPolicySpec>>,
    pub x_traffic: Vec<Entry<'a, XBackendTrafficPolicySpec>>,
}

impl<'a> Specs<'a> {
    pub fn read(&mut self, kind: Kind, metadata: Metadata, document: &Document<'a>, reader: &mut Reader<'_>) {
        match kind {
            Kind::MeshConfig => self.mesh_configs.extend(spec(metadata, document, reader)),
            Kind::Service => self.services.extend(spec(metadata, document, reader)),
            Kind::HttpRoute => self.http_routes.extend(spec(metadata, document, reader)),
            Kind::GrpcRoute => self.grpc_routes.extend(spec(metadata, document, reader)),
            Kind::AuthorizationPolicy => self.authorization.extend(spec(metadata, document, reader)),
            Kind::TelemetryPolicy => self.telemetry.extend(spec(metadata, document, reader)),
            Kind::BackendTrafficPolicy => self.traffic.extend(spec(metadata, document, reader)),
            Kind::XBackendTrafficPolicy => self.x_traffic.extend(spec(metadata, document, reader)),
        }
    }
}

fn spec<'a, S: Raw>(
    metadata: Metadata,
    document: &Document<'a>,
    reader: &mut Reader<'_>,
) -> Option<Entry<'a, S>> {
    let place = whole(document.root.mark);
    let spec = read_spec(document, reader)?;
    Some(Entry { file: document.file, place, metadata, spec })
}

fn read_spec<S: Raw>(document: &Document<'_>, reader: &mut Reader<'_>) -> Option<S> {
    let Some(node) = document.root.get("spec") else {
        let help = "every document has it".to_owned();
        reader.report(document.root.mark, "spec", "`spec` is missing", help);
        return None;
    };
    S::read(node, "spec", reader)
}
