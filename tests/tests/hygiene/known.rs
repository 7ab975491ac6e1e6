//! Cases that do not end as they must yet, each with the reason. One that does must leave the list.

/// `table, way: name`, and why.
pub const KNOWN: &[(&str, &str)] = &[
    ("http2, edge: an empty :scheme", SCHEME),
    ("http2, mesh: an empty :scheme", SCHEME),
    ("http2, edge: a :path of an asterisk with GET", PATH),
    ("http2, mesh: a :path of an asterisk with GET", PATH),
    ("http2, edge: a :path with a fragment", PATH),
    ("http2, mesh: a :path with a fragment", PATH),
    ("http2, edge: a :path above ASCII", PATH),
    ("http2, mesh: a :path above ASCII", PATH),
    ("http2, edge: host beside another :authority", HOST),
    ("http2, mesh: host beside another :authority", HOST),
    ("http2, edge: a value that begins with a space", SPACE),
    ("http2, mesh: a value that begins with a space", SPACE),
    ("http2, edge: a value that ends with a tab", SPACE),
    ("http2, mesh: a value that ends with a tab", SPACE),
    ("http2, edge: trailers with a pseudo-field", TRAILERS),
    ("http2, mesh: trailers with a pseudo-field", TRAILERS),
    ("http2, edge: trailers with a length", TRAILERS),
    ("http2, mesh: trailers with a length", TRAILERS),
];

const SCHEME: &str = "the codec takes an empty scheme for none";
const PATH: &str = "targets of HTTP/2 are judged by the codec alone, and those of HTTP/1.1 more strictly";
const HOST: &str = "of :authority and host the first is taken, without a look at the other";
const SPACE: &str = "the codec takes white space around a value";
const TRAILERS: &str = "trailers of HTTP/2 are passed on unjudged";
