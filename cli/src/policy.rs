//! `outrider policy validate`: what a directory of policy says, or everything that is wrong with it; without a control plane.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use outrider_shared::policy::{Color, Loaded, Policy, Problem, Problems, load_dir};
use serde::Serialize;

use crate::screen::{Output, Screen};
use crate::table::{Palette, number, table};

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Checks a directory of policy, and shows what it says or everything that is wrong with it.
    #[command(after_help = "Example:\n  outrider policy validate deploy/policy")]
    Validate(ValidateArgs),
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// The directory: every *.yaml and *.yml file in it counts.
    #[arg(value_name = "DIR", value_parser = directory)]
    dir: PathBuf,
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    output: Output,
}

/// What a directory's files say belongs together, so one of them alone would be judged wrongly.
fn directory(given: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(given);
    if path.is_file() {
        Err("this is a file: name the directory that it lies in".to_owned())
    } else {
        Ok(path)
    }
}

/// One line of JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Valid {
        valid: bool,
        hash: &'a str,
        files: Vec<&'a str>,
        documents: Vec<Documents>,
        warnings: &'a [String],
    },
    Refused {
        valid: bool,
        problems: &'a [Problem],
        more: usize,
    },
}

#[derive(Debug, Serialize)]
struct Documents {
    kind: &'static str,
    count: usize,
}

impl<'a> Answer<'a> {
    fn of(loaded: &'a Result<Loaded, Problems>) -> Self {
        match loaded {
            Ok(Loaded { policy, hash, files }) => Self::Valid {
                valid: true,
                hash,
                files: files.iter().map(|(name, _)| name.as_str()).collect(),
                documents: documents(policy),
                warnings: policy.warnings(),
            },
            Err(problems) => {
                Self::Refused { valid: false, problems: problems.list(), more: problems.dropped() }
            }
        }
    }
}

pub fn run(command: PolicyCommand) -> anyhow::Result<()> {
    let PolicyCommand::Validate(ValidateArgs { dir, output }) = command;
    let palette = Palette::from_environment();
    let mut screen = Screen::stdout();
    let loaded = load_dir(&dir);
    match (&loaded, output) {
        (_, Output::Json) => screen.json(&Answer::of(&loaded))?,
        (Ok(loaded), Output::Table) => screen.line(&summary(loaded, palette))?,
        (Err(problems), Output::Table) => {
            let color = match palette {
                Palette::Colour if io::stderr().is_terminal() => Color::Always,
                Palette::Colour | Palette::Plain => Color::Never,
            };
            write!(io::stderr(), "{}", problems.graphical(color)).context("printing the problems")?;
        }
    }
    loaded?;
    Ok(())
}

fn documents(policy: &Policy) -> Vec<Documents> {
    policy.documents().iter().map(|(kind, count)| Documents { kind, count: *count }).collect()
}

fn summary(loaded: &Loaded, palette: Palette) -> String {
    let policy = &loaded.policy;
    let mut kinds = table(palette, &["kind", "documents"]);
    for Documents { kind, count } in documents(policy) {
        kinds.add_row([kind.into(), number(count)]);
    }
    let mut text = format!("{kinds}\n\n{}\n", services(policy, palette));
    if !policy.routes().is_empty() {
        let _ = writeln!(text, "\n{}", rules(policy, palette));
    }
    if !policy.warnings().is_empty() {
        text.push_str("\nIn force, and less safe than the default:\n");
        for what in policy.warnings() {
            let _ = writeln!(text, "  {what}");
        }
    }
    let files = loaded.files.len();
    let _ = write!(text, "\nThe policy is valid: {files} file{}.", if files == 1 { "" } else { "s" });
    text
}

fn services(policy: &Policy, palette: Palette) -> comfy_table::Table {
    let headers = ["service", "identity", "ports", "edge", "calls", "authorization"];
    let mut table = table(palette, &headers);
    for service in policy.services() {
        let ports = service.ports().iter().map(|port| match port.target_port {
            target if target == port.port => port.port.to_string(),
            target => format!("{} to {target}", port.port),
        });
        let edges = service.edges().iter().map(|edge| match edge.certificates.as_slice() {
            [] => format!("{} to {}", edge.port, edge.target_port),
            certificates => {
                format!("{} to {}, TLS: {}", edge.port, edge.target_port, certificates.join(", "))
            }
        });
        let rules: usize = policy.authorization(service.id()).map(|policy| policy.rules.len()).sum();
        let authorization = match policy.authorization(service.id()).len() {
            0 => format!("default: {:?}", policy.mesh().default_authorization()),
            count => format!("policies: {count}, rules: {rules}"),
        };
        table.add_row([
            service.id().to_string(),
            service.identity().to_string(),
            ports.collect::<Vec<_>>().join("\n"),
            edges.collect::<Vec<_>>().join("\n"),
            service.upstreams().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            authorization,
        ]);
    }
    table
}

fn rules(policy: &Policy, palette: Palette) -> comfy_table::Table {
    let mut table = table(palette, &["rule", "for", "matches", "backends and weights"]);
    for route in policy.routes() {
        let service = match route.port {
            Some(port) => format!("{}:{port}", route.service),
            None => route.service.to_string(),
        };
        for rule in &route.rules {
            let backends =
                rule.backends.iter().map(|to| format!("{}:{} x{}", to.service, to.port, to.weight));
            let backends = backends.collect::<Vec<_>>().join("\n");
            table.add_row([
                rule.id.as_str().into(),
                service.as_str().into(),
                number(rule.matches.len()),
                if backends.is_empty() { palette.doubtful("none: 500") } else { backends.into() },
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests;
