//! What is wrong with a set of documents: everything at once, each with its place and what would be right.

use std::fmt;
use std::fmt::Write as _;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, NamedSource, SourceOffset};
use serde::Serialize;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// As given to [`super::load`]; from [`super::load_dir`] the path that was opened.
    pub file: String,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u32,
    /// From 1, in characters; 0 where the file as a whole is meant.
    pub column: u32,
    /// Keys from the document's root, as `spec.rules[0].matches[1].path.value`; empty for the document itself.
    pub path: String,
    pub message: String,
    /// What is accepted, or what to write instead.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// Why a set of documents is refused: never empty, in the order of files and lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    /// Texts of the files, for reports that show the line.
    sources: Vec<(String, String)>,
    dropped: usize,
}

/// Past this many problems the rest is only counted: a megabyte of garbage must not become a gigabyte of reports.
pub const PROBLEMS_MAX: usize = 1_000;

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.list.len() + self.dropped;
        write!(f, "the policy has {count} problem{}", if count == 1 { "" } else { "s" })
    }
}

impl Problems {
    pub(super) fn new(mut list: Vec<Problem>, sources: Vec<(String, String)>) -> Self {
        list.sort();
        list.dedup();
        let dropped = list.len().saturating_sub(PROBLEMS_MAX);
        list.truncate(PROBLEMS_MAX);
        Self { list, sources, dropped }
    }

    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many more there are than [`Self::list`] holds.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// One line for each problem.
    pub fn plain(&self) -> String {
        let mut text = String::new();
        for problem in &self.list {
            let _ = writeln!(text, "{problem}");
        }
        self.end(&mut text);
        text
    }

    /// Each problem with the line it lies in, for a terminal.
    pub fn graphical(&self, color: Color) -> String {
        let theme = match color {
            Color::Never => GraphicalTheme::unicode_nocolor(),
            Color::Always => GraphicalTheme::unicode(),
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_links(false);
        let mut text = String::new();
        for problem in &self.list {
            let source = self.sources.iter().find(|(name, _)| *name == problem.file);
            let report = Report::of(problem, source.map(|(_, text)| text.as_str()));
            if handler.render_report(&mut text, &report).is_err() {
                let _ = writeln!(text, "{problem}");
            }
            text.push('\n');
        }
        self.end(&mut text);
        text
    }

    fn end(&self, text: &mut String) {
        if self.dropped > 0 {
            let _ = writeln!(text, "and {} more", self.dropped);
        }
    }
}

/// Whether a report carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    Always,
    Never,
}

/// A problem as miette renders it.
#[derive(Debug)]
struct Report<'a> {
    problem: &'a Problem,
    source: Option<NamedSource<String>>,
    offset: SourceOffset,
}

/// Lines of context are all that a report shows, so it is given no more: rendering a large file once for each of its
/// problems would take the square of its size.
const CONTEXT_LINES: usize = 2;
/// Of a line that is longer, only what stands around the problem is shown, for the same reason. 160: a wide terminal's.
const SHOWN_CHARS_MAX: usize = 160;

impl<'a> Report<'a> {
    fn of(problem: &'a Problem, text: Option<&str>) -> Self {
        let Some(text) = text.filter(|_| problem.line > 0) else {
            return Self { problem, source: None, offset: 0.into() };
        };
        let (line, column) = (problem.line as usize, problem.column.max(1) as usize);
        // Lines before the shown ones become empty ones, so that the numbers in the margin stay right.
        let first = line.saturating_sub(CONTEXT_LINES + 1);
        let mut shown = "\n".repeat(first);
        // Where the cut begins in every shown line, so that they stay below each other.
        let cut = if column > SHOWN_CHARS_MAX { column - SHOWN_CHARS_MAX / 2 } else { 0 };
        for context in text.lines().skip(first).take(2 * CONTEXT_LINES + 1) {
            push_part(&mut shown, context, cut);
        }
        // A cut line begins with a sign for what is left out.
        let column = if cut > 0 { column - cut + 1 } else { column };
        let offset = SourceOffset::from_location(&shown, line, column);
        Self { problem, source: Some(NamedSource::new(&problem.file, shown)), offset }
    }
}

/// The characters of a line from `cut` on, as many as are shown, with a sign where some are left out.
fn push_part(shown: &mut String, line: &str, cut: usize) {
    let mut rest = line.chars().skip(cut);
    if cut > 0 && !line.is_empty() {
        shown.push('…');
    }
    shown.extend(rest.by_ref().take(SHOWN_CHARS_MAX));
    if rest.next().is_some() {
        shown.push('…');
    }
    shown.push('\n');
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.source.is_none() {
            write!(f, "{}: ", self.problem.file)?;
        }
        f.write_str(&self.problem.message)
    }
}
impl std::error::Error for Report<'_> {}
impl Diagnostic for Report<'_> {
    fn help<'b>(&'b self) -> Option<Box<dyn fmt::Display + 'b>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }
    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.source.as_ref().map(|source| source as &dyn miette::SourceCode)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = miette::LabeledSpan> + '_>> {
        self.source.as_ref()?;
        let label = if self.problem.path.is_empty() { "here" } else { &self.problem.path };
        let span = miette::LabeledSpan::new_with_span(Some(label.to_owned()), self.offset);
        Some(Box::new(std::iter::once(span)))
    }
}
