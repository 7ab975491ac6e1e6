//! Long bodies: every byte arrives, memory does not grow with them, and a slow reader slows the writer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::BodyExt as _;
use outrider_tests::app::{PLAN, Speaks};
use outrider_tests::call::{Answer, Call, Connection};
use outrider_tests::loopback::port;
use outrider_tests::mesh::Mesh;
use outrider_tests::pattern::{Pattern, Reader};
use outrider_tests::{policy, wait};

use crate::data_path::{BOTH, Pair};

const MIB: u64 = 1 << 20;
/// What both sidecars' windows, TLS and socket buffers may hold of one body together. Loopback sockets alone take some
/// 6 MiB each way on each of three connections.
const UNDERWAY_BYTES_MAX: u64 = 64 * MIB;
/// A body that nobody reads to its end. Larger by far than anything that may be buffered.
const LONG_BYTES: u64 = 256 * MIB;
/// A body that is read to its end: many times what both ends may buffer of it, and a thousand windows of a stream.
const WHOLE_BYTES: u64 = 1_088 * MIB;

#[tokio::test]
async fn more_than_a_gibibyte_each_way_arrives_whole_in_constant_memory() {
    let policy = policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http2("web2", 8080),
        &policy::http("web", 8080),
    ]);
    let mesh = Mesh::start(&policy).await;
    let mut caller = mesh.pod("caller").in_process(&[]).start().await;
    let mut web = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    let mut web2 = mesh.pod("web2").app(port::APP, Speaks::Http2).in_process(&[]).start().await;
    for (service, pod) in [("web", &mut web), ("web2", &mut web2)] {
        caller.sidecar.sees(&format!("test/{service}"), 1).await;
        let host = format!("{service}.test:8080");
        // Once before, so that what is allocated once is there.
        Call::post(&host, "/", "x").send(caller.outbound()).await.unwrap();
        let before = (caller.sidecar.process().resident_bytes(), pod.sidecar.process().resident_bytes());
        let call =
            Call::post(&host, "/", "").body(Pattern::new(WHOLE_BYTES)).plan(&format!("bytes={WHOLE_BYTES}"));
        let answer = call.send(caller.outbound()).await.unwrap();
        assert_eq!(answer.pattern, Reader { length: WHOLE_BYTES, differs: false }, "{service}: the answer");
        let seen = pod.app().seen().pop().unwrap();
        assert_eq!(seen.pattern, Reader { length: WHOLE_BYTES, differs: false }, "{service}: the request");
        for (name, before, process) in
            [("caller", before.0, caller.sidecar.process()), (service, before.1, pod.sidecar.process())]
        {
            let grown = process.resident_bytes().saturating_sub(before);
            assert!(grown < UNDERWAY_BYTES_MAX / 2, "the sidecar of {name} grew by {} MiB", grown / MIB);
        }
    }
}

/// Waits until a counter of bytes stands still, and says where.
async fn stands_still(what: &str, read: impl Fn() -> u64) -> u64 {
    let mut last = (read(), tokio::time::Instant::now());
    wait::until(what, async || {
        let now = read();
        if now != last.0 {
            last = (now, tokio::time::Instant::now());
        }
        // Long enough for anything that only waits for its turn on a loaded machine.
        if now > 0 && last.1.elapsed() > Duration::from_millis(700) {
            Ok(now)
        } else {
            Err(format!("at {now}"))
        }
    })
    .await
}

#[tokio::test]
async fn an_app_that_does_not_read_stops_the_caller_from_writing() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (pod, host) = pair.app(app);
            pod.app().close_gate();
            let body = Pattern::new(LONG_BYTES);
            let produced = body.produced();
            let call = Call::post(host, "/", "").body(body).speaks(client).plan("stall,bytes=1");
            let outbound = pair.caller.outbound();
            let answer = tokio::spawn(async move { call.send(outbound).await });
            let stopped =
                stands_still("the caller's body stands still", || produced.load(Ordering::Relaxed)).await;
            assert!(
                stopped < UNDERWAY_BYTES_MAX,
                "{client:?} to {app:?}: {} MiB were taken unread",
                stopped / MIB
            );
            // The rest of the case would only move bytes: it is enough that this caller goes away.
            answer.abort();
            pod.app().open_gate();
        }
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_the_app_from_writing_and_gets_everything_once_it_reads() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (pod, host) = pair.app(app);
            let length = 80 * MIB;
            let before = pod.app().sent();
            let mut connection = Connection::open(pair.caller.outbound(), client).await.unwrap();
            let call = Call::get(host, "/").speaks(client).plan(&format!("bytes={length}"));
            let begun = wait::bounded("an answer's head", connection.begin(call)).await.unwrap();
            let stopped = stands_still("the app's answer stands still", || pod.app().sent() - before).await;
            assert!(
                stopped < UNDERWAY_BYTES_MAX,
                "{client:?} to {app:?}: {} MiB were taken unread",
                stopped / MIB
            );
            let answer = wait::bounded("the rest", Answer::read(begun)).await.unwrap();
            assert_eq!(answer.pattern, Reader { length, differs: false }, "{client:?} to {app:?}");
        }
    }
}

#[tokio::test]
async fn one_stalled_answer_does_not_hold_up_others_on_the_same_connection_between_sidecars() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        let mut connection = Connection::open(pair.caller.outbound(), Speaks::Http2).await.unwrap();
        let mut unread = Vec::new();
        for _ in 0..4 {
            let call = Call::get(host, "/").http2().plan(&format!("bytes={}", 80 * MIB));
            unread.push(wait::bounded("a head", connection.begin(call)).await.unwrap());
        }
        stands_still("the unread answers stand still", || pod.app().sent()).await;
        for _ in 0..10 {
            let answer = wait::bounded(
                "an answer",
                Call::get(host, "/").plan("bytes=5000").send(pair.caller.outbound()),
            );
            assert_eq!(answer.await.unwrap().pattern.length, 5_000, "{app:?}");
        }
        for begun in unread {
            // Every one of them can still be read: none was given up.
            let mut body = begun.into_body();
            assert!(wait::bounded("a frame", body.frame()).await.unwrap().is_ok());
        }
    }
}

#[tokio::test]
async fn an_answer_that_a_client_has_no_room_for_is_given_up_when_its_time_is_over() {
    let impatient = "[{timeouts: {request: 500ms}, backendRefs: [{name: web, port: 8080}]}]";
    let documents = policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::route("web", "web", 8080, impatient),
    ]);
    let mesh = Mesh::start(&documents).await;
    let caller = mesh.pod("caller").start().await;
    let _web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let tcp = tokio::net::TcpStream::connect(caller.outbound()).await.unwrap();
    let mut client = h2::client::Builder::new();
    let (mut send, connection) =
        client.initial_window_size(0).handshake::<_, bytes::Bytes>(tcp).await.unwrap();
    tokio::spawn(connection);
    let asked = http::Request::get("http://web.test:8080/").header(PLAN, "bytes=10").body(()).unwrap();
    let (answer, _) = send.send_request(asked, true).unwrap();
    let answer = wait::bounded("a head", answer).await.unwrap();
    assert_eq!(answer.status(), 200);
    // All of it lies at the caller's sidecar.
    let ended = wait::bounded("an end", answer.into_body().data()).await;
    assert!(ended.is_some_and(|data| data.is_err_and(|error| error.is_reset())));
}
