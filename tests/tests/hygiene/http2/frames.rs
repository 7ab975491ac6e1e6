//! Frames that are malformed, or that come where they must not (RFC 9113, sections 4 to 6).

use outrider_tests::raw::http2::{block, data, flag, kind, reset, settings, window_update};

use super::{Fate, Peer, code, frame, is_served, ordinary};
use crate::known::KNOWN;
use crate::world::{Way, World};

/// What must become of the connection, or of its first stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// GOAWAY with this code, or with `PROTOCOL_ERROR`, which the codec says for most; or the end of the connection.
    Connection(u32),
    /// `RST_STREAM` of stream 1 with this code; or an error of the connection.
    Stream(u32),
    /// As if it had not come.
    Ignored,
}

struct Case {
    name: &'static str,
    right: Right,
    bytes: Vec<u8>,
}

fn case(name: &'static str, right: Right, bytes: impl Into<Vec<u8>>) -> Case {
    Case { name, right, bytes: bytes.into() }
}

#[expect(clippy::too_many_lines, reason = "one table, to be read in one piece")]
fn cases(id: &str) -> Vec<Case> {
    use Right::{Connection, Ignored, Stream};
    use code::{COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};
    let open = ordinary(1, id, false);
    let path = format!("/{id}");
    let fields = block(&super::ordinary_fields(&path));
    let with = |head: &[u8], rest: &[u8]| [head, rest].concat();
    let half = |rest: &[u8]| {
        let first = frame(kind::HEADERS, flag::END_STREAM, 1, &fields[..10]);
        with(&first, rest)
    };
    vec![
        case("DATA on stream 0", Connection(PROTOCOL_ERROR), data(0, b"x", false)),
        case("DATA on an idle stream", Connection(PROTOCOL_ERROR), data(1, b"x", false)),
        case(
            "DATA behind the end of the stream",
            Stream(STREAM_CLOSED),
            with(&ordinary(1, id, true), &data(1, b"x", false)),
        ),
        case("HEADERS on stream 0", Connection(PROTOCOL_ERROR), frame(kind::HEADERS, 5, 0, &fields)),
        case("HEADERS on an even stream", Connection(PROTOCOL_ERROR), frame(kind::HEADERS, 5, 2, &fields)),
        case(
            "a stream below one that was opened",
            Connection(PROTOCOL_ERROR),
            with(&ordinary(5, &format!("{id}-after"), true), &ordinary(3, id, true)),
        ),
        case(
            "padding longer than the frame",
            Connection(PROTOCOL_ERROR),
            with(&open, &frame(kind::DATA, flag::PADDED, 1, &[9, 0, 0])),
        ),
        case(
            "padding of a head longer than the frame",
            Connection(PROTOCOL_ERROR),
            frame(kind::HEADERS, 5 | flag::PADDED, 1, &[255, 0]),
        ),
        case(
            "a padded frame of no bytes",
            Connection(FRAME_SIZE_ERROR),
            with(&open, &frame(kind::DATA, flag::PADDED, 1, &[])),
        ),
        case("SETTINGS of 5 bytes", Connection(FRAME_SIZE_ERROR), frame(kind::SETTINGS, 0, 0, &[0; 5])),
        case("SETTINGS on a stream", Connection(PROTOCOL_ERROR), frame(kind::SETTINGS, 0, 1, &[])),
        case(
            "SETTINGS acknowledged with content",
            Connection(FRAME_SIZE_ERROR),
            frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]),
        ),
        case(
            "a window past 31 bits in SETTINGS",
            Connection(FLOW_CONTROL_ERROR),
            settings(&[(4, 0x8000_0000)]),
        ),
        case("a frame size below 16 KiB in SETTINGS", Connection(PROTOCOL_ERROR), settings(&[(5, 100)])),
        case(
            "a frame size past 24 bits in SETTINGS",
            Connection(PROTOCOL_ERROR),
            settings(&[(5, 0x0100_0000)]),
        ),
        case("push neither on nor off", Connection(PROTOCOL_ERROR), settings(&[(2, 2)])),
        case("a setting that nobody knows", Ignored, settings(&[(0x7777, 1)])),
        case("PING of 7 bytes", Connection(FRAME_SIZE_ERROR), frame(kind::PING, 0, 0, &[0; 7])),
        case("PING on a stream", Connection(PROTOCOL_ERROR), frame(kind::PING, 0, 1, &[0; 8])),
        case("PING acknowledged that nobody sent", Ignored, frame(kind::PING, flag::ACK, 0, &[7; 8])),
        case("RST_STREAM of an idle stream", Connection(PROTOCOL_ERROR), reset(1, 8)),
        case("RST_STREAM on stream 0", Connection(PROTOCOL_ERROR), reset(0, 8)),
        case(
            "RST_STREAM of 3 bytes",
            Connection(FRAME_SIZE_ERROR),
            with(&open, &frame(kind::RST_STREAM, 0, 1, &[0; 3])),
        ),
        case(
            "PRIORITY of 4 bytes",
            Stream(FRAME_SIZE_ERROR),
            with(&open, &frame(kind::PRIORITY, 0, 1, &[0; 4])),
        ),
        case("PRIORITY on stream 0", Connection(PROTOCOL_ERROR), frame(kind::PRIORITY, 0, 0, &[0; 5])),
        case("PRIORITY of an idle stream", Ignored, frame(kind::PRIORITY, 0, 99, &[0, 0, 0, 1, 7])),
        case("GOAWAY on a stream", Connection(PROTOCOL_ERROR), frame(kind::GOAWAY, 0, 1, &[0; 8])),
        case("GOAWAY of 7 bytes", Connection(FRAME_SIZE_ERROR), frame(kind::GOAWAY, 0, 0, &[0; 7])),
        case(
            "PUSH_PROMISE of a client",
            Connection(PROTOCOL_ERROR),
            with(&open, &frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])),
        ),
        case(
            "WINDOW_UPDATE of 3 bytes",
            Connection(FRAME_SIZE_ERROR),
            frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
        ),
        case("WINDOW_UPDATE by 0 of the connection", Connection(PROTOCOL_ERROR), window_update(0, 0)),
        case("WINDOW_UPDATE by 0 of a stream", Stream(PROTOCOL_ERROR), with(&open, &window_update(1, 0))),
        case("WINDOW_UPDATE of an idle stream", Connection(PROTOCOL_ERROR), window_update(1, 1)),
        case(
            "WINDOW_UPDATE past 31 bits of the connection",
            Connection(FLOW_CONTROL_ERROR),
            window_update(0, 0x7fff_ffff),
        ),
        case(
            "WINDOW_UPDATE past 31 bits of a stream",
            Stream(FLOW_CONTROL_ERROR),
            with(&open, &window_update(1, 0x7fff_ffff)),
        ),
        case(
            "a frame larger than SETTINGS allow",
            Connection(FRAME_SIZE_ERROR),
            with(&open, &data(1, &[0; 16_385], true)),
        ),
        case("a frame that nobody knows", Ignored, frame(0x77, 0xff, 0, b"anything")),
        case("CONTINUATION of nothing", Connection(PROTOCOL_ERROR), frame(kind::CONTINUATION, 4, 1, &fields)),
        case(
            "CONTINUATION of an ended head",
            Connection(PROTOCOL_ERROR),
            with(&open, &frame(kind::CONTINUATION, 4, 1, &fields)),
        ),
        case(
            "CONTINUATION of another stream",
            Connection(PROTOCOL_ERROR),
            half(&frame(kind::CONTINUATION, 4, 3, &fields[10..])),
        ),
        case("PING within a head", Connection(PROTOCOL_ERROR), half(&frame(kind::PING, 0, 0, &[0; 8]))),
        case("DATA within a head", Connection(PROTOCOL_ERROR), half(&data(1, b"x", false))),
        case(
            "a frame that nobody knows within a head",
            Connection(PROTOCOL_ERROR),
            half(&frame(0x77, 0, 0, &[])),
        ),
        case("a head in two frames", Ignored, half(&frame(kind::CONTINUATION, 4, 1, &fields[10..]))),
        case("an index of 0", Connection(COMPRESSION_ERROR), frame(kind::HEADERS, 5, 1, &[0x80])),
        case(
            "an index past the tables",
            Connection(COMPRESSION_ERROR),
            frame(kind::HEADERS, 5, 1, &[0xff, 0x80, 0x7f]),
        ),
        case(
            "an integer that does not end",
            Connection(COMPRESSION_ERROR),
            frame(kind::HEADERS, 5, 1, &[0xff; 20]),
        ),
        case(
            "a literal cut off",
            Connection(COMPRESSION_ERROR),
            frame(kind::HEADERS, 5, 1, &fields[..fields.len() - 3]),
        ),
        case(
            "a table larger than SETTINGS allow",
            Connection(COMPRESSION_ERROR),
            frame(kind::HEADERS, 5, 1, &[0x3f, 0xff, 0xff, 0x7f]),
        ),
        case(
            "a table's size behind a field",
            Connection(COMPRESSION_ERROR),
            frame(kind::HEADERS, 5, 1, &with(&fields, &[0x20])),
        ),
        case(
            "Huffman code with its end inside",
            Connection(COMPRESSION_ERROR),
            frame(kind::HEADERS, 5, 1, &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00]),
        ),
    ]
}

