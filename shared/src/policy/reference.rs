//! The reference of all kinds, made from the doc comments of their records: `docs/reference/policy.md`.

use std::fmt::Write as _;

use super::check::kind::{Kind, NOT_BUILT};
use super::raw::{Raw, metadata::Metadata};

/// Records in the order in which they are met.
#[derive(Default)]
pub(super) struct Shapes {
    records: Vec<Shape>,
}

struct Shape {
    name: &'static str,
    doc: String,
    rows: Vec<Row>,
}

/// One field of a record.
pub(super) struct Row {
    pub key: &'static str,
    pub value: String,
    pub required: bool,
    pub doc: String,
}

impl Shapes {
    /// Adds a record, once, before those that its rows mention. Returns what refers to it.
    pub fn record(
        &mut self,
        name: &'static str,
        doc: String,
        rows: impl FnOnce(&mut Self) -> Vec<Row>,
    ) -> String {
        if !self.records.iter().any(|shape| shape.name == name) {
            let index = self.records.len();
            self.records.push(Shape { name, doc, rows: Vec::new() });
            self.records[index].rows = rows(self);
        }
        format!("[{name}](#{})", name.to_lowercase())
    }
}

/// The whole file, in Markdown.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    let mut shapes = Shapes::default();
    text.push_str("\n| kind | apiVersion | spec |\n|---|---|---|\n");
    for kind in Kind::ALL {
        let spec = kind.shape(&mut shapes);
        let _ = writeln!(text, "| `{}` | `{}` | {spec} |", kind.name(), kind.api_version());
    }
    let names: Vec<String> = NOT_BUILT.iter().map(|name| format!("`{name}`")).collect();
    let _ = writeln!(text, "\nNot built yet, and refused by name: {}.", names.join(", "));
    Metadata::shape(&mut shapes);
    for shape in &shapes.records {
        let _ = writeln!(text, "\n## {}\n\n{}\n", shape.name, shape.doc);
        text.push_str("| field | value | meaning |\n|---|---|---|\n");
        for Row { key, value, required, doc } in &shape.rows {
            let required = if *required { ", required" } else { "" };
            let (value, doc) = (value.replace('|', "\\|"), doc.replace('|', "\\|"));
            let _ = writeln!(text, "| `{key}` | {value}{required} | {doc} |");
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Policy reference

Generated from the source: change a field's doc comment there, not this file.

Policy is YAML, one or more documents in each `*.yaml` or `*.yml` file of one directory; directories inside it are not
read. `outrider policy validate DIR` checks it without a control plane. Every problem of every file is reported at once,
with file, line, column, field and what is accepted; a directory with a problem is refused as a whole.

- Every document has `apiVersion`, `kind`, `metadata` ([Metadata](#metadata)) and `spec`; a `status`, as a cluster writes it,
  is accepted and ignored.
- An unknown field is refused. A field, a value or a kind that is not built yet is refused by that name, never ignored.
- Every rule has an id, `Kind/name#rule`: the rule's name, or its index from 0. Answers, logs and traces quote it.
- Durations are Gateway API's (GEP-2257): `250ms`, `10s`, `1h30m`.
- Limits: 1 MiB for a file, 8 MiB and 10,000 documents for a directory.
";
