//! `HAProxy`, as a proxy.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::{Route, serves};
use crate::app::Speaks;
use crate::process::Process;

/// Passes everything as it comes, over connections that it keeps.
pub async fn proxies(haproxy: &Path, folder: &Path, routes: &[Route]) -> Process {
    let mut text =
        "global\n  nbthread 1\ndefaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  \
                    timeout client 15s\n  timeout server 15s\n"
            .to_owned();
    let proto = |speaks| if speaks == Speaks::Http2 { " proto h2" } else { "" };
    for (number, route) in routes.iter().enumerate() {
        let (from, to) = (proto(route.from), proto(route.speaks));
        let _ = write!(
            text,
            "listen l{number}\n  bind {}{from}\n  server upstream {}{to}\n",
            route.listen, route.to
        );
    }
    let path = folder.join("haproxy.cfg");
    std::fs::write(&path, text).expect("the case's folder is writable");
    let mut command = Command::new(haproxy);
    command.arg("-db").arg("-f").arg(&path);
    serves("haproxy", folder, command, routes[0].listen).await
}
