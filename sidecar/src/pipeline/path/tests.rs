//! Sentences about paths, Istio's own rows, and properties over spellings of one path.

use http::uri::PathAndQuery;
use proptest::prelude::*;

use super::{BadPath, Mode, NormalTarget, Pattern, normalize};

const MODES: [Mode; 4] = [Mode::None, Mode::Base, Mode::MergeSlashes, Mode::DecodeAndMergeSlashes];

#[derive(serde::Deserialize)]
struct Vector {
    mode: String,
    #[serde(rename = "in")]
    given: String,
    out: String,
}

fn mode(name: &str) -> Mode {
    match name {
        "NONE" => Mode::None,
        "BASE" => Mode::Base,
        "MERGE_SLASHES" => Mode::MergeSlashes,
        "DECODE_AND_MERGE_SLASHES" => Mode::DecodeAndMergeSlashes,
        other => panic!("a mode {other} that is not known"),
    }
}

/// As a request comes: the `http` crate has cut the fragment off by then.
fn target(text: &str, mode: Mode) -> Result<NormalTarget, BadPath> {
    NormalTarget::new(text.parse::<PathAndQuery>().unwrap(), mode)
}

fn normal(path: &str, mode: Mode) -> Result<String, BadPath> {
    Ok(normalize(path, mode)?.unwrap_or_else(|| path.to_owned()))
}

