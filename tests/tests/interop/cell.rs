//! One client at one server: what came of it, and how that differs from what the two do without a sidecar.

use std::collections::{BTreeMap, BTreeSet};

use crate::operation::{Heard, Seen};

/// What was seen of one client at one address.
#[derive(Debug, Clone)]
pub struct Cell {
    pub heard: Heard,
    /// How many connections the client made.
    pub connections: usize,
}

/// How two cells differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// Without a sidecar this client and this server fail at an operation.
    FailsDirectly(String),
    /// The client keeps a connection which it loses without a sidecar.
    FewerConnections,
    /// The server is told this besides.
    RequestField(String),
    /// Anything else.
    Other(String),
}

/// What of two cells can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    All,
    /// Two clients: what each asks with, and how many connections it takes, is its own.
    Answers,
}

/// Answer fields of a connection, not of an answer, and those that name a moment.
const OF_CONNECTION: [&str; 7] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "trailer",
    "upgrade",
    "date",
    // How long Envoy waited.
    "x-envoy-upstream-service-time",
];
/// The same in requests. `Host` is `:authority` in HTTP/2, and each codec looks after it.
const OF_REQUEST: [&str; 6] = ["connection", "host", "http2-settings", "keep-alive", "te", "upgrade"];

/// Every difference between two cells. None where nobody could tell one from the other.
pub fn differences(through: &Cell, direct: &Cell, compare: Compare) -> BTreeSet<Difference> {
    let mut found = BTreeSet::new();
    for (name, now) in &through.heard {
        let Some(there) = direct.heard.get(name) else { continue };
        match (now, there) {
            (Ok(now), Ok(there)) if there.judge(name).is_ok() => {
                of_answers(name, now, there, &mut found);
                if *name == "seen" && compare == Compare::All {
                    of_requests(now, there, &mut found);
                }
            }
            (Ok(_), there) => {
                let why = there.clone().and_then(|there| there.judge(name)).err().unwrap_or_default();
                found.insert(Difference::FailsDirectly(format!("{name}: {why}")));
            }
            (Err(why), _) => {
                found.insert(Difference::Other(format!("{name}: {why}")));
            }
        }
    }
    let (now, there) = (through.connections, direct.connections);
    // A client that fails may have given up early.
    let failed = found.iter().any(|difference| matches!(difference, Difference::FailsDirectly(_)));
    if compare == Compare::All && now != there && !failed {
        let fewer = now < there;
        let more = || Difference::Other(format!("{now} connections, {there} without a sidecar"));
        found.insert(if fewer { Difference::FewerConnections } else { more() });
    }
    found
}

fn of_requests(now: &Seen, there: &Seen, found: &mut BTreeSet<Difference>) {
    let (Some(now), Some(there)) = (&now.text, &there.text) else { return };
    let (now, there) = (names(now), names(there));
    found.extend(now.difference(&there).map(|name| Difference::RequestField(name.clone())));
    found.extend(
        there.difference(&now).map(|name| Difference::Other(format!("the server is not told {name}"))),
    );
}

/// A request's field names as the server wrote them.
fn names(text: &str) -> BTreeSet<String> {
    text.split(' ').filter(|name| !name.is_empty() && !OF_REQUEST.contains(name)).map(str::to_owned).collect()
}

fn of_answers(name: &str, now: &Seen, there: &Seen, found: &mut BTreeSet<Difference>) {
    let mut differ = |what: &str, now: &dyn std::fmt::Debug, there: &dyn std::fmt::Debug| {
        let text = format!("{name}: {what} {now:?}, {there:?} without a sidecar");
        found.insert(Difference::Other(text));
    };
    if now.status != there.status {
        differ("status", &now.status, &there.status);
    }
    // What the server was told is its content here, and differs.
    let told = name == "seen";
    if now.length != there.length && !told {
        differ("length", &now.length, &there.length);
    }
    if let (Some(now), Some(there)) = (fields(now), fields(there)) {
        for field in now.keys().chain(there.keys()).collect::<BTreeSet<_>>() {
            let (now, there) = (now.get(field), there.get(field));
            if now != there && !(told && field == "content-length") {
                differ(field, &now, &there);
            }
        }
    }
}

fn fields(seen: &Seen) -> Option<BTreeMap<String, String>> {
    let mut fields = seen.fields.clone()?;
    fields.retain(|name, _| !OF_CONNECTION.contains(&name.as_str()));
    Some(fields)
}
