//! First bytes: told alike however they come, never told otherwise later, and no request is taken for something else.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrider_fuzz::detect::judge::{BYTES_MAX, Judge, Verdict};
use outrider_fuzz::detect::watch::{Passing, watch};
use outrider_fuzz::h1::head;
use outrider_fuzz::h1::scan::Scanner;
use outrider_fuzz::{LIMITS, whole_head};

fn judge(bytes: &[u8]) -> Verdict {
    Judge::default().see(bytes)
}

/// Every prefix is looked at, so longer inputs would only be slower.
const LOOKED_AT: usize = 128;

fuzz_target!(|bytes: &[u8]| {
    let bytes = &bytes[..bytes.len().min(LOOKED_AT)];
    let mut told = Verdict::More;
    for length in 0..=bytes.len() {
        let verdict = judge(&bytes[..length]);
        assert!(told == Verdict::More || told == verdict, "{told:?}, then {verdict:?}");
        told = verdict;
    }
    for piece in [1, 7] {
        let (mut watched, _) = watch(&"a/b:1".into());
        let ended = bytes.chunks(piece).map(|part| watched.see(part)).find(|of| *of != Passing::Watched);
        let expected = match told {
            Verdict::More => None,
            Verdict::Opaque => Some(Passing::Free),
            Verdict::Http1 | Verdict::Http2 => Some(Passing::Refused),
        };
        assert_eq!(ended, expected);
    }
    let mut long = bytes.to_vec();
    long.resize(BYTES_MAX, bytes.last().copied().unwrap_or_default());
    assert_ne!(judge(&long), Verdict::More, "it is bounded");
    // What the codec takes for a request is one.
    if let Some(length) = whole_head(&Scanner::of_request(), bytes)
        && head::request(&Bytes::copy_from_slice(&bytes[..length]), &LIMITS).is_ok()
    {
        assert_eq!(told, Verdict::Http1);
    }
});
