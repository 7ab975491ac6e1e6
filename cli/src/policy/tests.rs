//! What `policy validate` says of a good directory and of a bad one.

use std::fs;
use std::path::Path;

use super::*;

fn shop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policy")
}

fn args(dir: PathBuf, output: Output) -> PolicyCommand {
    PolicyCommand::Validate(ValidateArgs { dir, output })
}

#[test]
fn a_valid_directory_is_summed_up() {
    let text = summary(&load_dir(&shop()).unwrap(), Palette::Plain);
    for expected in [
        "AuthorizationPolicy",
        "shop/frontend",
        "spiffe://shop.local/ns/shop/sa/payments",
        "80 to 8080",
        "14010 to 8080",
        "HTTPRoute/orders-http#read-orders",
        "shop/payments:50051 x1",
        "The policy is valid: 1 file.",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
    run(args(shop(), Output::Table)).unwrap();
}

#[test]
fn a_service_without_policy_and_a_rule_without_backend_show_what_that_means() {
    let dir = tempfile::tempdir().unwrap();
    let text = "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {name: a}\n\
                spec: {ports: [{port: 80, appProtocol: http}]}\n---\n\
                apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\n\
                spec: {parentRefs: [{group: \"\", kind: Service, name: a}], rules: [{}]}\n";
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    let text = summary(&load_dir(dir.path()).unwrap(), Palette::Plain);
    assert!(text.contains("default: Deny") && text.contains("none: 500"), "{text}");
}

#[test]
fn what_is_less_safe_than_the_default_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let text = "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {name: a}\n\
                spec: {ports: [{port: 80, appProtocol: http, mtls: Permissive}], edge: [\
                {port: 443, targetPort: 80, tls: {certificateRefs: [{name: www}]}}]}\n";
    fs::write(dir.path().join("a.yaml"), text).unwrap();
    let loaded = load_dir(dir.path());
    let text = summary(loaded.as_ref().unwrap(), Palette::Plain);
    let said = "In force, and less safe than the default:\n  Service default/a, port 80: mtls is Permissive";
    assert!(text.contains(said) && text.contains("443 to 80, TLS: www"), "{text}");
    let json = serde_json::to_value(Answer::of(&loaded)).unwrap();
    assert!(json["warnings"][0].as_str().unwrap().contains("Permissive"), "{json}");
}

#[test]
fn json_says_whether_it_is_valid_and_what_is_wrong_where() {
    let loaded = load_dir(&shop());
    let valid = serde_json::to_value(Answer::of(&loaded)).unwrap();
    assert_eq!((&valid["valid"], valid["hash"].as_str().unwrap().len()), (&true.into(), 64));
    assert_eq!(valid["documents"][0]["kind"], "AuthorizationPolicy");
    assert_eq!(valid["warnings"], serde_json::json!([]));

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.yaml"), "apiVersion: outrider.mesh/v1alpha1\nkind: Servise\n").unwrap();
    let refused = load_dir(dir.path());
    let refused = serde_json::to_value(Answer::of(&refused)).unwrap();
    assert_eq!((&refused["valid"], &refused["more"]), (&false.into(), &0.into()));
    assert_eq!(refused["problems"][0]["line"], 2);
    assert!(refused["problems"][0]["file"].as_str().unwrap().ends_with("/a.yaml"));
}

#[test]
fn a_refused_directory_is_a_failure_in_both_formats() {
    let dir = tempfile::tempdir().unwrap();
    for output in [Output::Table, Output::Json] {
        let error = run(args(dir.path().to_owned(), output)).unwrap_err();
        assert_eq!(error.to_string(), "the policy has 1 problem");
    }
}
