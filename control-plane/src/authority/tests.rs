//! Who gets a certificate, who does not and why, and that what is made passes every peer's verification.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use openssl::pkey::PKey;
use outrider_shared::api::{MintAnswer, MintRequest};
use outrider_shared::identity::{
    JoinCredential, PeerRefusal, SnapshotRefusal, TrustBundle, Usage, verified_peer, verify_peer,
    verify_snapshot,
};
use outrider_shared::join::{JoinRequest, Leaf, RENEW_CONTEXT, RenewRequest};
use outrider_shared::policy::{Policy, load};
use outrider_shared::{SpiffeId, TrustDomain};
use rcgen::{CertificateParams, DnType, IsCa, KeyPair, PublicKeyData as _, SanType, SigningKey as _};
use rustls_pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;

use super::records::{INSTANCE_IDLE_S, Seal};
use super::*;

const MINUTE_S: u64 = 60;

fn policy_of(domain: &str) -> Policy {
    let text = format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: {{ name: mesh }}\nspec: {{ trustDomain: {domain} }}\n---\n\
         apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{ name: orders, namespace: shop }}\nspec:\n  \
         serviceAccount: orders\n  ports: [{{ port: 80, targetPort: 8080, appProtocol: http }}]\n---\n\
         apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{ name: payments, namespace: shop }}\nspec:\n  \
         serviceAccount: payments\n  ports: [{{ port: 80, targetPort: 8080, appProtocol: http }}]\n"
    );
    load(vec![("mesh.yaml".to_owned(), text)]).map_err(|problems| format!("{problems:?}")).unwrap().policy
}

/// An authority on a directory of its own.
struct Case {
    dir: TempDir,
    authority: Authority,
    policy: Policy,
}

impl Case {
    fn new() -> Self {
        Self::sealed(&Seal::None)
    }

    fn sealed(seal: &Seal) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = policy_of("mesh.example");
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let authority = Authority::open(store, policy.mesh().trust_domain(), seal).unwrap();
        Self { dir, authority, policy }
    }

    /// As after the process has ended and begun again.
    fn reopen(self, domain: &str, seal: &Seal) -> anyhow::Result<Self> {
        let Self { dir, authority, policy } = self;
        drop(authority);
        let store = Arc::new(Store::open(dir.path())?);
        let domain: TrustDomain = domain.parse()?;
        Ok(Self { authority: Authority::open(store, &domain, seal)?, dir, policy })
    }

    fn mint(&mut self, kind: Mint, service: &str) -> JoinCredential {
        let request = MintRequest { service: service.parse().unwrap(), ttl_s: None };
        let minted: MintAnswer = self.authority.mint(kind, &request, &self.policy).unwrap();
        minted.credential.parse().unwrap()
    }

    fn join(&mut self, request: &JoinRequest) -> Result<JoinAnswer, Refused> {
        self.authority.join(request, &self.policy)
    }

    fn refusal(&mut self, request: &JoinRequest) -> Refused {
        self.join(request).err().expect("refused")
    }

    fn renew(&mut self, request: &RenewRequest) -> Result<Leaf, Refused> {
        self.authority.renew(request, &self.policy)
    }

    fn bundle(&self) -> TrustBundle {
        let root = CertificateDer::from(self.authority.root.to_der().unwrap());
        TrustBundle::new(self.policy.mesh().trust_domain().clone(), vec![root]).unwrap()
    }

    fn keep(&self, kind: Kind, key: &str, record: &impl serde::Serialize) {
        self.authority.store.put(kind, key, record).unwrap();
    }
}

/// A sidecar that joins.
struct Newcomer {
    instance: KeyPair,
    leaf: KeyPair,
}

impl Newcomer {
    fn new() -> Self {
        Self { instance: KeyPair::generate().unwrap(), leaf: KeyPair::generate().unwrap() }
    }

    fn request(&self, credential: &JoinCredential, service: &str) -> JoinRequest {
        JoinRequest {
            credential_id: credential.id.clone(),
            secret: credential.secret.clone(),
            service: service.parse().unwrap(),
            instance_key: BASE64_STANDARD.encode(self.instance.subject_public_key_info()),
            csr: csr(&self.leaf, &CertificateParams::default()),
        }
    }

