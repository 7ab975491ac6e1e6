//! The machines by example: what each refusal is provoked by, and that what is well-formed passes whole.

use bytes::{Bytes, BytesMut};
use http::Method;
use proptest::prelude::*;

use super::chunked::{Chunked, Part};
use super::encode::{self, Encoding};
use super::framing::Framing;
use super::head::{self, Version};
use super::malformed::Malformed;
use super::scan::{Limits, Scanner};

const LIMITS: Limits = Limits { head_bytes: 4096, fields: 8, target_bytes: 256 };

type Head<T> = Result<(T, head::Shape), Malformed>;

/// Scans `bytes` in pieces of `piece`, then parses.
fn read<T>(
    mut scanner: Scanner,
    bytes: &[u8],
    piece: usize,
    parse: impl Fn(&Bytes) -> Head<T>,
) -> Result<Option<(T, head::Shape)>, Malformed> {
    for end in (0..bytes.len()).step_by(piece).map(|start| (start + piece).min(bytes.len())) {
        if let Some(length) = scanner.scan(&bytes[..end], &LIMITS)? {
            return parse(&Bytes::copy_from_slice(&bytes[..length])).map(Some);
        }
    }
    Ok(None)
}

/// The same in one piece and byte by byte: both must say the same.
fn request(bytes: &[u8]) -> Result<Option<(http::Request<()>, head::Shape)>, Malformed> {
    let parse = |head: &Bytes| head::request(head, &LIMITS);
    let whole = read(Scanner::of_request(), bytes, bytes.len(), parse);
    let pieces = read(Scanner::of_request(), bytes, 1, parse);
    assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    whole
}

fn answer(method: &Method, bytes: &[u8]) -> Result<Option<(http::Response<()>, head::Shape)>, Malformed> {
    read(Scanner::of_answer(), bytes, bytes.len(), |head| head::answer(head, method, &LIMITS))
}

#[track_caller]
fn refused(bytes: &str) -> Malformed {
    request(bytes.as_bytes()).expect_err("it is malformed")
}

#[track_caller]
fn taken(bytes: &str) -> (http::Request<()>, head::Shape) {
    request(bytes.as_bytes()).expect("it is well-formed").expect("it is whole")
}

