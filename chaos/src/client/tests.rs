use std::io::ErrorKind;

use super::parse;

#[test]
fn a_whole_answer_is_read_with_who_refused() {
    let bytes =
        b"HTTP/1.1 503 Service Unavailable\r\nProxy-Status: outrider; error=x\r\nContent-Length: 2\r\n\r\nno";
    let answer = parse(bytes).expect("whole");
    assert_eq!((answer.status, answer.body.as_slice()), (503, b"no".as_slice()));
    assert_eq!(answer.proxy_status.as_deref(), Some("outrider; error=x"));
}

#[test]
fn an_answer_that_broke_off_is_none() {
    for bytes in [
        b"".as_slice(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",
    ] {
        parse(bytes).expect_err("it broke off");
    }
    let cut = parse(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok").expect_err("it broke off");
    assert_eq!(cut.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn what_is_not_http_is_an_error() {
    for bytes in [
        b"SSH-2.0\r\n\r\n".as_slice(),
        b"HTTP/1.1 2\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok",
        b"\xff\xfe\r\n\r\n",
    ] {
        parse(bytes).expect_err("it is no answer");
    }
}

#[test]
fn a_chunked_answer_ends_with_its_last_chunk() {
    let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    assert_eq!(parse(bytes).expect("whole").status, 200);
}