    fn renewal(&self, joined: &JoinAnswer, prover: &KeyPair) -> RenewRequest {
        let csr = csr(&self.leaf, &CertificateParams::default());
        let der = BASE64_STANDARD.decode(&csr).unwrap();
        RenewRequest {
            sidecar: joined.sidecar.clone(),
            instance_credential: joined.instance_credential.clone(),
            csr,
            proof: BASE64_STANDARD.encode(prover.sign(&[RENEW_CONTEXT, &der].concat()).unwrap()),
        }
    }
}

fn csr(key: &KeyPair, params: &CertificateParams) -> String {
    BASE64_STANDARD.encode(params.serialize_request(key).unwrap().der())
}

fn chain(leaf: &Leaf) -> Vec<CertificateDer<'static>> {
    leaf.chain.iter().map(|text| CertificateDer::from(BASE64_STANDARD.decode(text).unwrap())).collect()
}

fn in_seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(UnixTime::now().as_secs() + seconds))
}

fn verify(case: &Case, leaf: &Leaf, usage: Usage, at: UnixTime) -> Result<SpiffeId, PeerRefusal> {
    let chain = chain(leaf);
    verify_peer(&chain[0], &chain[1..], &case.bundle(), usage, at)
}

/// A case in which a sidecar has joined.
fn joined() -> (Case, Newcomer, JoinAnswer) {
    let mut case = Case::new();
    let credential = case.mint(Mint::JoinSecret, "shop/orders");
    let newcomer = Newcomer::new();
    let answer = case.join(&newcomer.request(&credential, "shop/orders")).unwrap();
    (case, newcomer, answer)
}

#[test]
fn a_leaf_passes_every_peers_verification_at_either_end_until_it_expires() {
    let (case, _, answer) = joined();
    let expected: SpiffeId = "spiffe://mesh.example/ns/shop/sa/orders".parse().unwrap();
    for usage in [Usage::Client, Usage::Server] {
        assert_eq!(verify(&case, &answer.leaf, usage, UnixTime::now()).unwrap(), expected);
        assert_eq!(verify(&case, &answer.leaf, usage, in_seconds(23 * 3_600)).unwrap(), expected);
        assert!(verify(&case, &answer.leaf, usage, in_seconds(25 * 3_600)).is_err());
    }
    let bundle: Vec<_> = answer.leaf.bundle.iter().map(|der| BASE64_STANDARD.decode(der).unwrap()).collect();
    assert_eq!(bundle, [case.authority.root.to_der().unwrap()]);
}

#[test]
fn the_credential_pins_the_root_that_signs() {
    let mut case = Case::new();
    let credential = case.mint(Mint::Token, "shop/orders");
    let spki = case.authority.root.public_key().unwrap().public_key_to_der().unwrap();
    assert_eq!(credential.root_pin, openssl::sha::sha256(&spki));
    assert_eq!(credential.trust_domain.as_str(), "mesh.example");
    let own = case.authority.own_material().unwrap();
    own.verify(UnixTime::now()).unwrap();
    assert_eq!(own.certified_key.cert.last().unwrap().as_ref(), case.authority.root.to_der().unwrap());
}

