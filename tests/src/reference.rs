//! Pages of the reference that cases write: each says what a run of them saw.

use std::path::Path;

/// Fails unless `page` of the repository is `text`. `OUTRIDER_UPDATE_DOCS=1` writes it instead.
#[track_caller]
pub fn hold(page: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    if std::env::var_os("OUTRIDER_UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, text).expect("the repository is writable");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (there, now)) in there.lines().zip(text.lines()).enumerate() {
        assert_eq!(there, now, "line {} of {page}: OUTRIDER_UPDATE_DOCS=1 writes it anew", number + 1);
    }
    assert_eq!(there.len(), text.len(), "{page}: OUTRIDER_UPDATE_DOCS=1 writes it anew");
}
