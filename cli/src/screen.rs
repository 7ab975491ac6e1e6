//! Standard output: tables redrawn on a terminal, one after another elsewhere; a reader that goes away ends the program.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

/// What a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// One line of JSON for each answer.
    Json,
}

/// How a table replaces the one before it on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redraw {
    /// Over the lines that the last one took: for what is known to fit.
    InPlace,
    /// From the top of an emptied screen.
    WholeScreen,
}

#[derive(Debug)]
pub struct Screen<W> {
    out: W,
    terminal: bool,
    /// Lines that the last table took.
    drawn: usize,
}

impl Screen<io::Stdout> {
    pub fn stdout() -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Self { out, terminal, drawn: 0 }
    }
}

impl<W: Write> Screen<W> {
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    pub fn json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(&text)
    }

    /// Replaces what was drawn before, on a terminal; follows it elsewhere.
    pub fn draw(&mut self, text: &str, redraw: Redraw) -> io::Result<()> {
        if self.terminal {
            match redraw {
                Redraw::InPlace if self.drawn == 0 => {}
                // Up so many lines, to the first column, and empty from there on.
                Redraw::InPlace => write!(self.out, "\x1b[{}F\x1b[J", self.drawn)?,
                Redraw::WholeScreen => write!(self.out, "\x1b[H\x1b[J")?,
            }
        }
        self.drawn = text.lines().count();
        self.line(text.trim_end_matches('\n'))
    }
}

/// `outrider quota | head -3` is not a failure.
pub fn reader_went_away(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests;
