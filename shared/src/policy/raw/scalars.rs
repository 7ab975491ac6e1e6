//! Values that many records share: numbers and lists within bounds, durations, shares, and a value with its place.

use std::time::Duration;

use crate::policy::reference::Shapes;
use crate::policy::yaml::{Mark, Node, Value};
use crate::units::GepDuration;

use super::{Raw, Reader, clip};

/// Where a value stands, to be reported when a check finds it wrong.
#[derive(Debug, Clone)]
pub(in crate::policy) struct Place {
    pub mark: Mark,
    pub path: String,
}

/// A value that knows its place.
#[derive(Debug, Clone)]
pub(in crate::policy) struct Located<T> {
    pub value: T,
    pub place: Place,
}

impl<T: Raw> Raw for Located<T> {
    const REQUIRED: bool = T::REQUIRED;
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let place = Place { mark: node.mark, path: at.to_owned() };
        T::read(node, at, reader).map(|value| Self { value, place })
    }
    fn shape(shapes: &mut Shapes) -> String {
        T::shape(shapes)
    }
}

impl<T: Raw> Raw for Option<T> {
    const REQUIRED: bool = false;
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, at, reader).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn shape(shapes: &mut Shapes) -> String {
        T::shape(shapes)
    }
}

/// An optional value where its presence counts even if it is wrong: "exactly one of" must not be said of a mistyped one.
#[derive(Debug)]
pub(in crate::policy) enum Given<T> {
    Absent,
    /// Reported.
    Broken,
    Sound(T),
}

impl<T> Given<T> {
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
    pub fn sound(&self) -> Option<&T> {
        match self {
            Self::Sound(value) => Some(value),
            Self::Absent | Self::Broken => None,
        }
    }
}

impl<T: Raw> Raw for Given<T> {
    const REQUIRED: bool = false;
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        Some(T::read(node, at, reader).map_or(Self::Broken, Self::Sound))
    }
    fn absent() -> Option<Self> {
        Some(Self::Absent)
    }
    fn shape(shapes: &mut Shapes) -> String {
        T::shape(shapes)
    }
}

impl Raw for bool {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        if let Value::Bool(value) = node.value {
            return Some(value);
        }
        reader.wrong_kind(node, at, "true or false");
        None
    }
    fn shape(_: &mut Shapes) -> String {
        "`true` or `false`".to_owned()
    }
}

/// A whole number within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct Int<const MIN: u32, const MAX: u32>(pub u32);

impl<const MIN: u32, const MAX: u32> Raw for Int<MIN, MAX> {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Integer(given) = node.value else {
            reader.wrong_kind(node, at, "a whole number");
            return None;
        };
        match u32::try_from(given) {
            Ok(number) if (MIN..=MAX).contains(&number) => Some(Self(number)),
            _ => {
                reader.report(
                    node.mark,
                    at,
                    format!("{given} is out of range"),
                    format!("accepted: {MIN} to {MAX}"),
                );
                None
            }
        }
    }
    fn shape(_: &mut Shapes) -> String {
        format!("a whole number from {MIN} to {MAX}")
    }
}

/// A share from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::policy) struct Ratio(pub f64);

impl Raw for Ratio {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let given = match node.value {
            Value::Float(number) => number,
            Value::Integer(0) => 0.0,
            Value::Integer(1) => 1.0,
            Value::Integer(_) => f64::INFINITY,
            _ => {
                reader.wrong_kind(node, at, "a number from 0 to 1");
                return None;
            }
        };
        if (0.0..=1.0).contains(&given) {
            return Some(Self(given));
        }
        reader.report(node.mark, at, "the number is out of range", "accepted: 0 to 1".to_owned());
        None
    }
    fn shape(_: &mut Shapes) -> String {
        "a number from 0 to 1".to_owned()
    }
}

/// Any string of `MIN` to `MAX` bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Text<const MIN: usize, const MAX: usize>(pub String);

impl<const MIN: usize, const MAX: usize> Raw for Text<MIN, MAX> {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(given) = node.text() else {
            reader.wrong_kind(node, at, "a string");
            return None;
        };
        if (MIN..=MAX).contains(&given.len()) {
            return Some(Self(given.to_owned()));
        }
        let message = format!("the string has {} bytes", given.len());
        reader.report(node.mark, at, message, format!("accepted: {MIN} to {MAX} bytes"));
        None
    }
    fn shape(_: &mut Shapes) -> String {
        format!("a string of {MIN} to {MAX} bytes")
    }
}

/// A list of `MIN` to `MAX` items; left out, it is empty, where `MIN` allows that.
#[derive(Debug)]
pub(in crate::policy) struct List<T, const MIN: usize, const MAX: usize>(pub Vec<T>);

impl<T: Raw, const MIN: usize, const MAX: usize> Raw for List<T, MIN, MAX> {
    const REQUIRED: bool = MIN > 0;
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            reader.wrong_kind(node, at, "a list");
            return None;
        };
        if !(MIN..=MAX).contains(&items.len()) {
            let message = format!("the list has {} items", items.len());
            reader.report(node.mark, at, message, format!("accepted: {MIN} to {MAX} items"));
            return None;
        }
        let read = |(i, item): (usize, &Node)| T::read(item, &format!("{at}[{i}]"), reader);
        Some(Self(items.iter().enumerate().filter_map(read).collect()))
    }
    fn absent() -> Option<Self> {
        (MIN == 0).then(|| Self(Vec::new()))
    }
    fn shape(shapes: &mut Shapes) -> String {
        format!("list of {MIN} to {MAX}: {}", T::shape(shapes))
    }
}