#[tokio::test]
async fn a_malformed_frame_ends_the_connection_or_its_stream_with_the_right_code() {
    let world = World::start().await;
    let address = world.at(Way::Edge);
    let mut lines = Vec::new();
    let count = cases("q0000-edge").len();
    for number in 0..count {
        let id = crate::world::names(number, Way::Edge).id;
        let case = cases(&id).swap_remove(number);
        let mut peer = Peer::connect(address, &[]).await;
        let _ = peer.send(&case.bytes).await;
        if case.right == Right::Ignored {
            let _ = peer.send(&ordinary(3, &format!("{id}-after"), true)).await;
        }
        let fate = match case.right {
            Right::Ignored => peer.fate(3).await,
            // Stream 1 may have been answered before what is wrong has come.
            Right::Connection(_) => loop {
                match peer.fate(1).await {
                    Fate::Answered(_) | Fate::Reset(_) => {}
                    fate => break fate,
                }
            },
            Right::Stream(_) => match peer.fate(1).await {
                Fate::Answered(200) => peer.fate(1).await,
                fate => fate,
            },
        };
        let right = match case.right {
            Right::Connection(code) => is_end(fate, code),
            Right::Stream(code) => fate == Fate::Reset(code) || is_end(fate, code),
            Right::Ignored => fate == Fate::Answered(200),
        };
        let after = is_served(address, &format!("{id}-after")).await;
        let name = format!("http2 frames: {}", case.name);
        if (right && after.is_ok()) == KNOWN.iter().any(|(known, _)| *known == name) {
            lines.push(format!("{name}: wanted {:?}, got {fate:?}, after it {after:?}", case.right));
        }
    }
    assert!(lines.is_empty(), "{} of {count}:\n{}", lines.len(), lines.join("\n"));
}

fn is_end(fate: Fate, code: u32) -> bool {
    [Fate::GoAway(code), Fate::GoAway(code::PROTOCOL_ERROR), Fate::Closed].contains(&fate)
}

#[tokio::test]
async fn what_is_no_preface_is_no_http2() {
    let world = World::start().await;
    let address = world.at(Way::Edge);
    for (number, preface) in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\n\r\n\r\nSM",
        b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let id = crate::world::names(number, Way::Edge).id;
        let mut peer = Peer::bare(address).await;
        let _ = peer.send(&[preface, &settings(&[]), &ordinary(1, &id, true)].concat()).await;
        let fate = peer.fate(1).await;
        assert!(matches!(fate, Fate::GoAway(_) | Fate::Closed), "{}: {fate:?}", preface.escape_ascii());
    }
    assert!(world.recorder.records().is_empty(), "nothing of it reached the app");
}
