//! Heads, trailers and lengths that are malformed (RFC 9113, sections 8.1 to 8.5).

use outrider_tests::raw::http2::data;

use super::{Fate, Peer, code, headers, is_served, ordinary};
use crate::known::KNOWN;
use crate::world::{self, HOST, Way, World};
use outrider_tests::raw::message::Read;

/// What must become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// A stream error, or an answer with 400 to 499; nothing whole reaches the app.
    Malformed,
    Forwarded,
    /// Both are right.
    Either,
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// `GET` of the case, with these fields instead of the ordinary ones of the same name, and these added.
fn head(id: &str, replaced: &[(&str, Option<&[u8]>)], added: &[(&[u8], &[u8])]) -> Fields {
    let path = format!("/{id}");
    let mut fields: Fields = super::ordinary_fields(&path)
        .iter()
        .filter_map(|(name, value)| match replaced.iter().find(|(other, _)| other.as_bytes() == *name) {
            None => Some((name.to_vec(), value.to_vec())),
            Some((_, Some(value))) => Some((name.to_vec(), value.to_vec())),
            Some((_, None)) => None,
        })
        .collect();
    fields.extend(added.iter().map(|(name, value)| (name.to_vec(), value.to_vec())));
    fields.push((b"x-case".to_vec(), id.as_bytes().to_vec()));
    fields
}

type Frames = Box<dyn Fn(&str) -> Vec<u8>>;

struct Case {
    name: &'static str,
    right: Right,
    /// By the case's id.
    frames: Frames,
}

fn written(fields: &Fields, end: bool) -> Vec<u8> {
    let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    headers(1, &fields, end)
}

fn replaces(name: &'static str, right: Right, field: &'static str, value: Option<&'static [u8]>) -> Case {
    Case { name, right, frames: Box::new(move |id| written(&head(id, &[(field, value)], &[]), true)) }
}

fn adds(name: &'static str, right: Right, field: &'static [u8], value: &'static [u8]) -> Case {
    Case { name, right, frames: Box::new(move |id| written(&head(id, &[], &[(field, value)]), true)) }
}

fn path(name: &'static str, right: Right, end: &'static [u8]) -> Case {
    Case {
        name,
        right,
        frames: Box::new(move |id| {
            let path = [b"/", id.as_bytes(), end].concat();
            written(&head(id, &[(":path", Some(&path))], &[]), true)
        }),
    }
}

/// A POST with these fields, this content in one frame, and these trailers.
fn content(
    name: &'static str,
    right: Right,
    added: &'static [(&'static [u8], &'static [u8])],
    bytes: &'static [u8],
    trailers: Option<&'static [(&'static [u8], &'static [u8])]>,
) -> Case {
    Case {
        name,
        right,
        frames: Box::new(move |id| {
            let mut frames = written(&head(id, &[(":method", Some(b"POST"))], added), false);
            frames.extend(data(1, bytes, trailers.is_none()));
            if let Some(trailers) = trailers {
                frames.extend(headers(1, trailers, true));
            }
            frames
        }),
    }
}

