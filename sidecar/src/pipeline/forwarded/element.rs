//! One element of `Forwarded` (RFC 7239, section 4), as far as it says for whom and how.

use std::net::IpAddr;

use super::{Entry, Scheme, address};

/// Splits at `separator` outside of quoted strings, as many parts as there are.
pub(super) fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// `None` where it names no address: it is hidden (`_x`), `unknown`, said twice, or not there.
pub(super) fn read(element: &str) -> Option<Entry> {
    let (mut found, mut scheme) = (None, None);
    for parameter in split(element, b';') {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        let name = name.trim();
        if name.eq_ignore_ascii_case("for") {
            if found.replace(address(value)?).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case("proto") {
            scheme = Scheme::parse(value);
        }
    }
    found.map(|address| Entry { address, scheme })
}

/// An IPv6 address stands in brackets and quotes (section 6).
pub(super) fn write(address: IpAddr, scheme: Option<Scheme>) -> String {
    let node = match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    };
    match scheme {
        Some(scheme) => format!("{node};proto={}", scheme.as_str()),
        None => node,
    }
}
