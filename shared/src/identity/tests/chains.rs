//! Chains that hold, and each way in which one does not.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, date_time_ymd,
};
use rustls_pki_types::CertificateDer;

use super::authority::{Authority, DOMAIN, ORDERS, ca, key, leaf, now};
use crate::identity::chain::{CERTIFICATE_BYTES_MAX, INTERMEDIATES_MAX};
use crate::identity::{PeerRefusal, TrustBundle, Usage, verify_peer};

fn judge(authority: &Authority, leaf: &CertificateDer<'_>, usage: Usage) -> Result<(), PeerRefusal> {
    let intermediates = [authority.intermediate.der().clone()];
    verify_peer(leaf, &intermediates, &authority.bundle(), usage, now()).map(|_| ())
}

fn label(change: impl FnOnce(&mut CertificateParams)) -> &'static str {
    let authority = Authority::new();
    let mut params = leaf(ORDERS);
    change(&mut params);
    judge(&authority, &authority.issue(&params).der, Usage::Server).expect_err("must be refused").label()
}

/// An authority whose root and intermediate are these.
fn authority(root: CertificateParams, intermediate: CertificateParams) -> Authority {
    let root = CertifiedIssuer::self_signed(root, key()).expect("a root");
    let intermediate = CertifiedIssuer::signed_by(intermediate, key(), &root).expect("an intermediate");
    Authority { root, intermediate }
}

fn label_below(root: CertificateParams, intermediate: CertificateParams) -> &'static str {
    let authority = authority(root, intermediate);
    let leaf = authority.issue(&leaf(ORDERS)).der;
    judge(&authority, &leaf, Usage::Server).expect_err("must be refused").label()
}

#[test]
fn a_leaf_of_ours_holds_at_either_end() {
    let authority = Authority::new();
    let leaf = authority.issue(&leaf(ORDERS)).der;
    for usage in [Usage::Client, Usage::Server, Usage::Signer] {
        assert_eq!(judge(&authority, &leaf, usage), Ok(()), "{usage:?}");
    }
}

#[test]
fn an_expired_leaf_and_one_that_is_not_yet_valid_are_refused_with_their_bounds() {
    assert_eq!(label(|params| params.not_after = date_time_ymd(2001, 1, 1)), "expired");
    assert_eq!(label(|params| params.not_before = date_time_ymd(2199, 1, 1)), "not_yet_valid");
    let authority = Authority::new();
    let mut params = leaf(ORDERS);
    params.not_after = date_time_ymd(2001, 1, 1);
    let refused = judge(&authority, &authority.issue(&params).der, Usage::Server);
    assert_eq!(refused, Err(PeerRefusal::Expired { not_after_unix_s: 978_307_200 }));
}

#[test]
fn an_expired_intermediate_or_root_is_refused_too() {
    let mut expired = ca("expired");
    expired.not_after = date_time_ymd(2001, 1, 1);
    assert_eq!(label_below(ca("root"), expired.clone()), "expired");
    assert_eq!(label_below(expired, ca("intermediate")), "expired");
    let mut early = ca("early");
    early.not_before = date_time_ymd(2199, 1, 1);
    assert_eq!(label_below(early, ca("intermediate")), "not_yet_valid");
}

#[test]
fn a_leaf_that_signed_itself_is_of_no_known_issuer() {
    let authority = Authority::new();
    let leaf = leaf(ORDERS).self_signed(&key()).expect("a leaf").der().clone();
    assert_eq!(judge(&authority, &leaf, Usage::Server), Err(PeerRefusal::UnknownIssuer));
}

#[test]
fn a_chain_without_its_intermediate_is_of_no_known_issuer() {
    let authority = Authority::new();
    let leaf = authority.issue(&leaf(ORDERS)).der;
    let refused = verify_peer(&leaf, &[], &authority.bundle(), Usage::Server, now());
    assert_eq!(refused, Err(PeerRefusal::UnknownIssuer));
}

#[test]
fn a_leaf_that_was_changed_after_it_was_signed_is_refused() {
    let authority = Authority::new();
    let mut changed = authority.issue(&leaf(ORDERS)).der.to_vec();
    let at = changed.windows(6).position(|bytes| bytes == b"orders").expect("its name");
    changed[at] = b'O';
    let refused = judge(&authority, &changed.into(), Usage::Server);
    assert_eq!(refused, Err(PeerRefusal::UnknownIssuer));
}

#[test]
fn an_extended_key_usage_that_is_there_must_allow_the_side() {
    let authority = Authority::new();
    let only = |usage| {
        let mut params = leaf(ORDERS);
        params.extended_key_usages = vec![usage];
        authority.issue(&params).der
    };
    let (client, server) =
        (only(ExtendedKeyUsagePurpose::ClientAuth), only(ExtendedKeyUsagePurpose::ServerAuth));
    assert_eq!(judge(&authority, &client, Usage::Client), Ok(()));
    assert_eq!(judge(&authority, &client, Usage::Server), Err(PeerRefusal::WrongUsage));
    assert_eq!(judge(&authority, &server, Usage::Server), Ok(()));
    assert_eq!(judge(&authority, &server, Usage::Client), Err(PeerRefusal::WrongUsage));
    let mut params = leaf(ORDERS);
    params.extended_key_usages.clear();
    let without = authority.issue(&params).der;
    assert_eq!(judge(&authority, &without, Usage::Client), Ok(()));
}

