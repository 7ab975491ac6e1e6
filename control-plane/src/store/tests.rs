//! What the store keeps, how it fails, and who may read it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn what_was_put_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        store.put(Kind::Meta, "epoch", &7_u64).unwrap();
        assert_eq!(store.get::<u64>(Kind::Meta, "missing").unwrap(), None);
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.get(Kind::Meta, "epoch").unwrap(), Some(7_u64));
    // Kinds do not share their keys.
    assert_eq!(store.get::<u64>(Kind::Quota, "epoch").unwrap(), None);
}

#[test]
fn a_second_control_plane_on_the_same_directory_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("another control plane") && error.contains("--data-dir"), "{error}");
}

#[test]
fn a_record_of_another_form_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.put(Kind::Quota, "shop/orders", &"text").unwrap();
    let error = store.get::<u64>(Kind::Quota, "shop/orders").unwrap_err().to_string();
    assert!(error.contains("shop/orders"), "{error}");
}

#[test]
fn nobody_else_may_read_the_file_whatever_the_directory_allows() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("store.redb");
    drop(Store::open(dir.path()).unwrap());
    assert_eq!(mode(&path), 0o600);
    // One that was made by other means is closed to others too.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(dir.path()).unwrap());
    assert_eq!(mode(&path), 0o600);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn batches_leave_what_a_map_would_hold(
        batches in prop::collection::vec(
            prop::collection::vec((0..6_u8, prop::option::of(any::<u64>())), 0..6), 0..8)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model: BTreeMap<String, u64> = BTreeMap::new();
        {
            let store = Store::open(dir.path()).unwrap();
            for batch in batches {
                let change = |(key, value): &(u8, Option<u64>)| match value {
                    Some(value) => Change::put(Kind::Audit, format!("k{key}"), value),
                    None => Change::Remove(Kind::Audit, format!("k{key}")),
                };
                store.apply(&batch.iter().map(change).collect::<Vec<_>>()).unwrap();
                for (key, value) in batch {
                    match value {
                        Some(value) => model.insert(format!("k{key}"), value),
                        None => model.remove(&format!("k{key}")),
                    };
                }
            }
        }
        let store = Store::open(dir.path()).unwrap();
        prop_assert_eq!(store.all::<u64>(Kind::Audit).unwrap(), model.into_iter().collect::<Vec<_>>());
    }
}