#[test]
fn whatever_else_a_request_asks_for_is_not_in_the_leaf() {
    let mut case = Case::new();
    let credential = case.mint(Mint::Token, "shop/orders");
    let newcomer = Newcomer::new();
    let mut params = CertificateParams::new(vec!["admin.mesh.example".to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(SanType::URI("spiffe://mesh.example/ns/shop/sa/payments".try_into().unwrap()));
    params.is_ca = IsCa::NoCa;
    params.distinguished_name.push(DnType::CommonName, "somebody else");
    let asked =
        JoinRequest { csr: csr(&newcomer.leaf, &params), ..newcomer.request(&credential, "shop/orders") };
    let answer = case.join(&asked).unwrap();
    let identity = verify(&case, &answer.leaf, Usage::Client, UnixTime::now()).unwrap();
    assert_eq!(identity.as_str(), "spiffe://mesh.example/ns/shop/sa/orders");
    let leaf = X509::from_der(&chain(&answer.leaf)[0]).unwrap();
    assert_eq!(leaf.subject_alt_names().unwrap().len(), 1);
    let text = String::from_utf8(leaf.to_text().unwrap()).unwrap();
    assert!(!text.contains("somebody else") && !text.contains("admin"), "{text}");
    assert!(text.contains("CA:FALSE"), "{text}");
    let key = leaf.public_key().unwrap().public_key_to_der().unwrap();
    assert_eq!(key, newcomer.leaf.subject_public_key_info());
}

#[test]
fn requests_that_are_no_proof_of_possession_or_of_a_weak_key_are_refused() {
    let mut case = Case::new();
    let credential = case.mint(Mint::JoinSecret, "shop/orders");
    let newcomer = Newcomer::new();
    let whole = newcomer.request(&credential, "shop/orders");
    let mut forged = BASE64_STANDARD.decode(&whole.csr).unwrap();
    *forged.last_mut().unwrap() ^= 1;
    let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2_048).unwrap()).unwrap();
    let mut builder = openssl::x509::X509ReqBuilder::new().unwrap();
    builder.set_pubkey(&rsa).unwrap();
    builder.sign(&rsa, openssl::hash::MessageDigest::sha256()).unwrap();
    let rsa = builder.build().to_der().unwrap();
    let long = vec![0x30; pki::CSR_BYTES_MAX + 1];
    for (csr, why) in [
        (BASE64_STANDARD.encode(forged), "signed"),
        (BASE64_STANDARD.encode(rsa), "P-256"),
        (BASE64_STANDARD.encode(long), "4 KiB"),
        (BASE64_STANDARD.encode(b"no request"), "PKCS#10"),
        ("%".to_owned(), "base64"),
    ] {
        let refused = case.refusal(&JoinRequest { csr, ..whole.clone() });
        assert_eq!(refused.status().0, 400);
        assert!(refused.to_string().contains(why), "{refused}");
    }
    let refused = case.refusal(&JoinRequest { instance_key: "AAAA".to_owned(), ..whole.clone() });
    assert!(refused.to_string().contains("instance_key"), "{refused}");
    // None of it has spent anything.
    case.join(&whole).unwrap();
}

#[test]
fn a_key_that_is_given_later_seals_what_lies_unsealed_and_leaves_no_trace_of_it() {
    let Case { dir, authority, .. } = Case::new();
    let keys = ["root", "intermediate", "signer"].map(|key| {
        let record: serde_json::Value = authority.store.get(Kind::Meta, key).unwrap().unwrap();
        record["key"].as_str().unwrap().to_owned()
    });
    drop(authority);
    let in_file = |key: &String| {
        let file = std::fs::read(dir.path().join("store.redb")).unwrap();
        file.windows(key.len()).any(|bytes| bytes == key.as_bytes())
    };
    assert!(keys.iter().all(in_file));
    let seal = Seal::of(None, Some("a passphrase of some length".into())).unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    assert!(seal_at_rest(&store, &seal).unwrap());
    store.compact().unwrap();
    assert!(!seal_at_rest(&store, &seal).unwrap());
    assert!(!seal_at_rest(&store, &Seal::None).unwrap());
    drop(store);
    assert!(!keys.iter().any(in_file));
    let open = |seal| {
        Authority::open(Arc::new(Store::open(dir.path()).unwrap()), &"mesh.example".parse().unwrap(), seal)
    };
    let error = open(&Seal::None).err().unwrap().to_string();
    assert!(error.contains("--key-file") && error.contains("OUTRIDER_KEY"), "{error}");
    open(&seal).unwrap().own_material().unwrap().verify(UnixTime::now()).unwrap();
}

