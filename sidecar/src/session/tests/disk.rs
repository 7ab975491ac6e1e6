//! The data directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use outrider_shared::join::Leaf;
use outrider_shared::snapshot::{SignedSnapshot, Version};

use crate::session::gate::Mark;
use crate::session::store::{Store, StoreError, StoredIdentity};

fn identity(credential: &str) -> StoredIdentity {
    StoredIdentity {
        sidecar: "ab".parse().unwrap(),
        service: "shop/orders".parse().unwrap(),
        trust_domain: "mesh.test".parse().unwrap(),
        instance_credential: credential.to_owned(),
        instance_key: String::new(),
        leaf: Leaf { chain: Vec::new(), bundle: Vec::new(), not_after_unix_s: 0 },
        leaf_key: String::new(),
    }
}

#[test]
fn what_was_kept_is_there_after_a_restart_and_for_nobody_else_to_read() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("a/b");
    let mark = Mark { version: Version { epoch: 1, sequence: 2 }, hash: "00".to_owned() };
    let signed = SignedSnapshot { body: "{}".to_owned(), signature: String::new(), signer: Vec::new() };
    {
        let store = Store::open(&dir).unwrap();
        assert!(store.identity().unwrap().is_none());
        assert!(store.snapshot().unwrap().is_none());
        assert!(store.seen().unwrap().is_none());
        store.keep_identity(&identity("first")).unwrap();
        store.keep_identity(&identity("second")).unwrap();
        store.keep_snapshot(&signed, &mark).unwrap();
    }
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.identity().unwrap().unwrap().instance_credential, "second");
    assert_eq!(store.snapshot().unwrap(), Some(signed));
    assert_eq!(store.seen().unwrap(), Some(mark));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn an_open_directory_is_closed_to_others_and_to_a_second_sidecar() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let first = Store::open(home.path()).unwrap();
    assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(matches!(Store::open(home.path()), Err(StoreError::InUse { .. })));
    drop(first);
    assert!(Store::open(home.path()).is_ok());
}

#[test]
fn what_a_crash_left_half_written_is_not_read_and_does_not_hinder() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    store.keep_identity(&identity("whole")).unwrap();
    fs::write(home.path().join("identity.json.new"), "{\"sidecar\":").unwrap();
    assert_eq!(store.identity().unwrap().unwrap().instance_credential, "whole");
    store.keep_identity(&identity("next")).unwrap();
    assert_eq!(store.identity().unwrap().unwrap().instance_credential, "next");
}

#[test]
fn a_file_that_no_sidecar_wrote_is_an_error_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    fs::write(home.path().join("identity.json"), "{}").unwrap();
    let refused = store.identity().err().expect("must be refused");
    assert!(refused.to_string().contains("identity.json"), "{refused}");
    fs::write(home.path().join("version.json"), vec![b' '; 300 << 10]).unwrap();
    assert!(matches!(store.seen(), Err(StoreError::TooLarge { .. })));
}
