//! The bytes of a case as a text that can be read, and what happens between them.
//!
//! Every byte is written out: line ends of the text itself mean nothing. `\r \n \t \0 \\ \{ \xHH` are bytes, and what
//! stands in braces is one of: a name that the case defines (`{id}`), `{70000*a}` for a repetition, `{fin}` (closes the
//! sending half), `{close}`, `{reset}`, `{pause}`, and `{await 100}` (until these bytes have come from the other side).

use std::time::Duration;

/// `{pause}`. Longer than everything else takes, so that what comes after it comes by itself; nothing relies on it.
pub const PAUSE: Duration = Duration::from_millis(60);

/// What one side of a connection does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Send(Vec<u8>),
    /// Closes the sending half.
    Fin,
    Close,
    Reset,
    Pause,
    /// Until these bytes have come.
    Await(Vec<u8>),
}

/// Reads a text; `names` are what braces stand for. A mistake in it is one of whoever wrote the case.
pub fn steps(text: &str, names: &[(&str, &str)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut sent = Vec::new();
    walk(text, names, &mut |piece| match piece {
        Piece::Bytes(bytes) => sent.extend_from_slice(bytes),
        Piece::Step(step) => {
            if !sent.is_empty() {
                steps.push(Step::Send(std::mem::take(&mut sent)));
            }
            steps.push(step);
        }
    });
    if !sent.is_empty() {
        steps.push(Step::Send(sent));
    }
    steps
}

/// Reads a text that is bytes alone.
pub fn bytes(text: &str, names: &[(&str, &str)]) -> Vec<u8> {
    let mut all = Vec::new();
    walk(text, names, &mut |piece| match piece {
        Piece::Bytes(bytes) => all.extend_from_slice(bytes),
        Piece::Step(step) => panic!("{text}: {step:?} is no byte"),
    });
    all
}

enum Piece<'a> {
    Bytes(&'a [u8]),
    Step(Step),
}

fn walk(text: &str, names: &[(&str, &str)], out: &mut dyn FnMut(Piece)) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '{']) {
        out(Piece::Bytes(&rest.as_bytes()[..at]));
        rest = &rest[at..];
        if rest.starts_with('\\') {
            let (byte, length) = escape(rest);
            out(Piece::Bytes(&[byte]));
            rest = &rest[length..];
        } else {
            let end = end_of_braces(rest);
            braces(&rest[1..end], names, out);
            rest = &rest[end + 1..];
        }
    }
    out(Piece::Bytes(rest.as_bytes()));
}

/// Repetitions may lie in each other.
fn end_of_braces(text: &str) -> usize {
    let mut depth = 0_u32;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    panic!("no end of the braces in {text}")
}

fn escape(text: &str) -> (u8, usize) {
    let byte = match text.as_bytes() {
        [_, b'r', ..] => b'\r',
        [_, b'n', ..] => b'\n',
        [_, b't', ..] => b'\t',
        [_, b'0', ..] => 0,
        [_, b'\\', ..] => b'\\',
        [_, b'{', ..] => b'{',
        [_, b'x', ..] => {
            let digits = text.get(2..4).unwrap_or_default();
            let byte = u8::from_str_radix(digits, 16);
            return (byte.unwrap_or_else(|_| panic!("no two hex digits in {text}")), 4);
        }
        _ => panic!("no escape: {text}"),
    };
    (byte, 2)
}

fn braces(word: &str, names: &[(&str, &str)], out: &mut dyn FnMut(Piece)) {
    if let Some((times, what)) = word.split_once('*') {
        let times = times.parse().unwrap_or_else(|_| panic!("{word}: no number"));
        out(Piece::Bytes(&bytes(what, names).repeat(times)));
        return;
    }
    if let Some(awaited) = word.strip_prefix("await ") {
        out(Piece::Step(Step::Await(awaited.as_bytes().to_vec())));
        return;
    }
    let step = match word {
        "fin" => Step::Fin,
        "close" => Step::Close,
        "reset" => Step::Reset,
        "pause" => Step::Pause,
        name => {
            let (_, text) = names
                .iter()
                .find(|(known, _)| *known == name)
                .unwrap_or_else(|| panic!("{word}: what is it?"));
            return walk(text, names, out);
        }
    };
    out(Piece::Step(step));
}
