//! Cases that do not end as they must yet, each with the reason. One that does must leave the list.

/// `table, way: name`, and why.
pub const KNOWN: &[(&str, &str)] = &[
    ("http2, edge: an empty :scheme", SCHEME),
    ("http2, mesh: an empty :scheme", SCHEME),
    ("http2, edge: a :path with a fragment", FRAGMENT),
    ("http2, mesh: a :path with a fragment", FRAGMENT),
    ("http2, edge: trailers with a pseudo-field", PSEUDO),
    ("http2, mesh: trailers with a pseudo-field", PSEUDO),
];

const SCHEME: &str = "the codec takes it for none, and a scheme decides nothing here";
const FRAGMENT: &str = "the codec cuts it off before anybody sees it: neither a rule nor the app does";
const PSEUDO: &str = "the codec drops it before anybody sees it: the app does not";
