//! Join credentials, material, and signed snapshots: what is read, and what is refused.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::authority::{Authority, CONTROL_PLANE, LeafAndKey, ORDERS, leaf, now};
use crate::authorization::DefaultAuthorization;
use crate::identity::{JoinCredential, Material, MaterialError, SnapshotRefusal, verify_snapshot};
use crate::snapshot::{
    Egress, Forwarded, LocalService, Mesh, PathNormalization, SIGNING_CONTEXT, SNAPSHOT_BYTES_MAX,
    SignedSnapshot, Snapshot, Tracing, Version,
};

const CREDENTIAL: &str = "outrider1.bWVzaC50ZXN0.AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE.tok-1.s3cret_";

#[test]
fn a_join_credential_reads_back_as_it_was_written() {
    let credential: JoinCredential = CREDENTIAL.parse().expect("a credential");
    assert_eq!(credential.trust_domain.as_str(), "mesh.test");
    assert_eq!(credential.root_pin, [1; 32]);
    assert_eq!((credential.id.as_str(), credential.secret.as_str()), ("tok-1", "s3cret_"));
    assert_eq!(credential.to_string(), CREDENTIAL);
}

#[test]
fn a_join_credential_does_not_show_its_secret_in_a_log() {
    let credential: JoinCredential = CREDENTIAL.parse().expect("a credential");
    let shown = format!("{credential:?}");
    assert!(shown.contains("tok-1") && !shown.contains("s3cret"), "{shown}");
    let refused = format!("{}x", CREDENTIAL.replace("tok-1.", "tok-1..")).parse::<JoinCredential>();
    let shown = format!("{:?} {0}", refused.expect_err("six parts"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_join_credential_that_is_not_exactly_of_its_form_is_refused() {
    for (from, to) in [
        ("outrider1", "outrider2"),
        ("outrider1", "Outrider1"),
        ("outrider1.", ""),
        ("bWVzaC50ZXN0", "bWVzaC50ZXN0="),
        ("bWVzaC50ZXN0", "TUVTSA"),
        ("bWVzaC50ZXN0", ""),
        ("AQEBAQEBAQE.", "AQEBAQE."),
        (".tok-1", "."),
        ("tok-1", "tok 1"),
        ("s3cret_", ""),
        ("s3cret_", "s3cret\n"),
        ("s3cret_", "s3.cret"),
        ("s3cret_", &"s".repeat(129)),
    ] {
        assert!(CREDENTIAL.contains(from), "{from}");
        let changed = CREDENTIAL.replace(from, to);
        assert!(changed.parse::<JoinCredential>().is_err(), "{changed:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_credential_parser_panic_and_what_it_takes_it_writes_back(text in "(outrider1\\.)?[a-zA-Z0-9._=-]{0,120}") {
        if let Ok(credential) = text.parse::<JoinCredential>() {
            prop_assert_eq!(credential.to_string(), text);
        }
    }
}

#[test]
fn material_knows_its_leaf_and_refuses_a_key_of_another() {
    let authority = Authority::new();
    let mut params = leaf(ORDERS);
    params.serial_number = Some(vec![0x0a, 0xbc].into());
    let material = authority.material(authority.issue(&params));
    assert_eq!(material.identity.as_str(), ORDERS);
    assert_eq!(material.serial, "0abc");
    assert_eq!(material.view().not_before_unix_s, 946_684_800);
    assert_eq!(material.verify(now()), Ok(()));
    let other = PrivatePkcs8KeyDer::from(authority.issue(&params).key.serialize_der());
    let refused = Material::from_der(material.certified_key.cert.clone(), other, authority.bundle());
    assert!(matches!(refused, Err(MaterialError::Key(_))), "{refused:?}");
}

#[test]
fn expired_material_is_read_but_does_not_verify() {
    let authority = Authority::new();
    let mut params = leaf(ORDERS);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let material = authority.material(authority.issue(&params));
    assert_eq!(material.verify(now()).expect_err("expired").label(), "expired");
}

fn snapshot() -> Snapshot {
    Snapshot {
        version: Version { epoch: 1, sequence: 7 },
        revision: 3,
        sidecar: "ab12".parse().expect("an id"),
        mesh: Mesh {
            id: "MeshConfig/default".parse().expect("an id"),
            trust_domain: "mesh.test".parse().expect("a name"),
            default_authorization: DefaultAuthorization::Deny,
            egress: Egress::RegistryOnly,
            path_normalization: PathNormalization::Base,
            forwarded: Forwarded::default(),
        },
        local: LocalService {
            traffic: None,
            service: "shop/orders".parse().expect("an id"),
            identity: ORDERS.parse().expect("an id"),
            ports: Vec::new(),
            edges: Vec::new(),
            authorization: Vec::new(),
            upstreams: Vec::new(),
        },
        directory: Vec::new(),
        routes: Vec::new(),
        tracing: Tracing::default(),
    }
}

fn sign(authority: &Authority, signer: &LeafAndKey, context: &[u8], body: String) -> SignedSnapshot {
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &signer.key.serialize_der())
        .expect("a P-256 key");
    let message = [context, body.as_bytes()].concat();
    let signature = key.sign(&SystemRandom::new(), &message).expect("a signature");
    SignedSnapshot {
        body,
        signature: BASE64_STANDARD.encode(signature.as_ref()),
        signer: vec![
            BASE64_STANDARD.encode(&signer.der),
            BASE64_STANDARD.encode(authority.intermediate.der()),
        ],
    }
}

fn body() -> String {
    serde_json::to_string(&snapshot()).expect("plain data")
}

#[test]
fn a_snapshot_that_the_control_plane_signed_is_what_it_signed() {
    let authority = Authority::new();
    let signed = sign(&authority, &authority.issue(&leaf(CONTROL_PLANE)), SIGNING_CONTEXT, body());
    assert_eq!(verify_snapshot(&signed, &authority.bundle(), now()).expect("signed"), snapshot());
}

#[test]
fn a_changed_body_signature_or_context_does_not_fit() {
    let authority = Authority::new();
    let certified = authority.issue(&leaf(CONTROL_PLANE));
    let signed = sign(&authority, &certified, SIGNING_CONTEXT, body());
    let judge = |signed: &SignedSnapshot| verify_snapshot(signed, &authority.bundle(), now());
    let changed = SignedSnapshot { body: signed.body.replace("Deny", "Allow"), ..signed.clone() };
    assert_ne!(changed, signed);
    assert!(matches!(judge(&changed), Err(SnapshotRefusal::Signature)));
    let other = sign(&authority, &certified, SIGNING_CONTEXT, "{}".to_owned()).signature;
    assert!(matches!(
        judge(&SignedSnapshot { signature: other, ..signed.clone() }),
        Err(SnapshotRefusal::Signature)
    ));
    let elsewhere = sign(&authority, &certified, b"outrider renew v1\0", body());
    assert!(matches!(judge(&elsewhere), Err(SnapshotRefusal::Signature)));
    let garbage = SignedSnapshot { signature: "not base64!".to_owned(), ..signed };
    assert!(matches!(judge(&garbage), Err(SnapshotRefusal::Encoding { what: "signature" })));
}

#[test]
fn a_snapshot_signed_by_a_member_a_stranger_or_an_expired_signer_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let mut expired = leaf(CONTROL_PLANE);
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    for (authority, params, label) in [
        (&ours, leaf(ORDERS), "unexpected_identity"),
        (&theirs, leaf(CONTROL_PLANE), "unknown_issuer"),
        (&ours, expired, "expired"),
    ] {
        let signed = sign(authority, &authority.issue(&params), SIGNING_CONTEXT, body());
        match verify_snapshot(&signed, &ours.bundle(), now()) {
            Err(SnapshotRefusal::Signer(refusal)) => assert_eq!(refusal.label(), label),
            other => panic!("{label}: {other:?}"),
        }
    }
}

#[test]
fn a_snapshot_without_a_signer_is_refused() {
    let authority = Authority::new();
    let mut signed = sign(&authority, &authority.issue(&leaf(CONTROL_PLANE)), SIGNING_CONTEXT, body());
    signed.signer.clear();
    let refused = verify_snapshot(&signed, &authority.bundle(), now());
    assert!(matches!(refused, Err(SnapshotRefusal::Signer(_))), "{refused:?}");
}

#[test]
fn a_signed_snapshot_with_an_unknown_field_or_of_too_many_bytes_is_refused() {
    let authority = Authority::new();
    let certified = authority.issue(&leaf(CONTROL_PLANE));
    let unknown = body().replacen('{', r#"{"colour":"red","#, 1);
    let signed = sign(&authority, &certified, SIGNING_CONTEXT, unknown);
    let refused = verify_snapshot(&signed, &authority.bundle(), now());
    assert!(matches!(refused, Err(SnapshotRefusal::Form(_))), "{refused:?}");
    let large = " ".repeat(SNAPSHOT_BYTES_MAX + 1);
    let refused = verify_snapshot(&SignedSnapshot { body: large, ..signed }, &authority.bundle(), now());
    assert!(matches!(refused, Err(SnapshotRefusal::TooLarge { .. })), "{refused:?}");
}