#[test]
fn every_row_of_istios_own_test_holds() {
    let text = include_str!("../../../tests/vectors/path-normalization.json");
    let rows: Vec<Vector> = serde_json::from_str(text).unwrap();
    assert_eq!(rows.len(), 216);
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let got = target(&row.given, mode(&row.mode)).map(|target| target.path().to_owned());
            (got.as_deref() != Ok(&row.out)).then(|| format!("{} {}: {got:?}", row.mode, row.given))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn an_ordinary_path_is_found_to_be_normal_without_being_written_anew() {
    for path in [
        "/",
        "/api/orders/17",
        "/a%20b",
        "/%2F",
        "/.well-known/x",
        "/a..b/...",
        "/shop.Payments/Charge",
        "/a//b",
    ] {
        assert_eq!(normalize(path, Mode::Base), Ok(None), "{path}");
    }
}

#[test]
fn dot_segments_are_removed_however_they_are_written() {
    for path in
        ["/a/../admin", "/a/%2e%2e/admin", "/a/.%2E/admin", "/a\\..\\admin", "/./admin", "/a/./../admin"]
    {
        assert_eq!(normal(path, Mode::Base).as_deref(), Ok("/admin"), "{path}");
    }
    assert_eq!(normal("/a/..", Mode::Base).as_deref(), Ok("/"));
    assert_eq!(normal("/a/b/.", Mode::Base).as_deref(), Ok("/a/b/"));
}

#[test]
fn what_has_no_normal_spelling_is_refused() {
    let refused = |path| normalize(path, Mode::Base).unwrap_err();
    assert_eq!(refused("/a%00b"), BadPath::EncodedNul);
    assert_eq!(refused("/a%"), BadPath::MalformedEscape);
    assert_eq!(refused("/a%2"), BadPath::MalformedEscape);
    assert_eq!(refused("/a%zz"), BadPath::MalformedEscape);
    assert_eq!(refused("/%%32e/x"), BadPath::MalformedEscape);
    assert_eq!(refused("/.."), BadPath::AboveRoot);
    assert_eq!(refused("/a/../../b"), BadPath::AboveRoot);
    assert_eq!(refused("/%2e%2E/b"), BadPath::AboveRoot);
    assert_eq!(refused("a"), BadPath::NotAbsolute);
    assert_eq!(refused(""), BadPath::NotAbsolute);
    assert_eq!(refused("/a\0"), BadPath::ForbiddenByte { byte: 0 });
    assert_eq!(refused("/a\r\nb"), BadPath::ForbiddenByte { byte: b'\r' });
    assert_eq!(refused("/a b"), BadPath::ForbiddenByte { byte: b' ' });
    assert_eq!(refused("/a\x7f"), BadPath::ForbiddenByte { byte: 0x7f });
}

#[test]
fn a_doubly_encoded_path_is_decoded_no_further() {
    for mode in MODES {
        assert_eq!(normal("/%252e%252e/%252fadmin", mode).as_deref(), Ok("/%252e%252e/%252fadmin"));
    }
}

#[test]
fn the_query_is_left_as_it_is() {
    let normal = target("/a/../b?x=/../%2e&y#f", Mode::Base).unwrap();
    assert_eq!(normal.path(), "/b");
    assert_eq!(normal.query(), Some("x=/../%2e&y"));
    assert_eq!(normal.into_inner().as_str(), "/b?x=/../%2e&y");
}

#[test]
fn asking_about_the_server_is_no_path() {
    assert_eq!(target("*", Mode::Base).unwrap().path(), "*");
}

#[test]
fn a_prefix_matches_whole_segments_alone() {
    let prefix = Pattern::prefix("/api/orders", Mode::Base);
    assert!(prefix.is_prefix_of("/api/orders"));
    assert!(prefix.is_prefix_of("/api/orders/"));
    assert!(prefix.is_prefix_of("/api/orders/17"));
    for other in ["/api/orders2", "/api/order", "/api/orders%2F17", "/", "/API/orders", "*"] {
        assert!(!prefix.is_prefix_of(other), "{other}");
    }
    let with_slash = Pattern::prefix("/api/orders/", Mode::Base);
    assert!(with_slash.is_prefix_of("/api/orders"));
    let root = Pattern::prefix("/", Mode::Base);
    assert!(root.is_prefix_of("/") && root.is_prefix_of("/x") && root.is_prefix_of("//x"));
}

#[test]
fn a_pattern_means_what_its_normal_spelling_means_and_hex_digits_count_in_either_case() {
    assert!(Pattern::new("/a/./%62", Mode::Base).equals("/a/b"));
    let escaped = Pattern::new("/a%2fb", Mode::Base);
    assert!(escaped.equals("/a%2Fb") && escaped.equals("/a%2fb"));
    assert!(!escaped.equals("/A%2fb") && !escaped.equals("/a%2fB") && !escaped.equals("/a%3fb"));
    assert!(Pattern::prefix("/%C3%A4", Mode::Base).is_prefix_of("/%c3%a4/x"));
    assert!(!Pattern::new("/%zz", Mode::Base).equals("/%ZZ/"));
}

/// One segment and another spelling of it: unreserved characters escaped at will.
fn segment() -> impl Strategy<Value = (String, String)> {
    prop::collection::vec((prop::char::range('!', '~'), 0..3_u8), 1..6).prop_filter_map(
        "a segment of unreserved characters that is no dot segment",
        |characters| {
            let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
            let plain: String = characters.iter().map(|(c, _)| *c).filter(|c| unreserved(*c)).collect();
            if plain.is_empty() || plain == "." || plain == ".." {
                return None;
            }
            let spelled = characters.iter().filter(|(c, _)| unreserved(*c)).map(|(c, how)| match how {
                0 => c.to_string(),
                1 => format!("%{:02x}", u32::from(*c)),
                _ => format!("%{:02X}", u32::from(*c)),
            });
            Some((plain, spelled.collect()))
        },
    )
}

/// A path and another spelling of it, with detours.
pub(in crate::pipeline) fn path_and_spelling() -> impl Strategy<Value = (String, String)> {
    prop::collection::vec((segment(), 0..5_u8), 1..5).prop_map(|segments| {
        let mut plain = String::new();
        let mut spelled = String::new();
        for ((segment, spelling), detour) in segments {
            plain = plain + "/" + &segment;
            let detour = ["", "/.", "/%2e", "/x/..", "/x%2Fy/%2E."][usize::from(detour)];
            spelled = spelled + detour + if detour.len().is_multiple_of(2) { "/" } else { "\\" } + &spelling;
        }
        (plain, spelled)
    })
}

proptest! {
    #[test]
    fn every_spelling_of_a_path_becomes_the_same((plain, spelled) in path_and_spelling()) {
        for mode in &MODES[1..] {
            // A detour through `x%2Fy` is one segment more, where slashes are decoded.
            if *mode == Mode::DecodeAndMergeSlashes && spelled.contains("%2F") {
                continue;
            }
            prop_assert_eq!(normal(&spelled, *mode), Ok(plain.clone()));
        }
    }

    /// Whatever comes: what is normal stays as it is, has no dot segment, and can be forwarded.
    #[test]
    fn normalising_twice_is_normalising_once(path in "/([a-c./\\\\]|%2e|%2F|%5c|%41|%25|%00|%zz|%|#|\u{e4}){0,12}") {
        for mode in MODES {
            let Ok(once) = normal(&path, mode) else { continue };
            prop_assert_eq!(normalize(&once, mode), Ok(None));
            if mode >= Mode::Base {
                prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."), "{}", once);
                prop_assert!(!once.contains('\\'));
            }
            if mode >= Mode::MergeSlashes {
                prop_assert!(!once.contains("//"));
            }
        }
    }

    #[test]
    fn no_target_panics(text in "[/a.%0-9\\\\?#*\u{e4}\u{1f600}]{0,16}") {
        if let Ok(given) = text.parse::<PathAndQuery>() {
            for mode in MODES {
                if let Ok(normal) = NormalTarget::new(given.clone(), mode) {
                    prop_assert_eq!(normal.query(), given.query());
                }
            }
        }
    }
}
