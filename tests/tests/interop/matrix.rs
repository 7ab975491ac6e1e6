//! Every kind of HTTP client at every kind of server, through two sidecars and without any.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use futures_util::StreamExt as _;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::relay::Relay;
use outrider_tests::{policy, reference};

use crate::cell::{Cell, Compare, Difference, differences};
use crate::clients::CLIENTS;
use crate::page;
use crate::servers::{self, Programs, SERVERS, Server};

/// Rows under way at a time.
const AT_ONCE: usize = 4;

/// Request fields that the app's sidecar adds. An Envoy behind it keeps the last to itself.
pub const ADDED: [&str; 4] = ["outrider-context", "outrider-hops", "traceparent", "x-forwarded-client-cert"];

/// By client and server, as indices of their tables.
type Cells = BTreeMap<(usize, usize), Cell>;

#[derive(Debug, Default)]
struct Seen {
    through: Cells,
    direct: Cells,
}

/// One client at every server, through the sidecars and, where both speak one version of HTTP, without.
async fn row(client: usize, programs: &Programs, mesh: &Mesh, caller: &Pod, app: &Pod) -> Seen {
    let through = (0..SERVERS.len()).map(|server| (server, true, caller.sidecar.upstream(server)));
    let direct = (0..SERVERS.len())
        .filter(|server| SERVERS[*server].speaks == CLIENTS[client].speaks)
        .map(|server| (server, false, servers::address(app.sidecar.ip(), server)));
    let ip = mesh.address();
    let mut targets = Vec::new();
    for (server, through, to) in through.chain(direct) {
        targets.push((server, through, Relay::start(ip, to).await));
    }
    let addresses: Vec<SocketAddr> = targets.iter().map(|(_, _, relay)| relay.address()).collect();
    let heard = CLIENTS[client].ask(programs, mesh, &addresses).await;
    let mut seen = Seen::default();
    for ((server, through, relay), heard) in targets.iter().zip(heard) {
        let cell = Cell { heard, connections: relay.connections() };
        let cells = if *through { &mut seen.through } else { &mut seen.direct };
        cells.insert((client, *server), cell);
    }
    seen
}

/// What a client and a server are compared with, by their indices.
fn baseline(client: usize, server: usize) -> (usize, usize, Compare) {
    let Server { kind, speaks, .. } = SERVERS[server];
    let asks = &CLIENTS[client];
    if speaks == asks.speaks {
        return (client, server, Compare::All);
    }
    let in_its_version = |twin: &Server| twin.kind == kind && twin.speaks == asks.speaks;
    if let Some(twin) = SERVERS.iter().position(in_its_version) {
        return (client, twin, Compare::All);
    }
    let (wanted, compare) =
        if asks.is_proxy() { (asks.kind, Compare::All) } else { ("curl", Compare::Answers) };
    let other = CLIENTS.iter().position(|other| other.kind == wanted && other.version == "1.1");
    (other.expect("curl and each proxy speak HTTP/1.1"), server, compare)
}

/// A row of the page. A client makes as many connections whatever serves it.
fn row_of(client: usize, seen: &Seen, wrong: &mut Vec<String>) -> page::Row {
    let made: BTreeSet<_> =
        (0..SERVERS.len()).map(|server| seen.through[&(client, server)].connections).collect();
    if made.len() > 1 {
        wrong.push(format!("{}: {made:?} connections", CLIENTS[client].name()));
    }
    let notes = (0..SERVERS.len()).map(|server| notes(client, server, seen, wrong)).collect();
    page::Row { connections: made.last().copied().unwrap_or_default(), notes }
}

/// A cell of the page: the notes to it. Whatever is no note of the page is added to `wrong`.
fn notes(client: usize, server: usize, seen: &Seen, wrong: &mut Vec<String>) -> BTreeSet<page::Note> {
    let through = &seen.through[&(client, server)];
    let name = format!("{} at {}", CLIENTS[client].name(), SERVERS[server].name());
    for (operation, heard) in &through.heard {
        if let Err(why) = heard.clone().and_then(|heard| heard.judge(operation)) {
            wrong.push(format!("{name}: {operation}: {why}"));
        }
    }
    let can = CLIENTS[client].operations();
    if !through.heard.keys().eq(can.iter().map(|operation| &operation.name).collect::<BTreeSet<_>>()) {
        wrong.push(format!("{name}: {:?} were asked for", through.heard.keys()));
    }
    let (by, at, compare) = baseline(client, server);
    let mut notes = BTreeSet::new();
    let mut added = Vec::new();
    if (by, at) != (client, server) {
        notes.insert(page::Note::OtherVersion);
    }
    for difference in differences(through, &seen.direct[&(by, at)], compare) {
        match difference {
            Difference::RequestField(field) => added.push(field),
            Difference::FewerConnections if SERVERS[server].version == "1.0" => {
                notes.insert(page::Note::Kept);
            }
            Difference::FailsDirectly(why) => match page::Note::why_it_fails(&CLIENTS[by], &SERVERS[at]) {
                Some(note) => {
                    notes.insert(note);
                }
                None => wrong.push(format!("{name}: without a sidecar {why}, and no reason is given")),
            },
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    // nginx does not tell what it was told, nor h2load what it got.
    let known = if SERVERS[server].kind == "Envoy" { &ADDED[..3] } else { &ADDED };
    if !added.is_empty() && added != known {
        wrong.push(format!("{name}: the server is told {added:?} besides"));
    }
    notes
}

#[tokio::test]
async fn every_client_gets_from_every_server_what_it_gets_without_a_sidecar() {
    let folder = tempfile::tempdir().unwrap();
    let Some(programs) = Programs::find(folder.path()).await else { return };
    let app = policy::service("app", &servers::ports());
    let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &app])).await;
    let mut caller = mesh.pod("caller");
    for server in 0..SERVERS.len() {
        caller = caller.upstream("test/app", servers::service_port(server));
    }
    let caller = caller.start().await;
    let app = mesh.pod("app").start().await;
    let _servers = servers::start(&programs, mesh.folder(), app.sidecar.ip()).await;
    caller.sidecar.sees("test/app", 1).await;

    let mut seen = Seen::default();
    let mut rows = futures_util::stream::iter(0..CLIENTS.len())
        .map(|client| row(client, &programs, &mesh, &caller, &app))
        .buffer_unordered(AT_ONCE);
    while let Some(row) = rows.next().await {
        seen.through.extend(row.through);
        seen.direct.extend(row.direct);
    }
    let mut wrong = Vec::new();
    let table: Vec<_> = (0..CLIENTS.len()).map(|client| row_of(client, &seen, &mut wrong)).collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    reference::hold(page::PAGE, &page::text(&table));
}
