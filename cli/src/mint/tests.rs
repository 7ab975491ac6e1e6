use super::credential_id;

#[test]
fn an_id_that_would_change_the_path_is_refused() {
    assert_eq!(credential_id("js-4f_9C"), Ok("js-4f_9C".to_owned()));
    for bad in ["", "a/b", "..", "a?b", "a b", &"x".repeat(129)] {
        assert!(credential_id(bad).is_err(), "{bad:?}");
    }
}