#[expect(clippy::too_many_lines, reason = "one table, to be read in one piece")]
fn cases() -> Vec<Case> {
    use Right::{Either, Forwarded, Malformed};
    let mut cases = vec![
        replaces("no :method", Malformed, ":method", None),
        replaces("no :scheme", Malformed, ":scheme", None),
        replaces("no :path", Malformed, ":path", None),
        replaces("neither :authority nor host", Malformed, ":authority", None),
        replaces("an empty :method", Malformed, ":method", Some(b"")),
        replaces("a :method with a space", Malformed, ":method", Some(b"GET /x HTTP/1.1\r\n")),
        replaces("a :method with a NUL", Malformed, ":method", Some(b"GE\0T")),
        replaces("an empty :scheme", Malformed, ":scheme", Some(b"")),
        replaces("a :scheme with a slash", Malformed, ":scheme", Some(b"http://x/")),
        replaces("the :scheme of another protocol", Either, ":scheme", Some(b"ftp")),
        replaces("an empty :path", Malformed, ":path", Some(b"")),
        replaces("a :path without a slash", Malformed, ":path", Some(b"x")),
        replaces("a :path of an asterisk with GET", Malformed, ":path", Some(b"*")),
        replaces("a :path that is a URI", Malformed, ":path", Some(b"http://elsewhere/")),
        replaces("an empty :authority", Malformed, ":authority", Some(b"")),
        replaces(":authority with user information", Malformed, ":authority", Some(b"x@web.test:8080")),
        replaces(":authority with a path", Malformed, ":authority", Some(b"web.test:8080/x")),
        replaces(":authority with a space", Malformed, ":authority", Some(b"web.test: 8080")),
        replaces(":authority with a NUL", Malformed, ":authority", Some(b"web\0.test")),
        replaces(":authority with a CRLF", Malformed, ":authority", Some(b"web.test\r\nx-a: 1")),
        path("a :path with a space", Malformed, b" x"),
        path("a :path with a CRLF", Malformed, b" HTTP/1.1\r\nx-a: 1"),
        path("a :path with an LF", Malformed, b"\nx"),
        path("a :path with a NUL", Malformed, b"\0"),
        path("a :path with DEL", Malformed, b"\x7f"),
        path("a :path with a fragment", Malformed, b"#x"),
        path("a :path above ASCII", Malformed, b"\xc3\xa4"),
        path("a :path with an encoded NUL", Malformed, b"%00"),
        path("a :path above its root", Malformed, b"/../../x"),
        path("a :path with a query", Forwarded, b"?a=b"),
        adds(":method twice", Malformed, b":method", b"GET"),
        adds(":scheme twice", Malformed, b":scheme", b"http"),
        adds(":path twice", Malformed, b":path", b"/x"),
        adds(":authority twice", Malformed, b":authority", HOST.as_bytes()),
        adds(":status in a request", Malformed, b":status", b"200"),
        adds("a pseudo-field that nobody knows", Malformed, b":x", b"1"),
        adds("a field named by a colon", Malformed, b":", b"1"),
        adds(":protocol without CONNECT", Malformed, b":protocol", b"websocket"),
        adds("host beside an equal :authority", Forwarded, b"host", HOST.as_bytes()),
        adds("host beside another :authority", Malformed, b"host", b"elsewhere.test"),
        adds("a name in upper case", Malformed, b"X-A", b"1"),
        adds("a name with one upper-case letter", Malformed, b"x-A", b"1"),
        adds("an empty name", Malformed, b"", b"1"),
        adds("a name with a space", Malformed, b"x a", b"1"),
        adds("a name with a colon", Malformed, b"x:a", b"1"),
        adds("a name with a NUL", Malformed, b"x\0a", b"1"),
        adds("a name with a CRLF", Malformed, b"x: 1\r\ny", b"1"),
        adds("a name above ASCII", Malformed, b"x\xc3", b"1"),
        adds("a value with a NUL", Malformed, b"x-a", b"a\0b"),
        adds("a value with an LF", Malformed, b"x-a", b"a\nb: c"),
        adds("a value with a CR", Malformed, b"x-a", b"a\rb"),
        adds("a value with a request in it", Malformed, b"x-a", b"a\r\n\r\nGET /x HTTP/1.1\r\n\r\n"),
        adds("a value that begins with a space", Malformed, b"x-a", b" a"),
        adds("a value that ends with a tab", Malformed, b"x-a", b"a\t"),
        adds("a value above ASCII", Forwarded, b"x-a", b"a\xe4b"),
        adds("connection", Malformed, b"connection", b"close"),
        adds("connection that names a field", Malformed, b"connection", b"x-case"),
        adds("keep-alive", Malformed, b"keep-alive", b"timeout=5"),
        adds("proxy-connection", Malformed, b"proxy-connection", b"keep-alive"),
        adds("transfer-encoding", Malformed, b"transfer-encoding", b"chunked"),
        adds("transfer-encoding of nothing", Malformed, b"transfer-encoding", b""),
        adds("upgrade", Malformed, b"upgrade", b"h2c"),
        adds("te with more than trailers", Malformed, b"te", b"gzip"),
        adds("te with trailers and more", Malformed, b"te", b"trailers, gzip"),
        adds("te with trailers", Forwarded, b"te", b"trailers"),
        adds("a length without content", Malformed, b"content-length", b"5"),
        adds("a length of 0 without content", Forwarded, b"content-length", b"0"),
        adds("a length that is no number", Malformed, b"content-length", b"x"),
        adds("a length with a sign", Malformed, b"content-length", b"+0"),
        adds("a negative length", Malformed, b"content-length", b"-1"),
        adds("a length past 64 bits", Malformed, b"content-length", b"18446744073709551616"),
        content("content as long as its length", Forwarded, &[(b"content-length", b"5")], b"hello", None),
        content("content longer than its length", Malformed, &[(b"content-length", b"3")], b"hello", None),
        content("content shorter than its length", Malformed, &[(b"content-length", b"9")], b"hello", None),
        content(
            "two lengths that differ",
            Malformed,
            &[(b"content-length", b"5"), (b"content-length", b"6")],
            b"hello",
            None,
        ),
        content("content and trailers", Forwarded, &[], b"hello", Some(&[(b"x-t", b"1")])),
        content("trailers with a pseudo-field", Malformed, &[], b"hello", Some(&[(b":path", b"/x")])),
        content("trailers in upper case", Malformed, &[], b"hello", Some(&[(b"X-T", b"1")])),
        content("trailers with an LF", Malformed, &[], b"hello", Some(&[(b"x-t", b"a\nb")])),
        content("trailers with connection", Malformed, &[], b"hello", Some(&[(b"connection", b"close")])),
        content(
            "trailers with transfer-encoding",
            Malformed,
            &[],
            b"hello",
            Some(&[(b"transfer-encoding", b"chunked")]),
        ),
        content("trailers with a length", Malformed, &[], b"hello", Some(&[(b"content-length", b"50")])),
        content(
            "trailers and a shorter content than its length",
            Malformed,
            &[(b"content-length", b"9")],
            b"hello",
            Some(&[(b"x-t", b"1")]),
        ),
    ];
    cases.push(Case {
        name: "a pseudo-field behind the others",
        right: Malformed,
        frames: Box::new(|id| {
            let mut fields = head(id, &[(":path", None)], &[]);
            fields.push((b":path".to_vec(), format!("/{id}").into_bytes()));
            written(&fields, true)
        }),
    });
    cases.push(Case {
        name: "host without :authority",
        right: Forwarded,
        frames: Box::new(|id| {
            written(&head(id, &[(":authority", None)], &[(b"host", HOST.as_bytes())]), true)
        }),
    });
    cases.push(Case {
        name: "two hosts without :authority",
        right: Malformed,
        frames: Box::new(|id| {
            let hosts: [(&[u8], &[u8]); 2] = [(b"host", HOST.as_bytes()), (b"host", b"elsewhere.test")];
            written(&head(id, &[(":authority", None)], &hosts), true)
        }),
    });
    cases.push(Case {
        name: "CONNECT with a path",
        right: Malformed,
        frames: Box::new(|id| written(&head(id, &[(":method", Some(b"CONNECT"))], &[]), true)),
    });
    cases.push(Case {
        name: "CONNECT without :authority",
        right: Malformed,
        frames: Box::new(|id| {
            let replaced: [(&str, Option<&[u8]>); 4] =
                [(":method", Some(b"CONNECT")), (":authority", None), (":path", None), (":scheme", None)];
            written(&head(id, &replaced, &[]), true)
        }),
    });
    cases.push(Case {
        name: "trailers that do not end the stream",
        right: Malformed,
        frames: Box::new(|id| {
            let mut frames = written(&head(id, &[(":method", Some(b"POST"))], &[]), false);
            frames.extend(data(1, b"hello", false));
            frames.extend(headers(1, &[(b"x-t", b"1")], false));
            frames.extend(data(1, b"x", true));
            frames
        }),
    });
    cases
}

