//! What is taken out of a message's fields, and what a route puts in.
//!
//! Everything works in place on the map; where there is nothing to do, one pass over the names finds that out without
//! allocating. Hop-by-hop fields go first, the mesh's own names second, a route's changes last, and what the sidecar
//! itself adds comes after all of them, so that no caller's `Connection` can name it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use outrider_shared::{names, route};
use smallvec::SmallVec;

#[cfg(test)]
mod tests;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Removes what concerns one connection only (RFC 9110, section 7.6.1): `Connection` and the fields it names,
/// `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding`, `Upgrade`, `HTTP2-Settings`, and of `TE` all but `trailers`,
/// which gRPC needs.
///
/// `Connection` may name any field, and what it names goes, with two exceptions: `Host` and `Content-Length` say to whom
/// a message goes and where it ends, and a caller must not make the two ends of a hop disagree about that.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    // Two lines of it are already more than anybody sends; more of them allocate.
    let connection: SmallVec<[HeaderValue; 2]> = headers.get_all(CONNECTION).iter().cloned().collect();
    let named = connection
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok());
    for name in named {
        let protected =
            [HOST, CONTENT_LENGTH, TE].iter().any(|kept| name.eq_ignore_ascii_case(kept.as_str()));
        if !protected {
            headers.remove(name);
        }
    }
    for name in [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, UPGRADE, HTTP2_SETTINGS] {
        headers.remove(name);
    }
    keep_only_trailers_of_te(headers);
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    // Standard names compare as numbers.
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

fn keep_only_trailers_of_te(headers: &mut HeaderMap) {
    let mut values = headers.get_all(TE).iter();
    let Some(first) = values.next() else { return };
    if values.next().is_none() && first.as_bytes() == b"trailers" {
        return;
    }
    let trailers = headers.get_all(TE).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Removes the names that belong to the mesh (`outrider-*`, `x-forwarded-client-cert`): an app, or a client outside, that
/// sends one is either confused or lying. For requests from them, and for answers and trailers on their way to them.
pub fn strip_reserved(headers: &mut HeaderMap) {
    if !headers.keys().any(is_reserved) {
        return;
    }
    let reserved: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| is_reserved(name)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with(names::header::PREFIX) || name == names::header::XFCC
}

/// A route's changes, checked and ready to apply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

/// Why a route's header change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    #[error("{name:?} is no header name")]
    Name { name: String },
    #[error("the value for {name:?} has a byte that no header value may have")]
    Value { name: String },
    #[error("{name:?} is the sidecar's own to set: it routes or frames the message")]
    Reserved { name: String },
}

impl Changes {
    pub fn compile(changes: &route::HeaderChanges) -> Result<Self, BadChange> {
        let pairs = |pairs: &[(String, String)]| {
            pairs
                .iter()
                .map(|(name, value)| {
                    let value =
                        HeaderValue::from_str(value).map_err(|_| BadChange::Value { name: name.clone() })?;
                    Ok((changeable(name)?, value))
                })
                .collect::<Result<Vec<_>, BadChange>>()
        };
        Ok(Self {
            set: pairs(&changes.set)?,
            add: pairs(&changes.add)?,
            remove: changes.remove.iter().map(|name| changeable(name)).collect::<Result<_, _>>()?,
        })
    }

    /// Set, then add, then remove. Names and values are shared, not copied; nothing allocates but the map's own growth.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn changeable(name: &str) -> Result<HeaderName, BadChange> {
    let parsed = name.parse::<HeaderName>().map_err(|_| BadChange::Name { name: name.to_owned() })?;
    let framing = [HOST, CONTENT_LENGTH, TRAILER].contains(&parsed);
    if framing || is_hop_by_hop(&parsed) || is_reserved(&parsed) {
        return Err(BadChange::Reserved { name: name.to_owned() });
    }
    Ok(parsed)
}