#[test]
fn a_ca_is_no_leaf() {
    assert_eq!(label(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), "ca_as_leaf");
    assert_eq!(label(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)), "ca_as_leaf");
    assert_eq!(label(|params| params.key_usages.push(KeyUsagePurpose::CrlSign)), "ca_as_leaf");
}

#[test]
fn a_leaf_signs_no_other_leaf() {
    let authority = Authority::new();
    let middle = CertifiedIssuer::signed_by(leaf(ORDERS), key(), &authority.intermediate).expect("a leaf");
    let forged = leaf("spiffe://mesh.test/ns/shop/sa/payments").signed_by(&key(), &middle).expect("a leaf");
    let chain = [middle.der().clone(), authority.intermediate.der().clone()];
    let refused = verify_peer(forged.der(), &chain, &authority.bundle(), Usage::Server, now());
    assert_eq!(refused.expect_err("forged").label(), "bad_certificate");
}

#[test]
fn an_intermediate_that_may_not_sign_is_refused() {
    let mut no_sign = ca("no-sign");
    no_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    assert_eq!(label_below(ca("root"), no_sign.clone()), "bad_certificate");
    assert_eq!(label_below(no_sign, ca("intermediate")), "bad_certificate");
}

#[test]
fn certificates_outside_of_the_profile_are_refused() {
    assert_eq!(label(|params| params.use_authority_key_identifier_extension = false), "bad_certificate");
    assert_eq!(label(|params| params.serial_number = Some(vec![0].into())), "bad_certificate");
    assert_eq!(label(|params| params.key_usages = vec![KeyUsagePurpose::KeyAgreement]), "bad_certificate");
    let unknown = |params: &mut CertificateParams| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions.push(extension);
    };
    assert_eq!(label(unknown), "bad_certificate");
    let twice = |params: &mut CertificateParams| {
        let extension = || CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55555, 1], vec![5, 0]);
        params.custom_extensions = vec![extension(), extension()];
    };
    assert_eq!(label(twice), "bad_certificate");
}

#[test]
fn chains_that_cost_too_much_are_refused_before_they_are_read() {
    let authority = Authority::new();
    let leaf = authority.issue(&leaf(ORDERS)).der;
    let bundle = authority.bundle();
    let many = vec![authority.intermediate.der().clone(); INTERMEDIATES_MAX + 1];
    let refused = verify_peer(&leaf, &many, &bundle, Usage::Server, now());
    assert_eq!(refused.expect_err("too many").label(), "chain_too_long");
    let full = &many[..INTERMEDIATES_MAX];
    assert!(verify_peer(&leaf, full, &bundle, Usage::Server, now()).is_ok());
    let large = [vec![0; CERTIFICATE_BYTES_MAX + 1].into()];
    let refused = verify_peer(&leaf, &large, &bundle, Usage::Server, now());
    assert_eq!(refused.expect_err("too large").label(), "certificate_too_large");
}

#[test]
fn bytes_that_are_no_certificate_are_refused() {
    let authority = Authority::new();
    let whole = authority.issue(&leaf(ORDERS)).der;
    for length in 0..whole.len() {
        let cut = CertificateDer::from(&whole[..length]);
        let refused = judge(&authority, &cut, Usage::Server).expect_err("cut short");
        assert_eq!(refused.label(), "bad_certificate", "the first {length} bytes");
    }
    let longer = [whole.as_ref(), &[0]].concat().into();
    assert_eq!(judge(&authority, &longer, Usage::Server).expect_err("longer").label(), "bad_certificate");
}

#[test]
fn each_of_several_roots_is_trusted_and_an_unfit_one_spoils_no_other() {
    let (old, new) = (Authority::new(), Authority::new());
    let unfit = leaf(ORDERS).self_signed(&key()).expect("no CA").der().clone();
    let roots = vec![unfit, old.root.der().clone(), new.root.der().clone()];
    let bundle = TrustBundle::new(DOMAIN.parse().expect("a name"), roots).expect("a bundle");
    for authority in [&old, &new] {
        let leaf = authority.issue(&leaf(ORDERS)).der;
        let chain = [authority.intermediate.der().clone()];
        assert!(verify_peer(&leaf, &chain, &bundle, Usage::Client, now()).is_ok());
    }
}

#[test]
fn a_bundle_has_at_least_one_root_and_not_too_many() {
    let root = Authority::new().root.der().clone();
    let make = |roots| TrustBundle::new(DOMAIN.parse().expect("a name"), roots);
    assert!(make(Vec::new()).is_err());
    assert!(make(vec![root.clone(); crate::identity::ROOTS_MAX]).is_ok());
    assert!(make(vec![root; crate::identity::ROOTS_MAX + 1]).is_err());
    assert!(make(vec![b"garbage".to_vec().into()]).is_err());
}
