//! Reads `host[:port]` into the key of a service, without allocating.

use crate::pipeline::accept::wire::port;
use crate::pipeline::rejection::Rejection;

/// The longest host that DNS allows, in bytes (RFC 1035, section 2.3.4).
pub(super) const HOST_BYTES_MAX: usize = 255;

/// What a cluster's DNS appends to `name.namespace`.
const SUFFIXES: [&str; 2] = [".svc.cluster.local", ".svc"];

pub(super) struct Asked<'a> {
    /// `name` or `name.namespace`, lower-case.
    pub(super) service: &'a str,
    pub(super) port: Option<u16>,
}

/// Reads an authority; `buffer` holds the host in lower case.
pub(super) fn parse<'a>(
    authority: &str,
    buffer: &'a mut [u8; HOST_BYTES_MAX],
) -> Result<Asked<'a>, Rejection> {
    let (host, port) = match authority.split_once(':') {
        Some((host, "")) => (host, None),
        Some((host, given)) => match port(given) {
            Some(port) => (host, Some(port)),
            // An IPv6 literal, user information, or no port at all: none of them names a service.
            None => return Err(Rejection::unknown_host(authority)),
        },
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(Rejection::MalformedRequest { why: "it names no host" });
    }
    let lower = buffer.get_mut(..host.len()).ok_or_else(|| Rejection::unknown_host(authority))?;
    lower.copy_from_slice(host.as_bytes());
    lower.make_ascii_lowercase();
    let lower = std::str::from_utf8(lower).expect("the lower case of ASCII letters keeps UTF-8");
    // One dot at the end is the root, in DNS.
    let absolute = lower.strip_suffix('.').unwrap_or(lower);
    let service = SUFFIXES
        .iter()
        .find_map(|suffix| absolute.strip_suffix(suffix))
        // `orders.svc` is the service `orders` of a namespace `svc`, not a name without its namespace.
        .filter(|shorter| shorter.contains('.'))
        .unwrap_or(absolute);
    Ok(Asked { service, port })
}
