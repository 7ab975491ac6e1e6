//! Sentences about first bytes: what they tell, that more of them change nothing, and that nothing is held without bound.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::judge::{BYTES_MAX, Judge, Verdict};
use super::watch::{Passing, watch};

fn judge(bytes: &[u8]) -> Verdict {
    Judge::default().see(bytes)
}

/// What the bytes are judged to be once so many of them have come that anything is said, and after how many.
fn told(bytes: &[u8]) -> (Verdict, usize) {
    let sure = (0..=bytes.len()).find(|&length| judge(&bytes[..length]) != Verdict::More);
    let length = sure.unwrap_or(bytes.len());
    (judge(&bytes[..length]), length)
}

fn verdict(bytes: &[u8]) -> Verdict {
    told(bytes).0
}

#[test]
fn a_request_is_told_by_its_first_line_whatever_its_method_and_target() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "POST /a?b=c HTTP/1.0\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a.test:80 HTTP/1.1\r\n",
        "GET http://a.test/ HTTP/1.1\r\n",
        "M-SEARCH / HTTP/1.1\r\n",
        "anything /a HTTP/1.1\r\n",
        "PRI * HTTP/1.1\r\n",
    ] {
        // Sure at the end of the line, and not before.
        let end = line.find(['\r', '\n']).unwrap() + 1;
        assert_eq!(told(line.as_bytes()), (Verdict::Http1, end), "{line:?}");
    }
}

#[test]
fn what_a_lenient_reader_takes_for_a_request_is_one() {
    for line in [
        "\r\nGET / HTTP/1.1\r\n",
        "\n\n  GET / HTTP/1.1\r\n",
        "GET  /  HTTP/1.1\r\n",
        "GET\t/\tHTTP/1.1\r\n",
        "GET\x0b/\x0cHTTP/1.1\n",
        "GET / HTTP/1.1 \r\n",
        "GET / http/1.1\r\n",
        "GET /a b HTTP/1.1\r\n",
        "GET / HTTP/1.1\rHost: a\r\r",
        "GET /a\rb HTTP/1.1\r\n",
        "GET / HTTP/9.9\r\n",
    ] {
        assert_eq!(verdict(line.as_bytes()), Verdict::Http1, "{line:?}");
    }
    assert_eq!(verdict(b"GET\x1c/\x1fHTTP/1.1\n"), Verdict::Http1);
    assert_eq!(verdict(b"GET\xa0/\x85HTTP/1.1\n"), Verdict::Http1);
    assert_eq!(verdict("GET /\u{e9}t\u{e9} HTTP/1.1\r\n".as_bytes()), Verdict::Http1);
}

#[test]
fn http2_is_told_by_its_whole_preface() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(told(preface), (Verdict::Http2, 24));
    assert_eq!(judge(&preface[..23]), Verdict::More);
    assert_eq!(verdict(b"PRI * HTTP/2.0\r\n\r\nXX"), Verdict::Http1, "a request, and a bad one");
}

#[test]
fn what_is_not_http_is_told_as_soon_as_it_cannot_be() {
    for (bytes, sure) in [
        (&b"\x16\x03\x01\x02\x00"[..], 1),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", 1),
        (b"{\"a\": 1}", 1),
        (b"<34>1 2026", 1),
        (b"?\x00\x00\x00", 1),
        (b"A\x00", 2),
        (b"*1\r\n$4\r\nPING\r\n", 4),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 21),
        (b"SSH-2.0-OpenSSH_9.9 Debian\n", 27),
        (b"PING\r\n", 6),
        (b"GET key\r\n", 9),
        (b"GET /key\r\n", 10),
        (b"get a b c\r\n", 11),
        (b"CONNECT {\"verbose\":false}\r\n", 27),
        (b"HELO mail.test\r\n", 16),
        (b"OPTIONS rtsp://a.test RTSP/1.0\r\n", 32),
        (b"INVITE sip:a@a.test SIP/2.0\r\n", 29),
        (b"10.0.0.1 - - [x] \"GET / HTTP/1.1\" 200\n", 38),
        (b"HTTP/1.1 200 OK\r\n", 5),
        (b"GET / \x01", 7),
    ] {
        assert_eq!(told(bytes), (Verdict::Opaque, sure), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_first_line_without_an_end_is_http_at_the_bound() {
    for start in ["GET /", "", "\r\n"] {
        let mut bytes = start.as_bytes().to_vec();
        bytes.resize(BYTES_MAX - 1, b'a');
        assert_eq!(judge(&bytes), Verdict::More);
        bytes.push(b'a');
        assert_eq!(judge(&bytes), Verdict::Http1);
        bytes.extend_from_slice(b"\r\n");
        assert_eq!(judge(&bytes), Verdict::Http1, "what comes past the bound changes nothing");
    }
}

#[test]
fn a_watch_ends_both_directions_before_the_app_has_a_whole_line() {
    let port: Arc<str> = "shop/a:80".into();
    let (mut to_app, from_app) = watch(&port);
    let context = &mut Context::from_waker(Waker::noop());
    let request = b"GET /admin HTTP/1.1\r\nX: y\r\n\r\n";
    let mut passed = 0;
    for byte in request {
        match to_app.see(&[*byte]) {
            Passing::Watched => passed += 1,
            Passing::Free => panic!("it is HTTP"),
            Passing::Refused => break,
        }
        assert_eq!(from_app.poll(context), Poll::Pending);
    }
    assert_eq!(&request[..passed], b"GET /admin HTTP/1.1");
    assert_eq!(from_app.poll(context), Poll::Ready(port));
}

/// Bytes that look like something more often than random ones do.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(&b"GET"[..]),
        Just(&b" "[..]),
        Just(&b"/"[..]),
        Just(&b"HTTP/1.1"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"\n"[..]),
        Just(&b"PRI * HTTP/2.0\r\n\r\n"[..]),
        Just(&b"SM\r\n\r\n"[..]),
        Just(&b"\t"[..]),
        Just(&b"\x00"[..]),
        Just(&b"\x85"[..]),
    ];
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    let part = prop_oneof![8 => piece.prop_map(<[u8]>::to_vec), 1 => noise];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_verdict_never_changes_when_more_bytes_come(bytes in stream(), more in stream()) {
        let before = judge(&bytes);
        if before != Verdict::More {
            prop_assert_eq!(judge(&[bytes, more].concat()), before);
        }
    }

    #[test]
    fn every_way_of_cutting_a_stream_into_pieces_decides_alike(bytes in stream(), cuts in prop::collection::vec(0_usize..80, 0..8)) {
        let (mut watched, _) = watch(&"a/b:1".into());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|at| at.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
        let ended = pieces.map(|piece| watched.see(piece)).find(|passing| *passing != Passing::Watched);
        let expected = match verdict(&bytes) {
            Verdict::More => None,
            Verdict::Opaque => Some(Passing::Free),
            Verdict::Http1 | Verdict::Http2 => Some(Passing::Refused),
        };
        prop_assert_eq!(ended, expected);
    }

    #[test]
    fn no_more_than_the_bound_is_ever_waited_for(mut bytes in prop::collection::vec(any::<u8>(), 0..64), filler in any::<u8>()) {
        bytes.resize(BYTES_MAX, filler);
        prop_assert_ne!(judge(&bytes), Verdict::More);
    }
}