#[tokio::test]
async fn a_malformed_request_over_http2_ends_its_stream_and_reaches_no_app() {
    let world = World::start().await;
    let mut lines = Vec::new();
    for way in [Way::Edge, Way::Mesh] {
        judge(&world, way, &mut lines).await;
    }
    assert!(lines.is_empty(), "{}:\n{}", lines.len(), lines.join("\n"));
}

/// Adds a line for each case that does not end as it must.
async fn judge(world: &World, way: Way, lines: &mut Vec<String>) {
    let address = world.at(way);
    let cases = cases();
    let mut fates = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let id = world::names(number, way).id;
        let mut peer = Peer::connect(address, &[]).await;
        // It may be told so before all of it is out.
        let _ = peer.send(&(case.frames)(&id)).await;
        let fate = peer.fate(1).await;
        let after = match fate {
            // An error of the stream leaves the connection as it was.
            Fate::Answered(_) | Fate::Reset(_) => {
                let _ = peer.send(&ordinary(3, &format!("{id}-after"), true)).await;
                match peer.fate(3).await {
                    Fate::Answered(200) => Ok(()),
                    fate => Err(format!("{fate:?}")),
                }
            }
            Fate::GoAway(_) | Fate::Closed => is_served(address, &format!("{id}-after")).await,
        };
        fates.push((fate, after));
    }
    let mut records = world::by_id(&world.recorder);
    for (number, (case, (fate, after))) in cases.iter().zip(fates).enumerate() {
        let id = world::names(number, way).id;
        let of_it = records.remove(&id).unwrap_or_default();
        let bad = of_it.iter().any(|record| matches!(record.read, Read::Bad { .. }));
        let whole = of_it.iter().filter(|record| world::is_whole(record) && !world::is_after(record)).count();
        let refused = matches!(
            fate,
            Fate::Answered(400..=499)
                | Fate::Reset(code::PROTOCOL_ERROR)
                | Fate::GoAway(code::PROTOCOL_ERROR)
        ) && whole == 0;
        let forwarded = fate == Fate::Answered(200) && whole == 1;
        let right = match case.right {
            Right::Malformed => refused,
            Right::Forwarded => forwarded,
            Right::Either => refused || forwarded,
        } && !bad
            && after.is_ok();
        let name = format!("http2, {}: {}", way.name(), case.name);
        let known = KNOWN.iter().any(|(known, _)| *known == name);
        if right == known {
            let verdict = if right { "ends well now: strike it off the list" } else { "ends wrong" };
            lines.push(format!(
                "{name}: {verdict}: wanted {:?}, got {fate:?}, {whole} reached the app, bad {bad}, after it {after:?}",
                case.right
            ));
        }
    }
}
