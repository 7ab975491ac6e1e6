//! The shop's page as HTML. What came over the network is escaped.

use std::fmt;
use std::time::Duration;

use http::Uri;

use super::orders::{Listed, Taken};

const TEMPLATE: &str = include_str!("page.html");

/// An order of the page's button.
#[derive(Debug, Clone)]
pub struct Placed {
    pub outcome: Result<Taken, String>,
    pub took: Duration,
    pub trace: Option<String>,
}

/// The reading of the list on the page itself.
pub struct Read {
    pub listed: Result<Listed, String>,
    pub took: Duration,
    pub trace: Option<String>,
}

pub struct Page<'a> {
    pub placed: &'a [Placed],
    pub read: &'a Read,
    pub trace_link: Option<&'a Uri>,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = TEMPLATE;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            f.write_str(before)?;
            match name {
                "placed" => self.placed.iter().try_for_each(|placed| self.placed_row(f, placed))?,
                "replica" => f.write_str(&escape(
                    self.read.listed.as_ref().map_or("orders", |listed| listed.replica.as_str()),
                ))?,
                "read" => self.read_line(f)?,
                "orders" => self.order_rows(f)?,
                unknown => unreachable!("the template asks for {unknown}"),
            }
            rest = after;
        }
        f.write_str(rest)
    }
}

impl Page<'_> {
    fn placed_row(&self, f: &mut fmt::Formatter<'_>, placed: &Placed) -> fmt::Result {
        match &placed.outcome {
            Ok(taken) => write!(
                f,
                "<tr><td>{} {}</td><td class=number>{}</td><td>taken by {}, paid by {}</td>",
                taken.order.quantity,
                escape(&taken.order.item),
                euros(taken.order.amount_cents),
                escape(&taken.replica),
                escape(&taken.paid_by),
            )?,
            Err(why) => write!(f, "<tr><td></td><td></td><td class=failed>{}</td>", escape(why))?,
        }
        write!(f, "<td class=number>{}</td><td>", milliseconds(placed.took))?;
        self.trace(f, placed.trace.as_deref())?;
        f.write_str("</td></tr>\n")
    }

    fn read_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.read.listed {
            Ok(_) => write!(f, "Read in {}. Trace of this page: ", milliseconds(self.read.took))?,
            Err(why) => {
                write!(f, "<span class=failed>Not read: {}</span> Trace of this page: ", escape(why))?;
            }
        }
        self.trace(f, self.read.trace.as_deref())
    }

    fn order_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for order in self.read.listed.iter().flat_map(|listed| &listed.orders).take(5) {
            writeln!(
                f,
                "<tr><td><a href=\"/api/orders/{id}\"><code>{id}</code></a></td><td>{}</td><td class=number>{}</td>\
                 <td class=number>{}</td></tr>",
                escape(&order.item),
                order.quantity,
                euros(order.amount_cents),
                id = escape(&order.id),
            )?;
        }
        Ok(())
    }

    /// The id is 32 hex digits: nothing in it needs escaping.
    fn trace(&self, f: &mut fmt::Formatter<'_>, id: Option<&str>) -> fmt::Result {
        match (id, self.trace_link) {
            (Some(id), Some(link)) => {
                write!(f, "<a href=\"{}{id}\"><code>{id}</code></a>", escape(&link.to_string()))
            }
            (Some(id), None) => write!(f, "<code>{id}</code>"),
            (None, _) => f.write_str("none"),
        }
    }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

fn euros(cents: u32) -> String {
    format!("{}.{:02} €", cents / 100, cents % 100)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
