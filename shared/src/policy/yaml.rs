//! YAML text as a tree in which every node knows its place.
//!
//! Documents are read into this tree first, and into typed records from there, since serde ends at the first mistake and
//! we report them all. The parser's own limits keep aliases and nesting from growing beyond the text that was read.

use std::io::Cursor;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, Spanned};

use super::files::DOCUMENTS_MAX;

/// Nesting of a document. Ours need 12; a status or a managed field copied from a cluster may need some more.
const DEPTH_MAX: usize = 48;
/// Nodes of one document, with what aliases expand to: a full megabyte of text has fewer.
const NODES_MAX: usize = 200_000;
/// Events that all aliases of one file may expand to.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// Where a node stands, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub line: u32,
    pub column: u32,
}

impl Mark {
    fn of(location: serde_saphyr::Location) -> Self {
        let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: clip(location.line()), column: clip(location.column()) }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub mark: Mark,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text; a key may occur twice.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// What it is, for "expected …, found …".
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value of the first `key` of a mapping.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(k, _)| k.text() == Some(key)).map(|(_, value)| value)
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Why a file, from some place on, is no YAML.
#[derive(Debug)]
pub(super) struct BadYaml {
    pub mark: Option<Mark>,
    pub message: String,
}

/// Every document of a file up to the first that cannot be read, empty ones left out, and why it ended there. `before`: how
/// many the files before it have.
pub(super) fn documents(text: &str, before: usize) -> (Vec<Node>, Option<BadYaml>) {
    let options = options();
    let mut reader = Cursor::new(text.as_bytes());
    let mut found = Vec::new();
    for document in serde_saphyr::read_with_options::<_, Node>(&mut reader, options) {
        match document {
            Ok(node) if before + found.len() < DOCUMENTS_MAX => found.push(node),
            Ok(node) => {
                let message = format!("too many documents: at most {DOCUMENTS_MAX} are read in all files");
                return (found, Some(BadYaml { mark: Some(node.mark), message }));
            }
            Err(error) => {
                let mark = error.location().map(Mark::of);
                return (found, Some(BadYaml { mark, message: message_of(&error) }));
            }
        }
    }
    (found, None)
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, flow_nesting_limit: DEPTH_MAX, max_nodes: NODES_MAX },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX },
        // Reported by us, all of them.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // `on` and `no` are words in here: a method or a header may be called so.
        strict_booleans: true,
        emit_comments: false,
        with_snippet: false,
    }
}

/// The parser's message without the place, which the report carries anyway.
fn message_of(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let text = text.lines().next().unwrap_or_default();
    let end = [" at line ", " (line "].iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    format!("this is no YAML: {}", text[..end].trim_end_matches(','))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { mark: Mark::of(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Integer(value.into()))
    }
    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }
    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }
    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Value::Map(map))
    }
}
