//! Where every case runs: one mesh with a recording app, and the ways that lead to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use outrider_tests::loopback::port;
use outrider_tests::mesh::offline::Offline;
use outrider_tests::mesh::sidecar::Sidecar;
use outrider_tests::policy;
use outrider_tests::raw::client::{self, End, Heard, Manner};
use outrider_tests::raw::message::{Message, Read};
use outrider_tests::raw::recorder::{Record, Recorder};
use outrider_tests::raw::script::Step;

use crate::judge::Ended;
use crate::table::{Case, Names};

/// Within this time a case has ended on its own. The sidecar gives a head 10 s.
const BOUND: Duration = Duration::from_secs(14);
/// Cases under way on one way at a time.
const AT_ONCE: usize = 24;

/// A way to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through both sidecars.
    Mesh,
    /// From outside, through the app's own sidecar.
    Edge,
    Envoy,
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Edge => "edge",
            Self::Envoy => "envoy",
        }
    }
}

/// What the app answers to which request, by the id in its target; to others, what it was asked.
type Answers = Arc<Mutex<HashMap<String, Vec<Step>>>>;

/// See the module.
pub struct World {
    pub caller: Sidecar,
    pub web: Sidecar,
    pub recorder: Recorder,
    answers: Answers,
    // Last: the others' files lie in its folder.
    _offline: Offline,
}

/// By which the app's service is called.
pub const HOST: &str = "web.test:8080";

impl World {
    pub async fn start() -> Self {
        let web = format!(
            "ports: [{{port: 8080, targetPort: {app}, appProtocol: http}}], edge: [{{port: {edge}, targetPort: {app}}}]",
            app = port::APP,
            edge = port::EDGE,
        );
        let documents = policy::documents(&[
            policy::OPEN,
            &policy::http("caller", 8080),
            &policy::service("web", &web),
            &policy::authorization(
                "web",
                "web",
                "Enforce",
                "Allow",
                "[{from: [{external: true}, {spiffe: [\"spiffe://test.mesh/ns/test/sa/caller\"]}]}]",
            ),
        ]);
        let mut offline = Offline::new(&documents);
        let caller_place = offline.unlisted("caller");
        let web_place = offline.place("web");
        let answers = Answers::default();
        let known = Arc::clone(&answers);
        let recorder = Recorder::start(web_place.at(port::APP), move |request| {
            let id = id_in(request.target().as_bytes()).filter(|_| !is_extra(request.target()));
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            id.and_then(|id| known.get(&id).cloned()).unwrap_or_else(|| vec![Step::Send(echo(request))])
        });
        let caller = offline.start(&caller_place).await;
        let web = offline.start(&web_place).await;
        Self { caller, web, recorder, answers, _offline: offline }
    }

    pub fn at(&self, way: Way) -> SocketAddr {
        match way {
            Way::Mesh => self.caller.outbound(),
            Way::Edge => self.web.at(port::EDGE),
            Way::Envoy => panic!("Envoy is none of the mesh's"),
        }
    }

    /// Requests of a table on one way; the app answers that it got them.
    pub async fn ask<'c>(&self, way: Way, cases: &'c [Case]) -> Vec<Ended<'c>> {
        let heard = ask(self.at(way), way, cases).await;
        with_records(heard, &self.recorder)
    }

    /// What the app answers to the request of this id.
    pub fn script(&self, names: &Names, text: &str) {
        let steps = names.steps(text);
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).insert(names.id.clone(), steps);
    }

    /// Ordinary requests on one way; the app answers them as a table says.
    pub async fn answer<'c>(&self, way: Way, cases: &'c [Case]) -> Vec<Ended<'c>> {
        for (number, case) in cases.iter().enumerate() {
            self.script(&names(number, way), &case.bytes);
        }
        self.ask(way, cases).await
    }
}

/// What the client heard of each case, and whether another connection was served after it.
type Asked<'c> = (&'c Case, Names, Heard, Result<(), String>);

/// Sends every case's requests to `address`, many at once.
pub async fn ask(address: SocketAddr, way: Way, cases: &[Case]) -> Vec<Asked<'_>> {
    let mut asked: Vec<_> = futures_util::stream::iter(cases.iter().enumerate())
        .map(|(number, case)| async move { (number, ask_one(address, case, names(number, way)).await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    asked.sort_by_key(|(number, _)| *number);
    asked.into_iter().map(|(_, asked)| asked).collect()
}

/// Sorts what the app recorded to the cases that it belongs to. What belongs to none is nothing that a client sent.
pub fn with_records<'c>(asked: Vec<Asked<'c>>, recorder: &Recorder) -> Vec<Ended<'c>> {
    let mut by_id = by_id(recorder);
    let ended = asked.into_iter().map(|(case, names, heard, after)| {
        let mut records = by_id.remove(&names.id).unwrap_or_default();
        records.retain(|record| !(is_whole(record) && is_after(record)));
        Ended { case, names, heard, records, after }
    });
    ended.collect()
}

