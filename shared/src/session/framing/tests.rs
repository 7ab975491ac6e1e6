//! Messages in pieces: whole ones come through, and anything else ends in an error within the bound.

use proptest::prelude::*;

use super::{Assembler, FrameError, PART_BYTES_MAX, frames};

fn assemble(limit: usize, frames: &[impl AsRef<[u8]>]) -> Result<Option<String>, FrameError> {
    let mut assembler = Assembler::new(limit);
    let mut last = None;
    for frame in frames {
        assert!(last.is_none(), "a message ended before its last frame");
        last = assembler.take(frame.as_ref())?;
    }
    Ok(last)
}

#[test]
fn a_message_of_megabytes_comes_through_in_frames_within_the_bound() {
    let message = "x".repeat(5 << 20);
    let frames = frames(&message);
    assert!(frames.len() > 160);
    assert!(frames.iter().all(|frame| frame.len() <= PART_BYTES_MAX + 1));
    assert_eq!(assemble(6 << 20, &frames).unwrap(), Some(message));
}

#[test]
fn a_message_that_fills_its_frames_exactly_has_no_empty_one_after() {
    // Two bytes are the quotes.
    let message = "x".repeat(2 * PART_BYTES_MAX - 2);
    let frames = frames(&message);
    assert_eq!(frames.len(), 2);
    assert_eq!(frames[1].len(), PART_BYTES_MAX + 1);
    assert_eq!(assemble(usize::MAX, &frames).unwrap(), Some(message));
}

#[test]
fn one_assembler_takes_message_after_message() {
    let mut assembler = Assembler::new(1_000);
    for message in ["a", "b", ""] {
        let frames = frames(&message);
        assert_eq!(assembler.take::<String>(&frames[0]).unwrap().as_deref(), Some(message));
    }
}

#[test]
fn what_does_not_fit_the_bound_is_refused_before_it_is_kept() {
    let mut assembler = Assembler::new(10);
    assert!(matches!(assembler.take::<String>(b"\x01\"234567890"), Ok(None)));
    assert!(matches!(assembler.take::<String>(b"\x00x"), Err(FrameError::TooLong { limit: 10 })));
}

#[test]
fn frames_of_no_known_form_are_refused() {
    let take = |frame: &[u8]| Assembler::new(100).take::<String>(frame);
    assert!(matches!(take(b""), Err(FrameError::Empty)));
    assert!(matches!(take(b"\x02\"a\""), Err(FrameError::Marker { got: 2 })));
    assert!(matches!(take(b"\x00"), Err(FrameError::Json(_))));
    assert!(matches!(take(b"\x00{}"), Err(FrameError::Json(_))));
    assert!(matches!(take(b"\x00\"a\" \"b\""), Err(FrameError::Json(_))));
    assert!(matches!(take(b"\x00\"\xff\""), Err(FrameError::Json(_))));
}

#[test]
fn a_message_with_an_unknown_field_is_refused() {
    let known = br#"{"Announce":{"serving":true}}"#;
    let unknown = br#"{"Announce":{"serving":true,"colour":1}}"#;
    let take = |json: &[u8]| Assembler::new(100).take::<crate::session::FromSidecar>(&[&[0], json].concat());
    assert!(take(known).is_ok());
    assert!(matches!(take(unknown), Err(FrameError::Json(_))));
}

proptest! {
    #[test]
    fn a_message_comes_through_however_it_is_split(message in "\\PC{0,300}", cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let json = serde_json::to_vec(&message).unwrap();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(json.len() + 1)).collect();
        cuts.extend([0, json.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &json[cut[0]..cut[1]]).collect();
        let count = parts.len();
        let frames: Vec<Vec<u8>> = parts
            .iter()
            .enumerate()
            .map(|(index, part)| [&[u8::from(index + 1 < count)], *part].concat())
            .collect();
        prop_assert_eq!(assemble(json.len(), &frames).unwrap(), Some(message));
    }

    #[test]
    fn garbage_is_refused_and_never_kept_beyond_the_bound(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
        let mut assembler = Assembler::new(50);
        for frame in frames {
            if assembler.take::<String>(&frame).is_err() {
                break;
            }
            prop_assert!(assembler.partial.len() <= 50);
        }
    }
}
