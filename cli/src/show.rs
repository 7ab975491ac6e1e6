//! Commands that show one answer of the control plane's API: `stat`, `upstreams`, `events`, `quota`, `sidecars`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use comfy_table::Table;
use outrider_shared::ServiceId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::{Api, ApiArgs, ApiError};
use crate::screen::{Redraw, Screen};
use crate::table::Palette;

mod events;
mod quota;
mod sidecars;
mod stat;
mod upstreams;

pub use events::Events;
pub use quota::Quota;
pub use sidecars::Sidecars;
pub use stat::{Breadth, Stat, stat_table};
pub use upstreams::Upstreams;

/// Between two answers of `--watch`: sidecars report once a second.
const WATCH_PERIOD: Duration = Duration::from_secs(1);

/// An answer of the API, and its table.
pub trait Shown {
    const PATH: &'static str;
    type Answer: Serialize + DeserializeOwned;
    fn table(answer: &Self::Answer, palette: Palette) -> Table;
    /// With every column, however broad.
    fn wide(answer: &Self::Answer, palette: Palette) -> Table {
        Self::table(answer, palette)
    }
    /// Instead of a table without rows, which says nothing: it may be that nothing is there, or that the name is wrong.
    fn nothing(_: &Self::Answer, service: Option<&ServiceId>) -> String {
        match service {
            Some(service) => {
                format!("Nothing is reported of {service}. `outrider sidecars` shows who has joined.")
            }
            None => "Nothing is reported yet. `outrider sidecars` shows who has joined, \
                     `outrider token create` makes what a sidecar joins with."
                .to_owned(),
        }
    }
    /// What JSON shows: the whole answer, or what the table is of.
    fn json(answer: &Self::Answer) -> impl Serialize {
        answer
    }
    /// With `--watch`: what the next answer is compared with.
    fn remembered(_last: Option<Self::Answer>, now: Self::Answer) -> Self::Answer {
        now
    }
    /// With `--watch` and JSON: what of `now` has changed since `before`. `None`: it is shown whole.
    fn changes(_before: Option<&Self::Answer>, _now: &Self::Answer) -> Option<Vec<serde_json::Value>> {
        None
    }
}

/// What these commands print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Table,
    /// The same with every column, where the table leaves some out.
    Wide,
    /// One line of JSON for each answer.
    Json,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    api: ApiArgs,
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Format,
    /// Show it anew each second until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
}

/// Of `outrider upstreams`.
#[derive(Debug, Args)]
pub struct ShowUpstreamsArgs {
    #[command(flatten)]
    show: ShowServiceArgs,
    /// Asks one sidecar's own admin port instead of the control plane: each upstream of it that changes is one line of
    /// JSON, four times a second at most.
    #[arg(long, value_name = "IP:PORT", requires = "watch", conflicts_with_all = ["service", "api", "credential_file"])]
    admin: Option<SocketAddr>,
}

/// As [`ShowArgs`], for answers that may be narrowed to one service.
#[derive(Debug, Args)]
pub struct ShowServiceArgs {
    #[command(flatten)]
    show: ShowArgs,
    /// Only this service.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<ServiceId>,
}

pub async fn show<S: Shown>(args: ShowArgs) -> anyhow::Result<()> {
    show_path::<S>(args, S::PATH, None).await
}

pub async fn show_service<S: Shown>(args: ShowServiceArgs) -> anyhow::Result<()> {
    let path = match &args.service {
        // Both parts are DNS labels: nothing in them needs escaping.
        Some(service) => format!("{}?service={service}", S::PATH),
        None => S::PATH.to_owned(),
    };
    show_path::<S>(args.show, &path, args.service.as_ref()).await
}

pub async fn show_upstreams(args: ShowUpstreamsArgs) -> anyhow::Result<()> {
    let Some(admin) = args.admin else { return show_service::<Upstreams>(args.show).await };
    let mut screen = Screen::stdout();
    let path = "/upstreams?watch=1";
    let uri = format!("http://{admin}{path}");
    crate::fetch::lines(&uri, |line| screen.line(line)).await.with_context(|| format!("watching {uri}"))
}

async fn show_path<S: Shown>(args: ShowArgs, path: &str, service: Option<&ServiceId>) -> anyhow::Result<()> {
    let api = Api::open(&args.api)?;
    let palette = Palette::from_environment();
    let mut screen = Screen::stdout();
    let table = |answer: &S::Answer| match args.output {
        Format::Table => Some(text::<S>(&S::table(answer, palette), answer, service)),
        Format::Wide => Some(text::<S>(&S::wide(answer, palette), answer, service)),
        Format::Json => None,
    };
    let first = api.get::<S::Answer>(path).await?;
    if !args.watch {
        match table(&first) {
            None => screen.json(&S::json(&first))?,
            Some(table) => screen.line(&table)?,
        }
        return Ok(());
    }
    let mut answer = Ok::<_, ApiError>(first);
    let mut last = None;
    let mut ticks = tokio::time::interval(WATCH_PERIOD);
    ticks.tick().await;
    loop {
        match (answer, args.output) {
            (Ok(answer), _) => {
                match (table(&answer), S::changes(last.as_ref(), &answer)) {
                    (Some(table), _) => screen.draw(&table, Redraw::WholeScreen)?,
                    (None, Some(changes)) => changes.iter().try_for_each(|change| screen.json(change))?,
                    (None, None) => screen.json(&S::json(&answer))?,
                }
                last = Some(S::remembered(last, answer));
            }
            // It may come back: whoever watches wants to see that too.
            (Err(error), Format::Json) => eprintln!("{error}"),
            (Err(error), Format::Table | Format::Wide) => {
                screen.draw(&error.to_string(), Redraw::WholeScreen)?;
            }
        }
        ticks.tick().await;
        answer = api.get(path).await;
    }
}

fn text<S: Shown>(table: &Table, answer: &S::Answer, service: Option<&ServiceId>) -> String {
    if table.row_count() > 0 { table.to_string() } else { S::nothing(answer, service) }
}

#[cfg(test)]
mod tests;
