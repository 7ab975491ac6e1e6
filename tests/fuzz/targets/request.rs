//! A request's head: whatever is taken says the same again once it is written.
#![no_main]

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use libfuzzer_sys::fuzz_target;
use outrider_fuzz::h1::encode::{self, Encoding};
use outrider_fuzz::h1::framing::Framing;
use outrider_fuzz::h1::head;
use outrider_fuzz::h1::scan::Scanner;
use outrider_fuzz::{LIMITS, whole_head};

fuzz_target!(|bytes: &[u8]| {
    let Some(length) = whole_head(&Scanner::of_request(), bytes) else { return };
    if length == 2 {
        return;
    }
    let Ok((request, shape)) = head::request(&Bytes::copy_from_slice(&bytes[..length]), &LIMITS) else {
        return;
    };
    let fields = request.headers();
    assert!(fields.get_all(HOST).iter().count() <= 1);
    let (lengths, codings) =
        (fields.get_all(CONTENT_LENGTH).iter().count(), fields.get_all(TRANSFER_ENCODING).iter().count());
    assert!(lengths + codings <= 1, "one way to say where it ends");
    let encoding = match shape.framing {
        Framing::None => Encoding::None,
        Framing::Length(bytes) => Encoding::Length(bytes),
        Framing::Chunked => Encoding::Chunked,
        Framing::UntilClose => panic!("no request ends with its connection"),
        Framing::Tunnel => return,
    };
    // As it is forwarded: in origin form, without what concerns the connection.
    let mut forwarded = request;
    let target = forwarded.uri().path_and_query().cloned();
    *forwarded.uri_mut() = target.map(Into::into).unwrap_or_default();
    if forwarded.uri().path() == "*" {
        return;
    }
    forwarded.headers_mut().remove(TRANSFER_ENCODING);
    forwarded.headers_mut().entry(HOST).or_insert(http::HeaderValue::from_static("a"));
    let mut out = BytesMut::new();
    encode::request(&mut out, &forwarded, encoding);
    let mut roomy = LIMITS;
    roomy.head_bytes += 256;
    roomy.fields += 2;
    let (again, again_shape) = head::request(&out.freeze(), &roomy).expect("what we write can be read");
    assert_eq!(again.method(), forwarded.method());
    assert_eq!(again.uri().path_and_query(), forwarded.uri().path_and_query());
    assert_eq!(again_shape.framing, shape.framing);
});
