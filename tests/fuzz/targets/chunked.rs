//! Content in chunks: the same however it is cut up, and the same again once it is written.
#![no_main]

use bytes::{BufMut as _, BytesMut};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use outrider_fuzz::LIMITS;
use outrider_fuzz::h1::chunked::{Chunked, Part};
use outrider_fuzz::h1::encode;

/// Data, whether and with what it ended, and what was left over.
type Decoded = Option<(Vec<u8>, Option<Option<HeaderMap>>, usize)>;

fn decode(bytes: &[u8], piece: usize) -> Decoded {
    let (mut chunked, mut input, mut data) = (Chunked::new(LIMITS), BytesMut::new(), Vec::new());
    for (index, part) in bytes.chunks(piece).enumerate() {
        input.extend_from_slice(part);
        loop {
            match chunked.next(&mut input).ok()? {
                Part::More => break,
                Part::Data(more) => data.extend_from_slice(&more),
                Part::End(trailers) => {
                    let given = (index * piece + part.len()).min(bytes.len());
                    return Some((data, Some(trailers), given - input.len()));
                }
            }
        }
    }
    Some((data, None, bytes.len()))
}

fuzz_target!(|bytes: &[u8]| {
    let whole = decode(bytes, bytes.len().max(1));
    assert_eq!(whole, decode(bytes, 1));
    let Some((data, Some(trailers), _)) = whole else { return };
    let mut out = BytesMut::new();
    if !data.is_empty() {
        encode::chunk_size(&mut out, data.len());
        out.put_slice(&data);
        out.put_slice(b"\r\n");
    }
    encode::last_chunk(&mut out, trailers.as_ref());
    let length = out.len();
    assert_eq!(decode(&out, length), Some((data, Some(trailers), length)));
});
