//! Cases that do not end as they must yet, each with the reason. One that does must leave the list.

/// `table, way: name`, and why.
pub const KNOWN: &[(&str, &str)] = &[];
