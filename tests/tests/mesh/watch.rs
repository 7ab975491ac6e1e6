//! Answers of the admin port that go on: what has changed, a line of JSON each.

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Call, Connection};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Sidecar};
use outrider_tests::{policy, wait};
use serde_json::Value;

struct Lines {
    body: Incoming,
    read: BytesMut,
    _connection: Connection,
}

impl Lines {
    async fn of(sidecar: &Sidecar, path: &str) -> Result<Self, u16> {
        let at = sidecar.at(port::ADMIN);
        let mut connection = Connection::open(at, Speaks::Http1).await.expect("it listens");
        let answer = connection.begin(Call::get(&at.to_string(), path)).await.expect("an answer");
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        Ok(Self { body: answer.into_body(), read: BytesMut::new(), _connection: connection })
    }

    async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end + 1);
                if line.len() > 1 {
                    return serde_json::from_slice(&line).expect("a line of JSON");
                }
                continue;
            }
            let frame = wait::bounded("a line", self.body.frame()).await.expect("no end").expect("no break");
            self.read.extend_from_slice(&frame.into_data().expect("no trailers"));
        }
    }

    /// The next line that is as it is wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let found = async { while !wanted(&self.next().await) {} };
        wait::bounded(what, found).await;
    }
}

#[tokio::test]
async fn a_watcher_of_upstreams_is_told_of_each_that_changes_and_of_no_other() {
    let parts = [
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("alpha", 8080),
        &policy::http("beta", 8080),
    ];
    let mesh = Mesh::start(&policy::documents(&parts)).await;
    let caller = mesh.pod("caller").start().await;
    let _alpha = mesh.pod("alpha").app(port::APP, Speaks::Http1).start().await;
    let _beta = mesh.pod("beta").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/alpha", 1).await;
    caller.sidecar.sees("test/beta", 1).await;
    let call = async |host: &str| {
        let answer = wait::bounded("an answer", Call::get(host, "/").send(caller.outbound())).await;
        assert_eq!(answer.expect("an answer").status, 200);
    };
    let mut lines = Lines::of(&caller.sidecar, "/upstreams?watch=1").await.expect("a place");
    call("alpha.test:8080").await;
    lines.until("alpha", |line| line["name"] == "test/alpha" && line["requests"] == 1).await;
    call("beta.test:8080").await;
    lines.until("beta", |line| line["name"] == "test/beta" && line["requests"] == 1).await;
    // A watcher that comes later begins with all of them.
    let mut later = Lines::of(&caller.sidecar, "/upstreams?watch=1").await.expect("a place");
    let mut names = [later.next().await, later.next().await].map(|line| line["name"].clone());
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["test/alpha", "test/beta"]);
    caller.sidecar.get(port::ADMIN, "/upstreams").await.expect("whoever does not watch gets all at once");
}

#[tokio::test]
async fn watchers_are_bounded_and_one_that_leaves_makes_room() {
    let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &policy::http("caller", 8080)])).await;
    let caller = mesh.pod("caller").start().await;
    let mut watchers = Vec::new();
    for n in 0..16 {
        let path = if n % 2 == 0 { "/upstreams?watch=1" } else { "/events?watch=1" };
        watchers.push(Lines::of(&caller.sidecar, path).await.expect("a place"));
    }
    for path in ["/upstreams?watch=1", "/events?watch=1"] {
        assert_eq!(Lines::of(&caller.sidecar, path).await.err(), Some(503));
    }
    watchers.truncate(15);
    wait::until("its place is free", async || {
        Lines::of(&caller.sidecar, "/events?watch=1").await.map(drop).map_err(|status| status.to_string())
    })
    .await;
}
