//! The page of the reference that the matrix writes.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::clients::{CLIENTS, Client};
use crate::grpc;
use crate::matrix::ADDED;
use crate::operation::OPERATIONS;
use crate::servers::{SERVERS, Server};

pub const PAGE: &str = "docs/reference/interop.md";

/// What there is to say of a cell beside that all of it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    OtherVersion,
    Kept,
    EnvoyWants11,
    NotAnew,
}

const NOTES: [Note; 4] = [Note::OtherVersion, Note::Kept, Note::EnvoyWants11, Note::NotAnew];

/// A row: how many connections the client made at each server, and the notes of each cell.
#[derive(Debug)]
pub struct Row {
    pub connections: usize,
    pub notes: Vec<BTreeSet<Note>>,
}

impl Note {
    fn sign(self) -> char {
        match self {
            Self::OtherVersion => '~',
            Self::Kept => 'a',
            Self::EnvoyWants11 => 'b',
            Self::NotAnew => 'c',
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::OtherVersion => {
                "The two have no version of HTTP in common, so there is no direct connection. No difference to the same \
                 client at the\n  same kind of server in the client's version; where the server has none, to the same \
                 kind of proxy over HTTP/1.1, or to\n  what curl gets from the server."
            }
            Self::Kept => {
                "Without a sidecar the server ends the connection after each answer; the client keeps the one to its \
                 sidecar."
            }
            Self::EnvoyWants11 => {
                "Without a sidecar Envoy refuses HTTP/1.0 with 426, as it does unless it is configured to take it."
            }
            Self::NotAnew => {
                "Without a sidecar it fails: h2load does not connect anew when the server ends the connection."
            }
        }
    }

    /// Why a client fails at a server when no sidecar is between them.
    pub fn why_it_fails(client: &Client, server: &Server) -> Option<Self> {
        match (client.kind, client.version, server.kind, server.version) {
            (_, "1.0", "Envoy", "1.1") => Some(Self::EnvoyWants11),
            ("h2load", "1.1", "Python", "1.0") => Some(Self::NotAnew),
            _ => None,
        }
    }
}

const INTRODUCTION: &str = "# Clients and servers

What clients of many kinds get from servers of many kinds through two sidecars, beside what they get without any. This page
is generated from such a run, and a test fails when it is not so: `every_client_gets_from_every_server_what_it_gets_without_a_sidecar`.

In each cell the client does all of this, as far as it can, and every answer must be right: a GET; a POST of 64 KiB that
comes back, once with a length and once without (in chunks over HTTP/1.1); a HEAD; an answer of 204; an answer of 1 MiB; a
GET that is told which fields the server saw. Compared are status, content, every field of the answer that is no
connection's own, the names of the request's fields at the server, and how many connections the client made for all of it.

";

/// The page.
pub fn text(table: &[Row]) -> String {
    let mut text = INTRODUCTION.to_owned();
    let added: Vec<_> = ADDED.iter().map(|field| format!("`{field}`")).collect();
    let _ = write!(
        text,
        "`=` is no difference, but that the app's sidecar adds {} to requests\n(an Envoy as server keeps the \
         last to itself). Other signs are explained below.\n\n## HTTP\n\n",
        added.join(", ")
    );
    let names: Vec<_> = SERVERS.iter().map(Server::name).collect();
    let _ = writeln!(text, "| client | operations | connections | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(SERVERS.len()));
    for (client, row) in CLIENTS.iter().zip(table) {
        let cells: Vec<_> = row.notes.iter().map(cell).collect();
        let (operations, connections) = (client.operations().len(), row.connections);
        let _ =
            writeln!(text, "| {} | {operations} | {connections} | {} |", client.name(), cells.join(" | "));
    }
    text.push('\n');
    for note in NOTES {
        let _ = writeln!(text, "- `{}` {}", note.sign(), note.text());
    }
    let _ = write!(
        text,
        "\nOf the {} operations, HTTP/1.0 has no content without a length, h2load sends none, and its HTTP/1.1 has no HEAD.\n\
         curl 2 asks in a process for each, since some releases of curl cannot use a connection of HTTP/2 with prior\n\
         knowledge twice; nghttp asks twice, for content and for fields; h2load asks for each three times on a connection.\n\
         A proxy as client is asked by curl; Envoy and HAProxy as servers stand before the Go server.\n\n",
        OPERATIONS.len()
    );
    text.push_str(&grpc());
    text
}

fn cell(notes: &BTreeSet<Note>) -> String {
    let exact = if notes.contains(&Note::OtherVersion) { "" } else { "=" };
    let signs: Vec<_> = notes.iter().map(|note| note.sign().to_string()).collect();
    [&[exact.to_owned()], &signs[..]].concat().join(" ").trim().to_owned()
}

/// The cases that `grpc.rs` runs. It fails where one does not pass.
fn grpc() -> String {
    let mut text = "## gRPC\n\nThe interop cases of gRPC's authors, through two sidecars: with their own client and server, \
                    which are in Go, and with a\nclient and a server by Python's grpcio. The last two rows are cases of our \
                    own. Each case that is marked passes.\n\n\
                    | case | Go to Go | grpcio to Go | Go to grpcio | grpcio to grpcio |\n|---|---|---|---|---|\n"
        .to_owned();
    let mut rows = |cases: &[&str], marks: [bool; 4]| {
        for case in cases {
            let marks = marks.map(|passes| if passes { "passes" } else { "" }).join(" | ");
            let _ = writeln!(text, "| `{case}` | {marks} |");
        }
    };
    rows(&grpc::CASES, [true; 4]);
    rows(&grpc::OF_GO_CLIENT, [true, false, true, false]);
    rows(&grpc::OF_GO_PAIR, [true, false, false, false]);
    rows(&grpc::OF_GRPCIO_PAIR, [false, false, false, true]);
    rows(&grpc::OF_GRPCIO_CLIENT, [false, true, false, true]);
    text
}