/// All that the app recorded, by the id in it.
pub fn by_id(recorder: &Recorder) -> HashMap<String, Vec<Record>> {
    let mut by_id: HashMap<String, Vec<Record>> = HashMap::new();
    for record in recorder.records() {
        match id_in(&record.raw) {
            Some(id) => by_id.entry(id).or_default().push(record),
            None => panic!("the app got what no case sent: {}", crate::judge::shown(&record.raw)),
        }
    }
    by_id
}

pub fn is_whole(record: &Record) -> bool {
    matches!(record.read, Read::Whole { .. })
}

pub fn is_after(record: &Record) -> bool {
    matches!(&record.read, Read::Whole { message, .. } if message.target().ends_with("-after"))
}

/// Requests beside those of the case itself.
fn is_extra(target: &str) -> bool {
    ["-after", "-probe", "-next"].iter().any(|ending| target.ends_with(ending))
}

pub fn names(number: usize, way: Way) -> Names {
    Names { id: format!("q{number:04}-{}", way.name()), host: HOST.to_owned() }
}

/// The first id in these bytes.
fn id_in(bytes: &[u8]) -> Option<String> {
    let at = bytes.windows(6).position(|window| {
        window[0] == b'q' && window[5] == b'-' && window[1..5].iter().all(u8::is_ascii_digit)
    })?;
    let way = [Way::Mesh, Way::Edge, Way::Envoy]
        .into_iter()
        .find(|way| bytes[at + 6..].starts_with(way.name().as_bytes()))?;
    Some(format!("{}{}", String::from_utf8_lossy(&bytes[at..at + 6]), way.name()))
}

/// What the app answers by itself: that it got this request and no other.
pub fn echo(request: &Message) -> Vec<u8> {
    let asked = format!("{} {}", request.method(), request.target());
    let body = if request.method() == "HEAD" { "" } else { &asked };
    let length = asked.len();
    format!("HTTP/1.1 200 OK\r\nx-echo: {asked}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

async fn ask_one(address: SocketAddr, case: &Case, names: Names) -> Asked<'_> {
    let methods = case.methods();
    let extra = |what: &str| {
        let text =
            format!("GET /{{id}}-{what} HTTP/1.1\\r\\nHost: {{host}}\\r\\nConnection: close\\r\\n\\r\\n");
        names.bytes(&text)
    };
    let manner = Manner {
        methods: &methods,
        answers: case.answers(),
        by_byte: case.by_byte,
        probe: Some(extra("probe")),
        bound: BOUND,
    };
    let heard = client::converse(address, &names.steps(case.sends()), &manner).await;
    let manner = Manner { methods: &[], answers: 1, by_byte: false, probe: None, bound: BOUND };
    let after = client::converse(address, &[Step::Send(extra("after"))], &manner).await;
    let echoed = after.answers.first().and_then(|answer| answer.value("x-echo"));
    let after = match echoed {
        Some(echo) if echo == format!("GET /{}-after", names.id) && after.end != End::Open => Ok(()),
        _ => Err(format!("{after:?}")),
    };
    (case, names, heard, after)
}

/// Fails with every case that did not end as it must, in one table; those in `known` must still fail.
pub fn settle(table: &str, ways: &[(Way, &Vec<Ended<'_>>)], known: &[(&str, &str)]) {
    let mut lines = Vec::new();
    let mut count = 0;
    for (way, one) in ways.iter().flat_map(|(way, ended)| ended.iter().map(move |one| (way, one))) {
        count += 1;
        let name = format!("{table}, {}: {}", way.name(), one.case.name);
        let is_known = known.iter().any(|(known, _)| *known == name);
        match (one.judge(), is_known) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => lines.push(format!("{name}\n    it ends well now: strike it off the list")),
            (Err(why), false) => lines.push(format!(
                "{name}\n    wanted {}\n    got    {why}\n    heard  {} ({:?} after {:?})",
                one.case.wanted(),
                one.in_short(),
                one.heard.end,
                one.heard.took,
            )),
        }
    }
    assert!(lines.is_empty(), "{} of {count} cases:\n{}", lines.len(), lines.join("\n"));
}
