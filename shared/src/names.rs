//! Names that are public and permanent: ports, headers, the ALPN. A golden test holds each.

/// The application protocol that sidecars speak to each other, HTTP/2 under it; bumped when the wire changes.
pub const ALPN_MESH: &[u8] = b"outrider/1";
/// What the control plane's mTLS port speaks; `h2` is not offered, since a WebSocket needs HTTP/1.1 here.
pub const ALPN_CONTROL: &[u8] = b"http/1.1";

/// Ports by default; nothing depends on the numbers, since the registry carries each sidecar's address.
pub mod port {
    /// Admin, loopback only.
    pub const ADMIN: u16 = 14000;
    /// Outbound by Host, loopback only.
    pub const OUTBOUND: u16 = 14001;
    /// Inbound from other sidecars, mTLS only.
    pub const INBOUND: u16 = 14006;
    /// `/live`, `/ready`, `/metrics`.
    pub const HEALTH: u16 = 14090;
    /// Control plane's API.
    pub const API: u16 = 14100;
    /// Control plane's mTLS session, and join.
    pub const CONTROL: u16 = 14101;
}

/// Headers between sidecars. Every `outrider-*` header from an app or from outside is stripped.
pub mod header {
    /// The prefix that belongs to the mesh.
    pub const PREFIX: &str = "outrider-";
    /// Request: `namespace/name:port` that is asked for. The inbound side maps it to a declared target port.
    pub const TARGET: &str = "outrider-target";
    /// Request: `1.0`, `1.1` or `2`: the HTTP version in which the app spoke.
    pub const FORM: &str = "outrider-form";
    /// Request: how many sidecars pairs this request has passed, in decimal.
    pub const HOPS: &str = "outrider-hops";
    /// Request, of a CONNECT: it is asked for before the app has said a byte, and is dropped unused where the app then
    /// speaks HTTP.
    pub const AHEAD: &str = "outrider-ahead";
    /// Answer: the inbound sidecar made it. `never-reached-app`, `shed` or `refused`.
    pub const REFUSED: &str = "outrider-refused";
    /// Request, from the own app on a loopback listener: asks for [`WAY`].
    pub const EXPLAIN: &str = "outrider-explain";
    /// Answer: the way that the request took, as JSON.
    pub const WAY: &str = "outrider-way";
    /// Request: milliseconds that remain until the caller's deadline.
    pub const TIMEOUT: &str = "outrider-timeout";
    /// Request: the class that it is in, by name.
    pub const CLASS: &str = "outrider-class";
    /// Request: which attempt this is, from the second on.
    pub const ATTEMPT: &str = "outrider-attempt";
    /// Answer: a failure for which retries were spent already; whoever sees it does not retry.
    pub const RETRIED: &str = "outrider-retried";
    /// Request, to the app: names what the sidecar keeps of it; an app that sends it on with its own calls passes deadline
    /// and class on.
    pub const CONTEXT: &str = "outrider-context";
    /// Stripped from apps and from outside; set for the app to the peer's identity.
    pub const XFCC: &str = "x-forwarded-client-cert";
}

/// The principal of whoever comes in through an edge listener.
pub const EXTERNAL: &str = "external";
/// The principal of a plaintext peer where mTLS is permissive.
pub const UNAUTHENTICATED: &str = "unauthenticated";

/// What a snapshot may need of the sidecar that takes it. A control plane refuses a sidecar that lacks what its snapshot
/// needs, so a rule is never pushed to one that would pass over it.
pub mod feature {
    /// `HTTPRoute` and `GRPCRoute`.
    pub const ROUTE: &str = "route/v1";
    /// `AuthorizationPolicy`, and the mesh's default for what no rule decides.
    pub const AUTHORIZATION: &str = "authorization/v1";
    /// Edge ports.
    pub const EDGE: &str = "edge/v1";
    /// `BackendTrafficPolicy`, and retries of routes.
    pub const TRAFFIC: &str = "traffic/v1";
    /// `Telemetry`.
    pub const TRACING: &str = "tracing/v1";
    /// Ports without `appProtocol`.
    pub const DETECTION: &str = "detection/v1";
}

/// Features that a sidecar of this version can enforce, told in `Hello`.
pub const FEATURES: &[&str] = &[
    feature::ROUTE,
    feature::AUTHORIZATION,
    feature::EDGE,
    feature::TRAFFIC,
    feature::TRACING,
    feature::DETECTION,
];

#[cfg(test)]
mod tests;