#[test]
fn the_key_for_keys_at_rest_comes_from_one_place_and_is_no_short_word() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "a passphrase of some length\n").unwrap();
    let passphrase = |seal: anyhow::Result<Seal>| match seal.unwrap() {
        Seal::Passphrase(passphrase) => Some(passphrase),
        Seal::None => None,
    };
    let expected = Some(b"a passphrase of some length".to_vec());
    assert_eq!(passphrase(Seal::of(Some(&file), None)), expected);
    assert_eq!(passphrase(Seal::of(None, Some("a passphrase of some length".into()))), expected);
    assert_eq!(passphrase(Seal::of(None, None)), None);
    for (file, variable, says) in [
        (Some(file.as_path()), Some("a passphrase of some length".into()), "twice"),
        (None, Some("short".into()), "OUTRIDER_KEY holds fewer"),
        (Some(Path::new("/nowhere/key")), None, "/nowhere/key"),
    ] {
        let error = Seal::of(file, variable).err().unwrap().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn intermediate_and_signer_are_renewed_at_half_of_their_life_and_what_they_signed_holds() {
    const YEAR_S: i64 = 365 * 86_400;
    let seal = Seal::of(None, Some("a passphrase of some length".into())).unwrap();
    let mut case = Case::sealed(&seal);
    let secret = case.mint(Mint::JoinSecret, "shop/orders");
    let before = case.join(&Newcomer::new().request(&secret, "shop/orders")).unwrap();
    let signed = case.authority.sign("{}".to_owned()).unwrap();
    let now = now_unix_s();
    assert!(!case.authority.renew_issuers(&seal, now).unwrap());
    assert!(!case.authority.renew_issuers(&seal, now + 2 * YEAR_S).unwrap());
    assert!(case.authority.renew_issuers(&seal, now + 3 * YEAR_S).unwrap());
    assert!(!case.authority.renew_issuers(&seal, now + 3 * YEAR_S).unwrap());
    let next = case.authority.sign("{}".to_owned()).unwrap();
    assert!(next.signer[0] != signed.signer[0] && next.signer[1] != signed.signer[1]);
    // After a restart it is still the new one, which outlives the old.
    let case = case.reopen("mesh.example", &seal).unwrap();
    assert_eq!(case.authority.sign("{}".to_owned()).unwrap().signer, next.signer);
    let at = |after_s: i64| {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs((now + after_s).unsigned_abs()))
    };
    let holds = |signed: &SignedSnapshot, at| {
        let chain =
            signed.signer.iter().map(|text| CertificateDer::from(BASE64_STANDARD.decode(text).unwrap()));
        let chain: Vec<_> = chain.collect();
        verify_peer(&chain[0], &chain[1..], &case.bundle(), Usage::Signer, at)
    };
    assert!(holds(&signed, at(4 * YEAR_S)).is_ok() && holds(&signed, at(6 * YEAR_S)).is_err());
    assert!(holds(&next, at(6 * YEAR_S)).is_ok());
    // The leaf of before ends when it would have ended.
    assert!(verify(&case, &before.leaf, Usage::Client, at(3_600)).is_ok());
}

#[test]
fn a_leaf_says_which_sidecar_it_was_made_for() {
    let (mut case, newcomer, answer) = joined();
    let renewed = case.renew(&newcomer.renewal(&answer, &newcomer.instance)).unwrap();
    for leaf in [&answer.leaf, &renewed] {
        assert_eq!(verified_peer(Some(&chain(leaf))).unwrap().sidecar, Some(answer.sidecar.clone()));
    }
}