fn with(fields: &str) -> String {
    format!("POST /a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_head_says_what_it_says() {
    let (head, shape) = taken(
        "POST /a/b?c=%20d HTTP/1.1\r\nHost: orders:80\r\nContent-Length: 12\r\nX-Two: \t two words \t\r\n\r\n",
    );
    assert_eq!((head.method(), head.uri().to_string().as_str()), (&Method::POST, "/a/b?c=%20d"));
    assert_eq!(head.headers()["x-two"], "two words");
    assert_eq!((shape.framing, shape.keep_alive), (Framing::Length(12), true));
    assert_eq!(taken(&with("Transfer-Encoding: Chunked\r\n")).1.framing, Framing::Chunked);
    assert!(!taken(&with("Connection: foo, Close\r\n")).1.keep_alive);
    assert!(!taken("GET / HTTP/1.0\r\n\r\n").1.keep_alive, "HTTP/1.0 closes unless it says otherwise");
    assert!(taken("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").1.keep_alive);
    assert!(taken(&with("Content-Length: 1\r\nExpect: 100-Continue\r\n")).1.expects_continue);
    assert!(!taken(&with("Expect: 100-continue\r\n")).1.expects_continue, "there is no content to wait for");
    assert_eq!(taken("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").1.framing, Framing::Tunnel);
    assert_eq!(taken("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").0.uri(), "*");
    assert_eq!(taken("GET http://b?c HTTP/1.1\r\nHost: a\r\n\r\n").0.uri(), "http://b/?c");
    assert_eq!(taken("GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n").0.uri().host(), Some("b"));
}

#[test]
fn what_could_be_taken_for_two_things_is_refused() {
    use Malformed::*;
    for (expected, bytes) in [
        (LengthAndEncoding, with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")),
        (TwoContentLengths, with("Content-Length: 1\r\nContent-Length: 2\r\n")),
        (TwoContentLengths, with("Content-Length: 1\r\nContent-Length: 1\r\n")),
        (TwoContentLengths, with("Content-Length: 1, 1\r\n")),
        (ContentLength, with("Content-Length: +1\r\n")),
        (ContentLength, with("Content-Length: -1\r\n")),
        (ContentLength, with("Content-Length: 0x1\r\n")),
        (ContentLength, with("Content-Length:\r\n")),
        (ContentLength, with("Content-Length: 1 2\r\n")),
        (ContentLength, with("Content-Length: 99999999999999999999\r\n")),
        (TransferEncoding, with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        (TransferEncoding, with("Transfer-Encoding: chunked, chunked\r\n")),
        (TransferEncoding, with("Transfer-Encoding: xchunked\r\n")),
        (TransferEncoding, with("Transfer-Encoding: identity\r\n")),
        (TransferEncoding, with("Transfer-Encoding: chunked, gzip\r\n")),
        (UnknownCoding, with("Transfer-Encoding: gzip, chunked\r\n")),
        (FieldValue, with("Transfer-Encoding: \x0bchunked\r\n")),
        (EncodingInHttp10, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        (ObsFold, with("X: a\r\n b\r\n")),
        (ObsFold, "GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned()),
        (SpaceBeforeColon, with("Content-Length : 1\r\n")),
        (SpaceBeforeColon, with("X\t: 1\r\n")),
        (FieldName, with(": 1\r\n")),
        (FieldName, with("X(: 1\r\n")),
        (FieldName, with("X Y: 1\r\n")),
        (NoColon, with("X\r\n")),
        (FieldValue, with("X: a\0b\r\n")),
        (FieldValue, with("X: a\x7fb\r\n")),
        (BareCarriageReturn, with("X: a\rb\r\n")),
        (BareLineFeed, with("X: a\nY: b\r\n")),
        (BareLineFeed, "GET / HTTP/1.1\nHost: a\r\n\r\n".to_owned()),
        (BareLineFeed, "GET / HTTP/1.1\r\nHost: a\r\n\n".to_owned()),
        (TwoHosts, with("Host: b\r\n")),
        (NoHost, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (Content, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned()),
        (Content, "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n".to_owned()),
        (Expectation, with("Expect: 200-ok\r\n")),
        (Expectation, with("Expect: 100-continue\r\nExpect: 200-ok\r\n")),
    ] {
        assert_eq!(refused(&bytes), expected, "{bytes:?}");
    }
}

#[test]
fn a_request_line_has_one_form() {
    use Malformed::*;
    for (expected, line) in [
        (RequestLine, "GET /"),
        (RequestLine, "GET  / HTTP/1.1"),
        (RequestLine, "GET / HTTP/1.1 "),
        (RequestLine, "GET\t/\tHTTP/1.1"),
        (RequestLine, "GET / http/1.1"),
        (RequestLine, "GET / HTTP/1.10"),
        (Version, "GET / HTTP/1.2"),
        (Version, "GET / HTTP/2.0"),
        (Version, "GET / HTTP/0.9"),
        (Method, " / HTTP/1.1"),
        (Method, "G(T / HTTP/1.1"),
        (Target, "GET a HTTP/1.1"),
        (Target, "GET * HTTP/1.1"),
        (Target, "GET /a#b HTTP/1.1"),
        (Target, "GET /\u{e9} HTTP/1.1"),
        (Target, "GET /\x01 HTTP/1.1"),
        (Target, "GET ftp://a/ HTTP/1.1"),
        (Target, "GET http:///a HTTP/1.1"),
        (Target, "GET http://me@a/ HTTP/1.1"),
        (Target, "CONNECT a HTTP/1.1"),
        (Target, "CONNECT /a HTTP/1.1"),
        (Target, "CONNECT me@a:1 HTTP/1.1"),
    ] {
        assert_eq!(refused(&format!("{line}\r\nHost: a\r\n\r\n")), expected, "{line:?}");
    }
}

#[test]
fn what_is_no_http_is_refused_at_its_first_bytes() {
    assert_eq!(request(b"\x16\x03\x01\x02").unwrap_err(), Malformed::RequestLine);
    assert_eq!(answer(&Method::GET, b"SSH-2.0-").unwrap_err(), Malformed::StatusLine);
    assert!(answer(&Method::GET, b"HTT").unwrap().is_none(), "more may come");
}

#[test]
fn a_head_is_bounded_in_bytes_fields_and_target() {
    assert_eq!(refused(&with(&"x: y\r\n".repeat(8))), Malformed::TooManyFields { limit: 8 });
    assert!(request(with(&"x: y\r\n".repeat(7)).as_bytes()).is_ok());
    let long = "x".repeat(5000);
    assert_eq!(refused(&with(&format!("x: {long}\r\n"))), Malformed::HeadTooLarge { limit: 4096 });
    assert_eq!(refused(&format!("GET /{long}")), Malformed::TargetTooLong { limit: 256 }, "before its end");
    let long = "x".repeat(256);
    assert_eq!(
        refused(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
        Malformed::TargetTooLong { limit: 256 }
    );
}

#[test]
fn an_answer_ends_where_its_status_method_and_fields_say() {
    let framing = |method: Method, bytes: &str| {
        answer(&method, bytes.as_bytes()).map(|whole| whole.expect("it is whole").1.framing)
    };
    assert_eq!(framing(Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), Ok(Framing::Length(3)));
    assert_eq!(framing(Method::GET, "HTTP/1.1 200\r\n\r\n"), Ok(Framing::UntilClose));
    assert_eq!(framing(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), Ok(Framing::None));
    for status in ["204 No Content", "304 Not Modified", "103 Early Hints"] {
        let bytes = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(framing(Method::GET, &bytes), Ok(Framing::None), "{status}");
    }
    assert_eq!(framing(Method::GET, "HTTP/1.1 101 \r\n\r\n"), Ok(Framing::Tunnel));
    assert_eq!(framing(Method::CONNECT, "HTTP/1.1 200 OK\r\n\r\n"), Ok(Framing::Tunnel));
    for bad in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1  200 OK",
        "HTTP/2 200 OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1 200 O\x01K",
    ] {
        assert_eq!(framing(Method::GET, &format!("{bad}\r\n\r\n")), Err(Malformed::StatusLine), "{bad:?}");
    }
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(framing(Method::GET, both), Err(Malformed::LengthAndEncoding));
    assert_eq!(framing(Method::HEAD, both), Err(Malformed::LengthAndEncoding), "even without content");
}

/// Data, the end with its trailers where it has come, and how many bytes that took.
type Decoded = (Vec<u8>, Option<Option<http::HeaderMap>>, usize);

/// All data, and how it ended; `piece` bytes at a time.
fn decode(bytes: &[u8], piece: usize) -> Result<Decoded, Malformed> {
    let mut chunked = Chunked::new(LIMITS);
    let (mut input, mut data) = (BytesMut::new(), Vec::new());
    let mut given = 0;
    for part in bytes.chunks(piece) {
        input.extend_from_slice(part);
        given += part.len();
        loop {
            match chunked.next(&mut input)? {
                Part::More => break,
                Part::Data(more) => data.extend_from_slice(&more),
                Part::End(trailers) => return Ok((data, Some(trailers), given - input.len())),
            }
        }
    }
    Ok((data, None, given))
}

#[test]
fn chunks_are_taken_apart_and_the_rest_is_left_alone() {
    let bytes = b"3\r\nabc\r\nA;name=\"v\" ; x\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\n";
    for piece in [1, 2, 7, bytes.len()] {
        let (data, end, used) = decode(bytes, piece).unwrap();
        assert_eq!(data, b"abc0123456789");
        assert_eq!(end.unwrap().unwrap()["x-sum"], "1");
        if piece == 1 {
            assert_eq!(used, bytes.len() - "GET / HTTP/1.1\r\n".len());
        }
    }
    assert_eq!(decode(b"0\r\n\r\n", 1).unwrap(), (vec![], Some(None), 5));
    assert_eq!(decode(b"5\r\nab", 5).unwrap(), (b"ab".to_vec(), None, 5), "not yet at its end");
}

#[test]
fn a_chunk_that_could_be_read_in_two_ways_is_refused() {
    use Malformed::*;
    for (expected, bytes) in [
        (ChunkSize, "\r\n"),
        (ChunkSize, "-1\r\n"),
        (ChunkSize, "+1\r\n"),
        (ChunkSize, "0x1\r\n"),
        (ChunkSize, "g\r\n"),
        (ChunkSize, "1000000000000000\r\n"),
        (ChunkSize, " 1\r\n"),
        (ChunkSize, "1 \r\na\r\n"),
        (ChunkSize, "1\t1\r\n"),
        (BareLineFeed, "1\na\r\n"),
        (BareLineFeed, "1;a\na\r\n"),
        (BareCarriageReturn, "1\ra\r\n"),
        (ChunkExtension, "1;a\0\r\n"),
        (ChunkEnd, "1\r\nab\r\n"),
        (ChunkEnd, "1\r\na\n"),
        (ChunkEnd, "1\r\na\r\r\n"),
        (TrailerField, "0\r\nContent-Length: 1\r\n\r\n"),
        (TrailerField, "0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (TrailerField, "0\r\nHost: a\r\n\r\n"),
        (ObsFold, "0\r\nX: a\r\n b\r\n\r\n"),
        (SpaceBeforeColon, "0\r\nX : a\r\n\r\n"),
        (BareLineFeed, "0\r\n\n"),
    ] {
        for piece in [1, bytes.len()] {
            assert_eq!(decode(bytes.as_bytes(), piece).unwrap_err(), expected, "{bytes:?}");
        }
    }
    let long = format!("1;{}\r\na\r\n", "x".repeat(5000));
    assert_eq!(decode(long.as_bytes(), 100).unwrap_err(), ChunkExtension, "it is bounded");
}

#[test]
fn every_reason_has_a_label_of_its_own_and_a_status_of_an_error() {
    let limit = 1;
    let all = [
        Malformed::RequestLine,
        Malformed::Method,
        Malformed::Target,
        Malformed::TargetTooLong { limit },
        Malformed::Version,
        Malformed::StatusLine,
        Malformed::HeadTooLarge { limit },
        Malformed::TooManyFields { limit },
        Malformed::BareLineFeed,
        Malformed::BareCarriageReturn,
        Malformed::ObsFold,
        Malformed::SpaceBeforeColon,
        Malformed::FieldName,
        Malformed::FieldValue,
        Malformed::NoColon,
        Malformed::NoHost,
        Malformed::TwoHosts,
        Malformed::ContentLength,
        Malformed::TwoContentLengths,
        Malformed::LengthAndEncoding,
        Malformed::TransferEncoding,
        Malformed::UnknownCoding,
        Malformed::EncodingInHttp10,
        Malformed::Content,
        Malformed::ChunkSize,
        Malformed::ChunkExtension,
        Malformed::ChunkEnd,
        Malformed::TrailerField,
        Malformed::Expectation,
        Malformed::TooSlow { limit: std::time::Duration::ZERO },
        Malformed::Interim,
    ];
    let labels: std::collections::HashSet<_> = all.iter().map(|malformed| malformed.label()).collect();
    assert_eq!(labels.len(), all.len());
}

fn field() -> impl Strategy<Value = (String, String)> {
    ("x-[a-z0-9]{1,12}", "[!-~]([ -~]{0,20}[!-~])?")
}

proptest! {
    /// What is written is read as the same, whatever is in it.
    #[test]
    fn a_written_request_is_read_as_it_was(
        path in "/[a-zA-Z0-9/_.-]{0,40}", fields in proptest::collection::vec(field(), 0..6), length in 0_u64..1 << 40,
    ) {
        let mut head = http::Request::post(path.as_str()).header("host", "a");
        if length > 0 {
            head = head.header("content-length", length);
        }
        for (name, value) in &fields {
            head = head.header(name, value);
        }
        let head = head.body(()).unwrap();
        let mut out = BytesMut::new();
        encode::request(&mut out, &head, if length > 0 { Encoding::Length(length) } else { Encoding::None });
        let (read, shape) = request(&out).unwrap().unwrap();
        prop_assert_eq!(read.uri(), head.uri());
        let mut expected = head.headers().clone();
        if length == 0 {
            expected.insert("content-length", 0.into());
        }
        prop_assert_eq!(read.headers(), &expected);
        prop_assert_eq!(shape.framing, if length > 0 { Framing::Length(length) } else { Framing::None });
        prop_assert_eq!(shape.version, Version::Http11);
    }

    /// Nothing panics, and no piecewise reading differs from the whole.
    #[test]
    fn whatever_comes_is_read_alike_in_pieces(bytes in "(GET|POST) [ -~\r\n\t]{0,80}\r\n\r\n") {
        let _ = request(bytes.as_bytes());
    }

    #[test]
    fn chunks_come_out_as_they_went_in(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 0..8), piece in 1_usize..64,
    ) {
        let mut out = BytesMut::new();
        for part in &parts {
            encode::chunk_size(&mut out, part.len());
            out.extend_from_slice(part);
            out.extend_from_slice(b"\r\n");
        }
        encode::last_chunk(&mut out, None);
        let (data, end, _) = decode(&out, piece).unwrap();
        prop_assert_eq!(data, parts.concat());
        prop_assert_eq!(end, Some(None));
    }

    #[test]
    fn chunked_content_of_any_bytes_never_panics(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'a'), Just(b';'), any::<u8>()], 0..200),
    ) {
        let whole = decode(&bytes, bytes.len().max(1));
        let pieces = decode(&bytes, 1);
        prop_assert_eq!(whole.map(|(data, end, _)| (data, end)), pieces.map(|(data, end, _)| (data, end)));
    }
}
