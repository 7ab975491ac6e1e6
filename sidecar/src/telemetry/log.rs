//! Logs on standard error: for people on a terminal, JSON for everything else.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging for the process; a second call changes nothing. `RUST_LOG` sets what is logged (by default `info`,
/// without what actix says of its workers), `OUTRIDER_LOG_FORMAT=text|json` the form.
pub fn init() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,actix_server=warn"));
    let asked = std::env::var("OUTRIDER_LOG_FORMAT");
    let text = match asked.as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if text {
        builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    // Whoever embeds the sidecar may have started logging already.
    drop(started);
}
