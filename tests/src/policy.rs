//! Policy documents of the cases, put together from parts.

use crate::loopback::port::APP;

/// The mesh that most cases run in: any workload of `test.mesh` may call any, unless a policy says otherwise.
pub const OPEN: &str = "apiVersion: outrider.mesh/v1alpha1
kind: MeshConfig
metadata: {name: open}
spec:
  trustDomain: test.mesh
  mtls: Strict
  defaultAuthorization: AllowSameTrustDomain
  egress: RegistryOnly
  certificates: {lifetime: 24h}
";

/// The namespace of every service that [`service`] declares.
pub const NAMESPACE: &str = "test";

/// A service of the namespace `test`. `rest` is the inside of its `spec`, as `ports: [{port: 80, appProtocol: http}]`.
pub fn service(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec: {{serviceAccount: {name}, {rest}}}\n"
    )
}

/// A service with one port for HTTP/1.1, whose app listens on [`APP`].
pub fn http(name: &str, port: u16) -> String {
    service(name, &format!("ports: [{{port: {port}, targetPort: {APP}, appProtocol: http}}]"))
}

/// A service with one port for HTTP/2 with prior knowledge, whose app listens on [`APP`].
pub fn http2(name: &str, port: u16) -> String {
    service(name, &format!("ports: [{{port: {port}, targetPort: {APP}, appProtocol: kubernetes.io/h2c}}]"))
}

/// An `HTTPRoute` on a service's port; `rules` in YAML's flow style.
pub fn route(name: &str, service: &str, port: u16, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  parentRefs: [{{group: \"\", kind: Service, name: {service}, port: {port}}}]\n  rules: {rules}\n"
    )
}

/// An `AuthorizationPolicy` on a service; `rules` in YAML's flow style.
pub fn authorization(name: &str, service: &str, mode: &str, action: &str, rules: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n\
         spec:\n  targetRefs: [{{group: \"\", kind: Service, name: {service}}}]\n  mode: {mode}\n  action: {action}\n  \
         rules: {rules}\n"
    )
}

/// A `BackendTrafficPolicy` on a service; `spec` is the rest of its inside, in YAML's flow style.
pub fn traffic(service: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {service}, namespace: {NAMESPACE}}}\n\
         spec: {{targetRefs: [{{group: \"\", kind: Service, name: {service}}}], {spec}}}\n"
    )
}

/// One file of several documents.
pub fn documents(parts: &[&str]) -> String {
    parts.join("---\n")
}
