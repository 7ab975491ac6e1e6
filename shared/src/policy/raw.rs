//! Documents as typed records: what each field may be, said once, for the reader and for the reference.
//!
//! A record reads all its fields before it fails, so that one mistake hides no other. A broken optional field or list item
//! counts as absent once it is reported: nothing is in force anyway, and the checks behind it still see the rest.

use super::problem::Problem;
use super::reference::{Row, Shapes};
use super::yaml::{Mark, Node, Value};

#[macro_use]
mod define;
pub(super) mod authorization;
pub(super) mod mesh;
pub(super) mod metadata;
pub(super) mod route;
mod scalars;
pub(super) mod service;
pub(super) mod targets;
pub(super) mod telemetry;
pub(super) mod traffic;

pub(super) use scalars::{
    DurationWithin, Given, HttpCode, Ignored, Int, List, Located, NotBuilt, Pairs, Place, Ratio, Text,
};

/// Problems kept before they are sorted; ten times what is shown, so that no file hides those of the next. 10,000 take a few
/// megabytes.
pub(super) const COLLECTED_MAX: usize = 10 * super::problem::PROBLEMS_MAX;

/// Collects the problems of one file.
pub(super) struct Reader<'a> {
    pub file: &'a str,
    pub problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    /// Past [`COLLECTED_MAX`] it says nothing more: the policy is refused anyway.
    pub fn report(
        &mut self,
        mark: Mark,
        path: &str,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        if self.is_full() {
            return;
        }
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: mark.line,
            column: mark.column,
            path: path.to_owned(),
            message: message.into(),
            help: help.into(),
        });
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= COLLECTED_MAX
    }

    fn wrong_kind(&mut self, node: &Node, at: &str, expected: &str) {
        let found = node.kind();
        let message = format!("expected {expected}, found {found}");
        let quote = matches!(node.value, Value::Integer(_) | Value::Float(_) | Value::Bool(_))
            && expected.starts_with("a string");
        self.report(node.mark, at, message, quote.then(|| "quote it to make it a string".to_owned()));
    }
}

/// What can be read from a node.
pub(super) trait Raw: Sized {
    /// Whether leaving the key out is a problem.
    const REQUIRED: bool = true;

    /// `None`: refused, and why is reported.
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self>;

    /// What a missing key, or an explicit null, stands for. `None`: it is required.
    fn absent() -> Option<Self> {
        None
    }

    /// What the reference says in the column "value". A record adds itself to the reference.
    fn shape(shapes: &mut Shapes) -> String;
}

/// The entries of a mapping, while a record reads them.
struct Fields<'n> {
    at: String,
    mark: Mark,
    entries: &'n [(Node, Node)],
}

impl<'n> Fields<'n> {
    /// Refuses what is no mapping, keys that are not among `known`, and keys that occur twice.
    fn of(node: &'n Node, at: &str, known: &[&str], reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            reader.wrong_kind(node, at, "a mapping");
            return None;
        };
        let mut seen: Vec<&str> = Vec::with_capacity(entries.len().min(known.len()));
        for (key, _) in entries {
            let Some(name) = key.text() else {
                reader.wrong_kind(key, at, "a string as key");
                continue;
            };
            let path = join(at, name);
            if reader.is_full() {
                return None;
            }
            if !known.contains(&name) {
                let help = did_you_mean(name, known);
                reader.report(key.mark, &path, format!("unknown field `{}`", clip(name)), help);
            } else if seen.contains(&name) {
                reader.report(
                    key.mark,
                    &path,
                    format!("`{name}` is given twice"),
                    "keep one of them".to_owned(),
                );
            } else {
                seen.push(name);
            }
        }
        Some(Self { at: at.to_owned(), mark: node.mark, entries })
    }

    fn read<T: Raw>(&self, key: &str, reader: &mut Reader<'_>) -> Option<T> {
        let found = self.entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value);
        let path = join(&self.at, key);
        match found {
            Some(node) if !matches!(node.value, Value::Null) => match T::read(node, &path, reader) {
                // Reported already.
                None => T::absent(),
                some => some,
            },
            _ => {
                let absent = T::absent();
                if absent.is_none() {
                    let help = format!("{} is expected", T::shape(&mut Shapes::default()));
                    reader.report(self.mark, &path, format!("`{key}` is missing"), help);
                }
                absent
            }
        }
    }
}

fn row<T: Raw>(key: &'static str, doc: &[&'static str], shapes: &mut Shapes) -> Row {
    Row { key, value: T::shape(shapes), required: T::REQUIRED, doc: sentence(doc) }
}

/// Lines of a doc comment as one paragraph.
fn sentence(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

pub(super) fn join(at: &str, key: &str) -> String {
    let key = clip(key);
    if at.is_empty() { key } else { format!("{at}.{key}") }
}

/// At most 80 characters of what was given: it is quoted in a report.
pub(super) fn clip(given: &str) -> String {
    if given.chars().count() <= 80 {
        return given.to_owned();
    }
    given.chars().take(79).chain(['…']).collect()
}

/// Accepted names that a report lists: more than a screen's lines help nobody.
const LISTED_MAX: usize = 24;
/// Accepted names that a given one is compared with: a thousand reports cost a million comparisons, less than a second.
const COMPARED_MAX: usize = 1_000;

/// "did you mean …?" where something is near, and what is accepted where that is few enough to be read.
pub(super) fn did_you_mean<S: AsRef<str>>(given: &str, accepted: &[S]) -> Option<String> {
    let near = nearest(given, accepted).map(|name| format!("did you mean `{name}`?"));
    let list = (1..=LISTED_MAX).contains(&accepted.len()).then(|| {
        let names: Vec<&str> = accepted.iter().map(AsRef::as_ref).collect();
        format!("accepted: {}", names.join(", "))
    });
    match (near, list) {
        (Some(near), Some(list)) => Some(format!("{near} {list}")),
        (near, list) => near.or(list),
    }
}

/// The nearest accepted name, if it is near: at most a third of the letters differ. A name of two letters has none near.
fn nearest<'s, S: AsRef<str>>(given: &str, accepted: &'s [S]) -> Option<&'s str> {
    let given = clip(given).to_lowercase();
    let length = given.chars().count();
    let allowed = length / 3;
    accepted
        .iter()
        .take(COMPARED_MAX)
        .filter(|name| name.as_ref().chars().count().abs_diff(length) <= allowed)
        .map(|name| (strsim::damerau_levenshtein(&given, &name.as_ref().to_lowercase()), name.as_ref()))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