impl Raw for GepDuration {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(given) = node.text() else {
            reader.wrong_kind(node, at, "a duration as 250ms, 10s or 1h30m");
            return None;
        };
        given
            .parse()
            .map_err(|bad: crate::units::BadDuration| reader.report(node.mark, at, bad.to_string(), None))
            .ok()
    }
    fn shape(_: &mut Shapes) -> String {
        "a duration, as `250ms`, `10s` or `1h30m`".to_owned()
    }
}

/// A duration within bounds, given in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct DurationWithin<const MIN_MS: u32, const MAX_MS: u32>(pub Duration);

impl<const MIN_MS: u32, const MAX_MS: u32> DurationWithin<MIN_MS, MAX_MS> {
    const MIN: GepDuration = GepDuration::from_millis(MIN_MS);
    const MAX: GepDuration = GepDuration::from_millis(MAX_MS);

    pub fn gep(self) -> GepDuration {
        let ms = u32::try_from(self.0.as_millis()).expect("its bound is a u32 of milliseconds");
        GepDuration::from_millis(ms)
    }
}

impl<const MIN_MS: u32, const MAX_MS: u32> Raw for DurationWithin<MIN_MS, MAX_MS> {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let given = GepDuration::read(node, at, reader)?;
        if (Self::MIN..=Self::MAX).contains(&given) {
            return Some(Self(given.get()));
        }
        let help = format!("accepted: {} to {}", Self::MIN, Self::MAX);
        reader.report(node.mark, at, format!("{given} is out of range"), help);
        None
    }
    fn shape(_: &mut Shapes) -> String {
        format!("a duration from `{}` to `{}`", Self::MIN, Self::MAX)
    }
}

/// What a cluster adds to a document and nobody here reads.
#[derive(Debug)]
pub(in crate::policy) struct Ignored;

impl Raw for Ignored {
    const REQUIRED: bool = false;
    fn read(_: &Node, _: &str, _: &mut Reader<'_>) -> Option<Self> {
        Some(Self)
    }
    fn absent() -> Option<Self> {
        Some(Self)
    }
    fn shape(_: &mut Shapes) -> String {
        "anything; ignored".to_owned()
    }
}

/// A field of Gateway API, or of ours, that nothing enforces yet: refused by name, never ignored.
#[derive(Debug)]
pub(in crate::policy) struct NotBuilt;

impl Raw for NotBuilt {
    const REQUIRED: bool = false;
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let name = at.rsplit('.').next().unwrap_or(at);
        reader.report(node.mark, at, format!("`{name}` is not built yet"), "leave it out".to_owned());
        Some(Self)
    }
    fn absent() -> Option<Self> {
        Some(Self)
    }
    fn shape(_: &mut Shapes) -> String {
        "not built yet; refused".to_owned()
    }
}

/// Labels or annotations: strings by string, each key once.
#[derive(Debug)]
pub(in crate::policy) struct Pairs(pub Vec<(String, Located<String>)>);

impl Raw for Pairs {
    const REQUIRED: bool = false;
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            reader.wrong_kind(node, at, "a mapping of strings");
            return None;
        };
        let mut pairs: Vec<(String, Located<String>)> = Vec::with_capacity(entries.len());
        let mut seen = std::collections::BTreeSet::new();
        for (key, value) in entries {
            let Some(name) = key.text() else {
                reader.wrong_kind(key, at, "a string as key");
                continue;
            };
            // A key holds dots and slashes, so it stands in brackets.
            let path = format!("{at}[{}]", clip(name));
            let Some(text) = value.text() else {
                reader.wrong_kind(value, &path, "a string");
                continue;
            };
            if !seen.insert(name) {
                reader.report(
                    key.mark,
                    &path,
                    format!("`{}` is given twice", clip(name)),
                    "keep one of them".to_owned(),
                );
                continue;
            }
            let place = Place { mark: value.mark, path };
            pairs.push((name.to_owned(), Located { value: text.to_owned(), place }));
        }
        Some(Self(pairs))
    }
    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }
    fn shape(_: &mut Shapes) -> String {
        "a mapping of strings".to_owned()
    }
}

/// HTTP statuses: one as `503`, or a hundred as `5xx`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(dead_code, reason = "what is accepted without effect is checked for shape alone")]
pub(in crate::policy) enum HttpCode {
    One(u16),
    Class(u8),
}

impl Raw for HttpCode {
    fn read(node: &Node, at: &str, reader: &mut Reader<'_>) -> Option<Self> {
        let given = match &node.value {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => text.clone(),
            _ => {
                reader.wrong_kind(node, at, "a status as 503, or a class as 5xx");
                return None;
            }
        };
        let read = match given.strip_suffix("xx") {
            Some(class) => class.parse().ok().filter(|class| (1..=5).contains(class)).map(Self::Class),
            None => given.parse().ok().filter(|code| (100..=599).contains(code)).map(Self::One),
        };
        if read.is_none() {
            let message = format!("{:?} is no HTTP status", clip(&given));
            reader.report(node.mark, at, message, "accepted: 100 to 599, or 1xx to 5xx".to_owned());
        }
        read
    }
    fn shape(_: &mut Shapes) -> String {
        "a status as `503`, or a class as `5xx`".to_owned()
    }
}
