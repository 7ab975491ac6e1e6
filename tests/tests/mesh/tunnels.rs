//! What is no request and answer: `WebSocket`s, CONNECT, and TCP of which nothing is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use http::Method;
use outrider_tests::app::Speaks;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{call, net, policy, process, third_party, tools, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn pair(app: &str) -> (Mesh, Pod, Pod) {
    let mesh = mesh(app).await;
    let caller = mesh.pod("caller").upstream("test/app", 8080).start().await;
    let app = mesh.pod("app").start().await;
    (mesh, caller, app)
}

async fn mesh(app: &str) -> Mesh {
    Mesh::start(&policy::documents(&[policy::OPEN, &policy::http("caller", 8080), app])).await
}

/// The same with an app of the harness.
async fn pair_with_app() -> (Mesh, Pod, Pod) {
    let mesh = mesh(&policy::http("app", 8080)).await;
    let caller = mesh.pod("caller").start().await;
    let app = mesh.pod("app").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/app", 1).await;
    (mesh, caller, app)
}

fn tcp() -> String {
    policy::service("app", "ports: [{port: 8080, targetPort: 21080, appProtocol: tcp}]")
}

/// Every section of Autobahn's cases: framing to reservations, fragments, UTF-8, closing and limits; large and many messages;
/// compression, by one offer and by several.
const AUTOBAHN: [&[&str]; 4] =
    [&["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"], &["9.*"], &["12.*"], &["13.*"]];

/// What each case has come to, once or more.
type Verdicts = BTreeMap<String, BTreeSet<String>>;

/// The verdicts of these cases against a server at `address`.
async fn autobahn(python: &std::path::Path, address: SocketAddr, cases: &[&str]) -> Verdicts {
    let script = third_party::script("autobahn.py").display().to_string();
    let address = address.to_string();
    let printed = process::run(python, [&*script, &*address].iter().chain(cases)).await;
    let lines = printed.lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(case, verdict)| (case.to_owned(), BTreeSet::from([verdict.to_owned()]))).collect()
}

async fn all_of_autobahn(python: &std::path::Path, address: SocketAddr) -> Verdicts {
    let mut verdicts = Verdicts::new();
    for cases in AUTOBAHN {
        verdicts.extend(autobahn(python, address, cases).await);
    }
    verdicts
}

/// The cases that have never come to the same directly and through the mesh, with what they came to.
fn differing([direct, through]: &[Verdicts; 2]) -> BTreeMap<String, [BTreeSet<String>; 2]> {
    let both =
        direct.iter().map(|(case, direct)| (case, direct, through.get(case).cloned().unwrap_or_default()));
    let differ = both.filter(|(_, direct, through)| direct.is_disjoint(through));
    differ.map(|(case, direct, through)| (case.clone(), [direct.clone(), through])).collect()
}

#[tokio::test]
async fn no_case_of_autobahn_comes_out_differently_through_two_sidecars() {
    let Some(python) = tools::WEBSOCKETS.find() else { return };
    let (mesh, caller, app) = pair(&policy::http("app", 8080)).await;
    let address = app.sidecar.at(port::APP);
    let _server = third_party::websocket_server(&python, mesh.folder(), address).await;
    caller.sidecar.sees("test/app", 1).await;
    let through = caller.sidecar.upstream(0);
    let mut seen = [all_of_autobahn(&python, address).await, all_of_autobahn(&python, through).await];
    assert_eq!(seen.each_ref().map(BTreeMap::len), [349, 349], "all of them run");
    // A server that fails a connection early answers what came before only where that came by itself: how bytes fall together on
    // their way is nobody's promise, directly or through a mesh. Such a case is tried again on both ways, until both have shown
    // the same.
    for _ in 0..8 {
        let other: Vec<String> = differing(&seen).into_keys().collect();
        if other.is_empty() {
            break;
        }
        let other: Vec<&str> = other.iter().map(String::as_str).collect();
        for (seen, address) in seen.iter_mut().zip([address, through]) {
            for (case, verdicts) in autobahn(&python, address, &other).await {
                seen.entry(case).or_default().extend(verdicts);
            }
        }
    }
    assert_eq!(differing(&seen), BTreeMap::new());
}

#[tokio::test]
async fn an_upgrade_that_nobody_may_ask_for_is_an_ordinary_request() {
    let (_mesh, caller, app) = pair_with_app().await;
    let request = "GET /a HTTP/1.1\r\nHost: app.test:8080\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = call::raw(caller.outbound(), request.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200);
    let seen = app.app().seen().pop().unwrap();
    for gone in ["upgrade", "http2-settings"] {
        assert_eq!(seen.header(gone), None, "{seen:?}");
    }
}

