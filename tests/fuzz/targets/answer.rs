//! An answer's head, to each kind of request.
#![no_main]

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use libfuzzer_sys::fuzz_target;
use outrider_fuzz::h1::framing::Framing;
use outrider_fuzz::h1::head;
use outrider_fuzz::h1::scan::Scanner;
use outrider_fuzz::{LIMITS, whole_head};

fuzz_target!(|bytes: &[u8]| {
    let Some(length) = whole_head(&Scanner::of_answer(), bytes) else { return };
    let bytes = Bytes::copy_from_slice(&bytes[..length]);
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        let Ok((answer, shape)) = head::answer(&bytes, &method, &LIMITS) else { continue };
        let fields = answer.headers();
        assert!(
            fields.get_all(CONTENT_LENGTH).iter().count() + fields.get_all(TRANSFER_ENCODING).iter().count()
                <= 1
        );
        let bodiless =
            method == Method::HEAD || matches!(answer.status().as_u16(), 204 | 304 | 100 | 102..=199);
        assert!(!bodiless || matches!(shape.framing, Framing::None | Framing::Tunnel), "{answer:?}");
        assert!(!shape.keep_alive || !matches!(shape.framing, Framing::UntilClose | Framing::Tunnel));
    }
});
