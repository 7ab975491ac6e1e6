//! Edges, plaintext and what lies outside: what is in force, where it is inherited from, and what is warned of.

use super::*;
use crate::snapshot::{Egress, Forwarded, ForwardedHeader, Mtls, PathNormalization, TrustedProxies};

fn mesh(spec: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: {{name: m}}\nspec: {{{spec}}}\n---\n"
    )
}

fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n---\n"
    )
}

fn mtls_of(policy: &Policy, service: &str) -> Vec<Mtls> {
    policy.service(&id(service)).unwrap().ports().iter().map(|port| port.mtls).collect()
}

#[test]
fn a_mesh_that_says_nothing_takes_no_plaintext_reaches_nothing_outside_and_believes_nobody() {
    let policy = policy_of(&service("a", "ports: [{port: 80, appProtocol: http}]"));
    assert_eq!(mtls_of(&policy, "shop/a"), [Mtls::Strict]);
    assert_eq!(policy.mesh().egress(), Egress::RegistryOnly);
    assert_eq!(policy.mesh().path_normalization(), PathNormalization::Base);
    assert_eq!(*policy.mesh().forwarded(), Forwarded::default());
    assert_eq!(policy.mesh().forwarded().trusted, TrustedProxies::None);
    assert_eq!(policy.warnings(), <[String; 0]>::default());
}

#[test]
fn plaintext_is_permitted_by_mesh_service_or_port_and_the_most_specific_word_counts() {
    let ports = "ports: [{port: 80, appProtocol: http}, {port: 81, appProtocol: http, mtls: Strict}]";
    let text = [
        mesh("mtls: Permissive"),
        service("a", ports),
        service("b", &format!("mtls: Strict, {ports}")),
        service("c", "mtls: Strict, ports: [{port: 80, appProtocol: http, mtls: Permissive}]"),
    ];
    let policy = policy_of(&text.concat());
    assert_eq!(mtls_of(&policy, "shop/a"), [Mtls::Permissive, Mtls::Strict]);
    assert_eq!(mtls_of(&policy, "shop/b"), [Mtls::Strict, Mtls::Strict]);
    assert_eq!(mtls_of(&policy, "shop/c"), [Mtls::Permissive]);
    let warned: Vec<&str> = policy.warnings().iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(warned, ["Service shop/a, port 80", "Service shop/c, port 80"]);
}

#[test]
fn an_edge_ends_tls_with_the_certificates_that_it_names_and_believes_whom_it_names() {
    let text = [
        mesh("forwarded: {trustedHops: 2}"),
        service(
            "a",
            "ports: [{port: 80, appProtocol: http}], edge: [
               {port: 443, targetPort: 80, tls: {mode: Terminate, certificateRefs: [{kind: Secret, group: \"\", name: www}, {name: api.shop}]}},
               {port: 444, targetPort: 80, forwarded: {trustedProxies: [10.0.0.0/8, 192.0.2.7], header: Forwarded}}]",
        ),
    ];
    let policy = policy_of(&text.concat());
    let [tls, plain] = policy.service(&id("shop/a")).unwrap().edges() else { panic!("there are two") };
    assert_eq!(tls.certificates, ["www", "api.shop"]);
    assert_eq!(tls.forwarded.trusted, TrustedProxies::Hops(2));
    assert_eq!(plain.certificates, <[String; 0]>::default());
    let networks = ["10.0.0.0/8", "192.0.2.7/32"].map(|network| network.parse().unwrap());
    assert_eq!(plain.forwarded.trusted, TrustedProxies::Networks(networks.to_vec()));
    assert_eq!(plain.forwarded.header, ForwardedHeader::Forwarded);
    assert!(
        policy.warnings()[0].starts_with("Service shop/a, edge 443: trustedHops"),
        "{:?}",
        policy.warnings()
    );
}

#[test]
fn a_port_that_does_not_say_what_it_speaks_is_found_out_by_looking_and_warned_of() {
    let authorization = "apiVersion: outrider.mesh/v1alpha1\nkind: AuthorizationPolicy\n\
                         metadata: {name: b, namespace: shop}\nspec:\n  \
                         targetRefs: [{group: \"\", kind: Service, name: b}]\n  action: Allow\n  \
                         rules: [{to: [{http: {methods: [GET]}}]}]\n";
    let text = [
        mesh("defaultAuthorization: Deny, mtls: Permissive"),
        service("a", "ports: [{port: 80}], mtls: Strict"),
        service("b", "ports: [{port: 80}, {port: 81, appProtocol: tcp}]"),
        authorization.to_owned(),
    ];
    let policy = policy_of(&text.concat());
    let protocols =
        |service| policy.service(&id(service)).unwrap().ports().iter().map(|port| port.app_protocol);
    assert_eq!(protocols("shop/a").collect::<Vec<_>>(), [AppProtocol::Detect]);
    assert_eq!(protocols("shop/b").collect::<Vec<_>>(), [AppProtocol::Detect, AppProtocol::Tcp]);
    assert_eq!(
        mtls_of(&policy, "shop/b"),
        [Mtls::Permissive, Mtls::Strict],
        "its HTTP is taken in plaintext"
    );
    let [open, guarded, _] = policy.warnings() else { panic!("{:?}", policy.warnings()) };
    assert!(open.starts_with("Service shop/a, port 80: no appProtocol"), "{open}");
    assert!(open.ends_with("whoever may call the service may open one"), "{open}");
    assert!(guarded.contains("let in by no Allow rule with `to`"), "{guarded}");
}

#[test]
fn what_is_less_safe_than_the_default_is_warned_of() {
    let text = [
        mesh("defaultAuthorization: AllowSameTrustDomain, egress: Allow, pathNormalization: None"),
        service("a", "ports: [{port: 80, appProtocol: http}]"),
        service("client", "serviceAccount: client"),
    ];
    let policy = policy_of(&text.concat());
    assert_eq!(policy.mesh().egress(), Egress::Allow);
    assert_eq!(policy.mesh().path_normalization(), PathNormalization::None);
    let warnings = policy.warnings().join("\n");
    assert_eq!(policy.warnings().len(), 3, "{warnings}");
    assert!(warnings.contains("egress is Allow"), "{warnings}");
    assert!(warnings.contains("pathNormalization is None"), "{warnings}");
    assert!(warnings.ends_with("every workload of outrider.local may call shop/a"), "{warnings}");
}