#[tokio::test]
async fn an_app_that_ignores_the_wish_for_a_websocket_answers_as_ever() {
    let (_mesh, caller, app) = pair_with_app().await;
    let request = "GET /a HTTP/1.1\r\nHost: app.test:8080\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut client = TcpStream::connect(caller.outbound()).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    // The connection goes on as one of HTTP/1.1.
    client.write_all(b"GET /b HTTP/1.1\r\nHost: app.test:8080\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answers = String::new();
    wait::bounded("both answers", client.read_to_string(&mut answers)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert_eq!(app.app().seen().len(), 2);
}

#[tokio::test]
async fn tcp_passes_byte_for_byte_and_each_half_closes_by_itself() {
    let (_mesh, caller, app) = pair(&tcp()).await;
    let _echo = net::echo(app.sidecar.at(port::APP)).await;
    caller.sidecar.sees("test/app", 1).await;
    let mut listener = TcpStream::connect(caller.sidecar.upstream(0)).await.unwrap();
    echoes(&mut listener).await;
    let mut connect = TcpStream::connect(caller.outbound()).await.unwrap();
    let head = "CONNECT app.test:8080 HTTP/1.1\r\nHost: app.test:8080\r\n\r\n";
    connect.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 19];
    wait::bounded("the answer to CONNECT", connect.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
    echoes(&mut connect).await;
}

#[tokio::test]
async fn a_tcp_connection_that_is_reset_at_one_end_is_reset_at_the_other() {
    let (_mesh, caller, app) = pair(&tcp()).await;
    let listener = tokio::net::TcpListener::bind(app.sidecar.at(port::APP)).await.unwrap();
    caller.sidecar.sees("test/app", 1).await;
    for app_resets in [true, false] {
        let mut client = TcpStream::connect(caller.sidecar.upstream(0)).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        let mut server = loop {
            let (mut server, _) = wait::bounded("a connection", listener.accept()).await.unwrap();
            // The sidecar looks from time to time whether its app listens.
            if server.read_exact(&mut hello).await.is_ok() {
                break server;
            }
        };
        server.write_all(b"world").await.unwrap();
        client.read_exact(&mut hello).await.unwrap();
        let (resets, mut other) = if app_resets { (server, client) } else { (client, server) };
        resets.set_zero_linger().unwrap();
        drop(resets);
        let ended = wait::bounded("its end", other.read(&mut hello)).await;
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "{app_resets}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_its_websocket_is_open_leaves_no_request_behind() {
    let (_mesh, caller, app) = pair_with_app().await;
    let plan = outrider_tests::app::PLAN;
    let head = format!(
        "GET / HTTP/1.1\r\nHost: app.test:8080\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{plan}: hold\r\n\r\n"
    );
    let mut client = TcpStream::connect(caller.outbound()).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let in_use = async |expected: u64| {
        wait::until("requests under way", async || {
            let view = app.sidecar.upstream_view(&format!("inbound:{}", port::APP)).await?;
            if view["in_use"] == expected { Ok(()) } else { Err(view.to_string()) }
        })
        .await;
    };
    in_use(1).await;
    drop(client);
    in_use(0).await;
}

/// Sends a mebibyte, closes that half, and reads it back to the end.
async fn echoes(stream: &mut TcpStream) {
    let sent: Vec<u8> = (0..1_u32 << 20).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let (mut read, mut write) = stream.split();
    let writing = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), read) =
        wait::bounded("the echo", async { tokio::join!(writing, read.read_to_end(&mut got)) }).await;
    read.unwrap();
    assert!(got == sent, "{} of {} bytes came back", got.len(), sent.len());
}

#[tokio::test]
async fn connections_that_stay_open_take_no_request_its_turn() {
    let (_mesh, caller, app) = pair(&tcp()).await;
    let _echo = net::echo(app.sidecar.at(port::APP)).await;
    caller.sidecar.sees("test/app", 1).await;
    // More than the limit that an app begins with.
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(caller.sidecar.upstream(0)).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut back = [0];
        wait::bounded("a byte back", stream.read_exact(&mut back)).await.unwrap();
        open.push(stream);
    }
    let view = app.sidecar.upstream_view(&format!("inbound:{}", port::APP)).await.unwrap();
    assert_eq!((&view["in_use"], &view["actor"]["queue"]["admitted"]), (&0.into(), &0.into()), "{view}");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let (_mesh, caller, app) = pair(&tcp()).await;
    let _greets = net::greets(app.sidecar.at(port::APP), b"220 mail ESMTP\r\n").await;
    caller.sidecar.sees("test/app", 1).await;
    let mut stream = TcpStream::connect(caller.sidecar.upstream(0)).await.unwrap();
    let mut greeting = [0; 16];
    wait::bounded("the greeting", stream.read_exact(&mut greeting)).await.unwrap();
    assert_eq!(&greeting, b"220 mail ESMTP\r\n");
}

#[tokio::test]
async fn http_does_not_reach_a_tcp_port_nor_a_tunnel_an_http_port() {
    let (_mesh, caller, app) = pair(&tcp()).await;
    let _echo = net::echo(app.sidecar.at(port::APP)).await;
    caller.sidecar.sees("test/app", 1).await;
    let refused = Call::get("app.test:8080", "/").send(caller.outbound()).await.unwrap();
    assert_eq!(refused.refusal().label, "malformed_request");
    let refused = Call::new(Method::GET, "caller.test:8080", "/").send(caller.outbound()).await.unwrap();
    assert_eq!(refused.refusal().label, "no_endpoint");
    let connect = "CONNECT caller.test:8080 HTTP/1.1\r\nHost: caller.test:8080\r\nConnection: close\r\n\r\n";
    let refused = call::raw(caller.outbound(), connect.as_bytes()).await.unwrap();
    assert_eq!(refused.refusal().label, "malformed_request");
}