#[test]
fn an_instance_key_is_of_a_kind_whose_proofs_can_be_judged() {
    let mut case = Case::new();
    let credential = case.mint(Mint::JoinSecret, "shop/orders");
    let whole = Newcomer::new().request(&credential, "shop/orders");
    let rsa = PKey::from_rsa(openssl::rsa::Rsa::generate(2_048).unwrap()).unwrap();
    let x25519 = PKey::generate_x25519().unwrap();
    let p521 = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::SECP521R1).unwrap();
    let p521 = PKey::from_ec_key(openssl::ec::EcKey::generate(&p521).unwrap()).unwrap();
    for key in [rsa, x25519, p521] {
        let instance_key = BASE64_STANDARD.encode(key.public_key_to_der().unwrap());
        let refused = case.refusal(&JoinRequest { instance_key, ..whole.clone() });
        assert_eq!(refused.status().0, 400);
        assert!(refused.to_string().contains("P-256, P-384 or Ed25519"), "{refused}");
    }
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519] {
        let instance = KeyPair::generate_for(algorithm).unwrap();
        let newcomer = Newcomer { instance, leaf: KeyPair::generate().unwrap() };
        let answer = case.join(&newcomer.request(&credential, "shop/orders")).unwrap();
        case.renew(&newcomer.renewal(&answer, &newcomer.instance)).unwrap();
        let other = KeyPair::generate_for(algorithm).unwrap();
        let refused = case.renew(&newcomer.renewal(&answer, &other)).err().unwrap();
        assert!(matches!(refused, Refused::BadProof), "{refused}");
    }
}

#[test]
fn a_token_is_good_once_and_says_who_used_it() {
    let mut case = Case::new();
    let token = case.mint(Mint::Token, "shop/orders");
    let first = case.join(&Newcomer::new().request(&token, "shop/orders")).unwrap();
    let refused = case.refusal(&Newcomer::new().request(&token, "shop/orders"));
    assert!(matches!(&refused, Refused::TokenUsed { by } if *by == first.sidecar), "{refused}");
    assert!(refused.to_string().contains("outrider token create"), "{refused}");
    // Also after a restart.
    let mut case = case.reopen("mesh.example", &Seal::None).unwrap();
    let refused = case.refusal(&Newcomer::new().request(&token, "shop/orders"));
    assert!(matches!(refused, Refused::TokenUsed { .. }), "{refused}");
}

#[test]
fn a_join_secret_is_good_any_number_of_times_until_it_is_revoked() {
    let mut case = Case::new();
    let secret = case.mint(Mint::JoinSecret, "shop/orders");
    let first = case.join(&Newcomer::new().request(&secret, "shop/orders")).unwrap();
    let second = case.join(&Newcomer::new().request(&secret, "shop/orders")).unwrap();
    assert_ne!(first.sidecar, second.sidecar);
    case.authority.revoke(&secret.id).unwrap();
    let refused = case.refusal(&Newcomer::new().request(&secret, "shop/orders"));
    assert!(matches!(refused, Refused::Revoked), "{refused}");
    assert!(matches!(case.authority.revoke("nothing"), Err(Refused::NoCredential)));
}

#[test]
fn a_credential_of_another_service_a_wrong_secret_and_an_unknown_id_are_refused() {
    let mut case = Case::new();
    let token = case.mint(Mint::Token, "shop/orders");
    let newcomer = Newcomer::new();
    let refused = case.refusal(&newcomer.request(&token, "shop/payments"));
    assert_eq!(refused.status().0, 403);
    let wrong = JoinCredential { secret: "guessed".to_owned(), ..token.clone() };
    let unknown = JoinCredential { id: "guessed".to_owned(), ..token.clone() };
    let answers = [wrong, unknown].map(|credential| {
        let refused = case.refusal(&newcomer.request(&credential, "shop/orders"));
        (refused.status(), refused.to_string())
    });
    // A guess does not learn whether the id exists.
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0.0, 401);
    case.join(&newcomer.request(&token, "shop/orders")).unwrap();
}

#[test]
fn an_expired_credential_is_refused() {
    let mut case = Case::new();
    let token = case.mint(Mint::Token, "shop/orders");
    let record: CredentialRecord = case.authority.store.get(Kind::Credential, &token.id).unwrap().unwrap();
    let life = record.expires_unix_s.unwrap() - now_unix_s();
    assert!((3_590..=3_600).contains(&life), "{life}");
    let past = CredentialRecord { expires_unix_s: Some(now_unix_s() - 1), ..record };
    case.keep(Kind::Credential, &token.id, &past);
    let refused = case.refusal(&Newcomer::new().request(&token, "shop/orders"));
    assert!(matches!(refused, Refused::Expired), "{refused}");
}

