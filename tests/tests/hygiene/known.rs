//! Cases that do not end as they must yet, each with the reason. One that does must leave the list.

/// `table, way: name`, and why.
pub const KNOWN: &[(&str, &str)] = &[
    ("requests, mesh: a space after the size", BAD_SPACE),
    ("requests, edge: a space after the size", BAD_SPACE),
    ("requests, mesh: a tab after the size", BAD_SPACE),
    ("requests, edge: a tab after the size", BAD_SPACE),
    ("requests, mesh: two sizes in a line", BAD_SPACE),
    ("requests, edge: two sizes in a line", BAD_SPACE),
    ("requests, mesh: a name of the mesh in the trailers", TRAILERS),
    ("requests, edge: a name of the mesh in the trailers", TRAILERS),
    ("requests, mesh: a method of 10,000 letters", METHOD),
    ("requests, edge: a method of 10,000 letters", METHOD),
    ("requests, mesh: an expectation beside another line of it", EXPECT),
    ("requests, edge: an expectation beside another line of it", EXPECT),
    ("requests, mesh: absolute form with a query alone", QUERY),
    ("requests, edge: absolute form with a query alone", QUERY),
    ("requests, edge: absolute form with a port past 65,535", PORT),
    ("requests, mesh: Host with a port that is no number", PORT),
    ("requests, edge: Host with a port that is no number", PORT),
    ("requests, edge: Host with a port past 65,535", PORT),
    ("requests, mesh: Host with a negative port", PORT),
    ("requests, edge: Host with a negative port", PORT),
    ("requests, edge: Host of a port alone", PORT),
];

const BAD_SPACE: &str = "white space after a chunk's size is read as an extension without its semicolon";
const TRAILERS: &str = "the mesh's own names are stripped from heads, and not from a request's trailers";
const METHOD: &str = "a method is bounded by the head alone";
const EXPECT: &str = "of several lines of Expect the first is looked at";
const QUERY: &str = "the target that is forwarded begins with the query, without a slash";
const PORT: &str = "a port in an authority is any text, and a host may be empty";
