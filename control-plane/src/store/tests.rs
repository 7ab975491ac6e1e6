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
fn a_damaged_store_is_called_damaged_and_not_in_use() {
    let whole = tempfile::tempdir().unwrap();
    let store = Store::open(whole.path()).unwrap();
    store.put(Kind::Meta, "epoch", &7_u64).unwrap();
    drop(store);
    let whole = std::fs::read(whole.path().join("store.redb")).unwrap();
    let mut scribbled = whole.clone();
    scribbled[..512].fill(0xaa);
    for damaged in [b"no store at all".repeat(1_000), whole[..whole.len() / 2].to_vec(), scribbled] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("store.redb"), damaged).unwrap();
        let error = Store::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("damaged") && !error.contains("in use"), "{error}");
    }
}

#[test]
fn the_last_of_a_kind_is_read_without_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.last::<u64>(Kind::Revision).unwrap(), None);
    store.put(Kind::Revision, "1", &"of another form").unwrap();
    store.put(Kind::Revision, "2", &7_u64).unwrap();
    assert_eq!(store.last(Kind::Revision).unwrap(), Some(("2".to_owned(), 7_u64)));
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