#[test]
fn a_credential_is_minted_for_declared_services_and_bounded_lives_alone() {
    let mut case = Case::new();
    let mut mint = |service: &str, ttl_s| {
        let request = MintRequest { service: service.parse().unwrap(), ttl_s };
        case.authority.mint(Mint::Token, &request, &case.policy).map(|minted| minted.id)
    };
    assert_eq!(mint("shop/nobody", None).unwrap_err().status().0, 404);
    for ttl_s in [0, TTL_MAX_S + 1, u64::MAX] {
        assert_eq!(mint("shop/orders", Some(ttl_s)).unwrap_err().status().0, 400);
    }
    assert!(mint("shop/orders", Some(TTL_MAX_S)).is_ok());
}

#[test]
fn credentials_that_are_void_make_room_for_new_ones() {
    let mut case = Case::new();
    let live = case.mint(Mint::JoinSecret, "shop/orders");
    let record: CredentialRecord = case.authority.store.get(Kind::Credential, &live.id).unwrap().unwrap();
    let void = |n: usize| {
        let record = record.clone();
        match n % 3 {
            0 => CredentialRecord { revoked: true, ..record },
            1 => CredentialRecord { expires_unix_s: Some(1), ..record },
            _ => CredentialRecord { once: true, used_by: Some("ab".parse().unwrap()), ..record },
        }
    };
    let fill = (1..CREDENTIALS_MAX).map(|n| Change::put(Kind::Credential, format!("void-{n}"), &void(n)));
    case.authority.store.apply(&fill.collect::<Vec<_>>()).unwrap();
    let fresh = case.mint(Mint::Token, "shop/orders");
    let kept = case.authority.store.all::<CredentialRecord>(Kind::Credential).unwrap();
    let mut ids: Vec<&str> = kept.iter().map(|(id, _)| id.as_str()).collect();
    ids.sort_unstable();
    let mut expected = [live.id.as_str(), fresh.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
}

#[test]
fn no_secret_lies_in_the_store() {
    let (case, _, answer) = joined();
    let credentials = case.authority.store.all::<serde_json::Value>(Kind::Credential).unwrap();
    let instances = case.authority.store.all::<serde_json::Value>(Kind::Instance).unwrap();
    let text = format!("{credentials:?}{instances:?}");
    let kept = digest(answer.instance_credential.as_bytes());
    assert!(text.contains(std::str::from_utf8(kept.as_bytes()).unwrap()));
    assert!(!text.contains(&answer.instance_credential));
}

#[test]
fn a_leaf_is_renewed_by_the_instances_key_whatever_became_of_the_last_one() {
    let (mut case, newcomer, answer) = joined();
    let renewed = case.renew(&newcomer.renewal(&answer, &newcomer.instance)).unwrap();
    let identity = verify(&case, &renewed, Usage::Server, UnixTime::now()).unwrap();
    assert_eq!(identity.as_str(), "spiffe://mesh.example/ns/shop/sa/orders");
    assert_ne!(renewed.chain[0], answer.leaf.chain[0]);
    assert_eq!(case.authority.service_of(&answer.sidecar).unwrap(), Some("shop/orders".parse().unwrap()));
}

#[test]
fn a_renewal_without_the_right_key_credential_or_sidecar_is_refused() {
    let (mut case, newcomer, answer) = joined();
    let whole = newcomer.renewal(&answer, &newcomer.instance);
    let other_key = newcomer.renewal(&answer, &newcomer.leaf);
    assert!(matches!(case.renew(&other_key), Err(Refused::BadProof)));
    // A proof of one request is none of another.
    let other_csr = RenewRequest {
        csr: csr(&KeyPair::generate().unwrap(), &CertificateParams::default()),
        ..whole.clone()
    };
    assert!(matches!(case.renew(&other_csr), Err(Refused::BadProof)));
    let credential = RenewRequest { instance_credential: "guessed".to_owned(), ..whole.clone() };
    assert!(matches!(case.renew(&credential), Err(Refused::UnknownCredential)));
    let unknown = RenewRequest { sidecar: "ab".parse().unwrap(), ..whole.clone() };
    assert!(matches!(case.renew(&unknown), Err(Refused::UnknownInstance)));
    let malformed = RenewRequest { proof: "%".to_owned(), ..whole.clone() };
    assert!(matches!(case.renew(&malformed), Err(Refused::Malformed(_))));
    case.renew(&whole).unwrap();
}

#[test]
fn an_instance_that_was_not_heard_of_for_30_days_joins_again() {
    let (mut case, newcomer, answer) = joined();
    let key = answer.sidecar.as_str();
    let record: InstanceRecord = case.authority.store.get(Kind::Instance, key).unwrap().unwrap();
    let silent = |s| InstanceRecord { used_unix_s: now_unix_s() - s, ..record.clone() };
    case.keep(Kind::Instance, key, &silent(INSTANCE_IDLE_S + 60));
    let renewal = newcomer.renewal(&answer, &newcomer.instance);
    assert!(matches!(case.renew(&renewal), Err(Refused::InstanceExpired)));
    case.keep(Kind::Instance, key, &silent(INSTANCE_IDLE_S - 60));
    case.renew(&renewal).unwrap();
    // Use has begun the 30 days anew.
    let record: InstanceRecord = case.authority.store.get(Kind::Instance, key).unwrap().unwrap();
    assert!(now_unix_s() - record.used_unix_s <= 5);
}

#[test]
fn a_service_that_is_no_longer_declared_gets_no_leaf() {
    let (mut case, newcomer, answer) = joined();
    let text = "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: { name: mesh }\nspec: { trustDomain: mesh.example }\n";
    case.policy = load(vec![("mesh.yaml".to_owned(), text.to_owned())]).unwrap().policy;
    let refused = case.renew(&newcomer.renewal(&answer, &newcomer.instance)).unwrap_err();
    assert_eq!(refused.status().0, 404);
}

#[test]
fn a_snapshot_is_verified_as_the_control_planes_and_a_changed_one_is_not() {
    let case = Case::new();
    let snapshot = crate::planner::plan(
        &case.policy,
        1,
        &[],
        &"ab".parse().unwrap(),
        &"shop/orders".parse().unwrap(),
        outrider_shared::snapshot::Version { epoch: 1, sequence: 1 },
    )
    .unwrap();
    let mut signed = case.authority.sign(serde_json::to_string(&snapshot).unwrap()).unwrap();
    assert_eq!(verify_snapshot(&signed, &case.bundle(), UnixTime::now()).unwrap(), snapshot);
    // It lies on disks for as long as an outage may last.
    let years = in_seconds(4 * 365 * 24 * 60 * MINUTE_S);
    assert_eq!(verify_snapshot(&signed, &case.bundle(), years).unwrap(), snapshot);
    signed.body = signed.body.replace("\"revision\":1", "\"revision\":2");
    let refused = verify_snapshot(&signed, &case.bundle(), UnixTime::now()).unwrap_err();
    assert!(matches!(refused, SnapshotRefusal::Signature), "{refused}");
}

#[test]
fn the_signers_certificate_is_of_no_use_at_either_end_of_a_connection() {
    let case = Case::new();
    let signed = case.authority.sign("{}".to_owned()).unwrap();
    let chain: Vec<CertificateDer<'static>> =
        signed.signer.iter().map(|der| BASE64_STANDARD.decode(der).unwrap().into()).collect();
    for usage in [Usage::Client, Usage::Server] {
        let refused = verify_peer(&chain[0], &chain[1..], &case.bundle(), usage, UnixTime::now());
        assert_eq!(refused, Err(PeerRefusal::WrongUsage));
    }
}

#[test]
fn a_restart_keeps_the_root_and_what_was_issued_stays_good() {
    let (case, newcomer, answer) = joined();
    let root = case.authority.root.to_der().unwrap();
    let mut case = case.reopen("mesh.example", &Seal::None).unwrap();
    assert_eq!(case.authority.root.to_der().unwrap(), root);
    verify(&case, &answer.leaf, Usage::Client, UnixTime::now()).unwrap();
    case.renew(&newcomer.renewal(&answer, &newcomer.instance)).unwrap();
}

#[test]
fn a_data_directory_of_another_trust_domain_is_refused_with_what_to_do() {
    let error = Case::new().reopen("other.example", &Seal::None).err().unwrap().to_string();
    assert!(error.contains("mesh.example") && error.contains("--data-dir"), "{error}");
}

#[test]
fn keys_at_rest_open_with_the_key_that_sealed_them_alone() {
    let passphrase = |text: &str| Seal::Passphrase(text.as_bytes().to_vec());
    let right = passphrase("a passphrase of some length");
    let case = Case::sealed(&right);
    let record: serde_json::Value = case.authority.store.get(Kind::Meta, "root").unwrap().unwrap();
    assert!(record["key"].as_str().unwrap().contains("ENCRYPTED PRIVATE KEY"), "{record}");
    let root = case.authority.root.to_der().unwrap();
    let case = case.reopen("mesh.example", &right).unwrap();
    assert_eq!(case.authority.root.to_der().unwrap(), root);
    let Case { dir, authority, .. } = case;
    drop(authority);
    for (seal, says) in [(passphrase("another one altogether"), "--key-file"), (Seal::None, "--key-file")] {
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let error = Authority::open(store, &"mesh.example".parse().unwrap(), &seal).err().unwrap();
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
}

#[test]
fn a_key_file_that_is_missing_or_too_short_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let missing = Seal::of(Some(&path), None).err().unwrap();
    assert!(format!("{missing:#}").contains("key"), "{missing:#}");
    std::fs::write(&path, "short\n").unwrap();
    let short = Seal::of(Some(&path), None).err().unwrap().to_string();
    assert!(short.contains("16 characters"), "{short}");
    std::fs::write(&path, "sixteen characters\n").unwrap();
    assert!(matches!(Seal::of(Some(&path), None), Ok(Seal::Passphrase(key)) if key == b"sixteen characters"));
    assert!(matches!(Seal::of(None, None), Ok(Seal::None)));
}

#[test]
fn each_mint_join_and_revocation_is_recorded_in_order() {
    let (mut case, _, answer) = joined();
    let token = case.mint(Mint::Token, "shop/payments");
    case.authority.revoke(&token.id).unwrap();
    let case = case.reopen("mesh.example", &Seal::None).unwrap();
    let records = case.authority.audited().unwrap();
    let what: Vec<&str> = records.iter().map(|record| record.what.as_str()).collect();
    assert_eq!(what, ["mint", "join", "mint", "revoke"]);
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    assert!(records[1].whom.contains(answer.sidecar.as_str()));
    assert_eq!(case.authority.audit_next, 5);
    assert!(!records.iter().any(|record| record.whom.contains(&token.secret)));
}

#[test]
fn instances_that_are_void_make_room_and_no_more_are_kept_than_may_be() {
    let (case, _, answer) = joined();
    let record: InstanceRecord =
        case.authority.store.get(Kind::Instance, answer.sidecar.as_str()).unwrap().unwrap();
    let idle = InstanceRecord { used_unix_s: now_unix_s() - INSTANCE_IDLE_S - 1, ..record.clone() };
    let fill = |record: &InstanceRecord| -> Vec<Change> {
        (1..INSTANCES_MAX).map(|n| Change::put(Kind::Instance, format!("{n:032x}"), record)).collect()
    };
    case.authority.store.apply(&fill(&record)).unwrap();
    let mut case = case.reopen("mesh.example", &Seal::None).unwrap();
    let secret = case.mint(Mint::JoinSecret, "shop/orders");
    let refused = case.refusal(&Newcomer::new().request(&secret, "shop/orders"));
    assert_eq!(refused.status().0, 429);
    case.authority.store.apply(&fill(&idle)).unwrap();
    case.join(&Newcomer::new().request(&secret, "shop/orders")).unwrap();
    assert_eq!(case.authority.store.all::<InstanceRecord>(Kind::Instance).unwrap().len(), 2);
}
