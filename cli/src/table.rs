//! The look of all tables, and of the quantities in them.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};

/// Whether cells are coloured. A table on something that is no terminal never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    Colour,
    Plain,
}

impl Palette {
    /// `NO_COLOR` with any content means none (no-color.org).
    pub fn from_environment() -> Self {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Self::Plain,
            _ => Self::Colour,
        }
    }

    fn paint(self, cell: Cell, colour: Color) -> Cell {
        match self {
            Self::Colour => cell.fg(colour),
            Self::Plain => cell,
        }
    }

    pub fn good(self, text: impl ToString) -> Cell {
        self.paint(Cell::new(text), Color::Green)
    }

    pub fn bad(self, text: impl ToString) -> Cell {
        self.paint(Cell::new(text), Color::Red)
    }

    pub fn doubtful(self, text: impl ToString) -> Cell {
        self.paint(Cell::new(text), Color::Yellow)
    }

    pub fn header(self, text: &str) -> Cell {
        match self {
            Self::Colour => Cell::new(text).add_attribute(Attribute::Bold),
            Self::Plain => Cell::new(text),
        }
    }

    /// A share of requests: what is nearly all is good, and the fewer the worse.
    pub fn success(self, share: Option<f64>) -> Cell {
        let text = percent(share);
        let cell = match share {
            Some(share) if share >= 0.99 => self.good(text),
            Some(share) if share >= 0.9 => self.doubtful(text),
            Some(_) => self.bad(text),
            None => Cell::new(text),
        };
        cell.set_alignment(CellAlignment::Right)
    }
}

pub fn table(palette: Palette, headers: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(headers.iter().map(|header| palette.header(header)).collect::<Vec<_>>());
    table
}

pub fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// `-` where there is nothing to say.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        // Rounding must not hide the one in a thousand that failed.
        Some(share) if share < 1.0 => format!("{:.1} %", (share * 1e3).floor() / 10.0),
        Some(_) => "100 %".to_owned(),
    }
}

pub fn milliseconds(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{ms:.0} ms"),
    }
}

pub fn microseconds(us: u64) -> String {
    // Exact up to 285 years.
    #[allow(clippy::cast_precision_loss)]
    let ms = us as f64 / 1e3;
    if us == 0 { "-".to_owned() } else { milliseconds(Some(ms)) }
}

/// Two units at most: `23h 59m`, `4m 10s`, `30d 2h`.
pub fn remaining(seconds: Option<i64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    if seconds <= 0 {
        return "expired".to_owned();
    }
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Bytes with a binary unit.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let Some(mut step) = usize::try_from(count.max(1).ilog2() / 10).ok().filter(|step| *step > 0) else {
        return format!("{count} B");
    };
    step = step.min(UNITS.len());
    // A rounded figure for people.
    #[allow(clippy::cast_precision_loss)]
    let scaled = count as f64 / (1_u64 << (10 * step)) as f64;
    format!("{scaled:.1} {}", UNITS[step - 1])
}

/// A principal as people call it: the service account's name, or the word itself.
pub fn principal(principal: &str) -> &str {
    principal.rsplit_once("/sa/").map_or(principal, |(_, account)| account)
}

/// The start of an id that is long and random: enough to tell a mesh's sidecars apart.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[cfg(test)]
mod tests;
