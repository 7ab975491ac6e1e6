//! What peers tell beside a request, and the head of an HTTP/2 request: whatever is taken has one spelling.
//!
//! Each line is a field: the first byte says which, the rest is its value.
#![no_main]

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use libfuzzer_sys::fuzz_target;
use outrider_fuzz::accept::http2;
use outrider_fuzz::accept::wire::{
    AHEAD, EXPLAIN, FORM, HOPS, HOPS_MAX, IS_AHEAD, REFUSED, TARGET, Told, never_reached_app, target, told,
};

fuzz_target!(|bytes: &[u8]| {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((kind, value)) = line.split_first() else { continue };
        match kind {
            b'm' => {
                let Ok(method) = Method::from_bytes(value) else { return };
                *request.method_mut() = method;
            }
            b'u' => {
                let Ok(uri) = value.try_into() else { return };
                *request.uri_mut() = uri;
            }
            _ => {
                let Ok(value) = HeaderValue::from_bytes(value) else { return };
                request.headers_mut().append(name(*kind), value);
            }
        }
    }
    let fields = request.headers();
    if let Ok(read) = told(fields) {
        told_has_one_spelling(fields, &read);
    }
    if let Some((service, port)) = fields.get(&TARGET).and_then(target) {
        let again =
            HeaderValue::try_from(format!("{service}:{port}")).expect("a service and a port are ASCII");
        assert_eq!(target(&again), Some((service, port)));
        assert_ne!(port, 0);
    }
    assert_eq!(
        never_reached_app(fields),
        fields.get(&REFUSED).is_some_and(|mark| mark == "never-reached-app" || mark == "shed")
    );
    let (head, ()) = request.into_parts();
    if http2::judge(&head).is_ok() {
        assert!(head.uri.path().bytes().all(|byte| byte.is_ascii_graphic()));
        if let (Some(authority), Some(host)) = (head.uri.authority(), head.headers.get(HOST)) {
            assert!(authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()));
        }
        let trimmed = |value: &HeaderValue| value.as_bytes().trim_ascii().len() == value.len();
        assert!(head.headers.values().all(trimmed));
    }
});

fn name(kind: u8) -> HeaderName {
    match kind {
        b't' => TARGET.clone(),
        b'f' => FORM.clone(),
        b'h' => HOPS.clone(),
        b'a' => AHEAD.clone(),
        b'r' => REFUSED.clone(),
        b'e' => EXPLAIN.clone(),
        b'H' => HOST,
        _ => HeaderName::from_static("x-other"),
    }
}

/// What is read, written as a sidecar writes it, is what stood there, and reads alike.
fn told_has_one_spelling(fields: &HeaderMap, read: &Told) {
    assert!(read.hops <= HOPS_MAX);
    let mut again = HeaderMap::new();
    again.insert(&TARGET, read.asked.clone());
    if let Some(form) = read.form {
        again.insert(&FORM, form.header());
    }
    if fields.contains_key(&HOPS) {
        again.insert(&HOPS, u16::from(read.hops).into());
    }
    if read.ahead {
        again.insert(&AHEAD, IS_AHEAD);
    }
    for name in [&TARGET, &FORM, &HOPS, &AHEAD] {
        assert!(fields.get_all(name).iter().eq(again.get_all(name)), "{name}");
    }
    if read.explain {
        again.insert(&EXPLAIN, HeaderValue::from_static("way"));
    }
    assert_eq!(told(&again).as_ref(), Ok(read));
}
