//! What a client from outside may ask of a sidecar, and what becomes of it past that.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Version};
use outrider_sidecar::limits::Limits;
use outrider_tests::app::Speaks;
use outrider_tests::authority::Authority;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TLS_PORT: u16 = 21_443;

struct World {
    web: Pod,
    _mesh: Mesh,
}

impl World {
    async fn start(limits: Limits) -> Self {
        let web = policy::service(
            "web",
            &format!(
                "ports: [{{port: 80, targetPort: {app}, appProtocol: http}}], edge: [{{port: {plain}, targetPort: {app}}},
                 {{port: {TLS_PORT}, targetPort: {app}, tls: {{certificateRefs: [{{name: www}}]}}}}]",
                app = port::APP,
                plain = port::EDGE,
            ),
        );
        let allow = policy::authorization("web", "web", "Enforce", "Allow", "[{from: [{external: true}]}]");
        let mesh = Mesh::start(&policy::documents(&[policy::OPEN, &web, &allow])).await;
        Authority::new("public.example").publish(mesh.folder(), "www", &["www.example"]);
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).limits(limits);
        let web = web.edge_certificate(mesh.folder(), "www").start().await;
        Self { web, _mesh: mesh }
    }

    fn edge(&self) -> SocketAddr {
        self.web.sidecar.at(port::EDGE)
    }

    async fn cut(&self, reason: &str, least: f64) {
        let reason = format!("reason=\"{reason}\"");
        self.web.sidecar.counts("outrider_connections_cut_total", &[&reason], least).await;
    }
}

/// Waits until the other side closes; what it sent before.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    // A reset is an end too.
    let _ = wait::bounded("the sidecar closes", stream.read_to_end(&mut got)).await;
    got
}

#[tokio::test]
async fn a_head_past_its_bounds_gets_the_status_that_says_so_over_both_versions() {
    let limits = Limits { fields: 20, target_bytes: 300, ..Limits::default() };
    let world = World::start(limits).await;
    let many = |call: Call| (0..21).fold(call, |call, n| call.header(&format!("x-{n}"), "1"));
    let long = format!("/{}", "a".repeat(300));
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let send = async |call: Call| call.speaks(speaks).send(world.edge()).await.unwrap();
        assert_eq!(send(Call::get("www.example", &long[..299])).await.status, 200, "{speaks:?}");
        assert_eq!(send(many(Call::get("www.example", "/"))).await.status, 431, "{speaks:?}");
        assert_eq!(send(Call::get("www.example", &long)).await.status, 414, "{speaks:?}");
    }
    let metric = "outrider_malformed_messages_total";
    world.web.sidecar.counts(metric, &["reason=\"too_many_fields\""], 2.0).await;
    world.web.sidecar.counts(metric, &["reason=\"target_too_long\""], 2.0).await;
    assert_eq!(world.web.app().seen().len(), 2);
}

#[tokio::test]
async fn a_head_that_is_just_within_its_bounds_passes_two_sidecars_which_add_to_it() {
    let documents =
        policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::http("web", 8080)]);
    let mesh = Mesh::start(&documents).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        // The app is one that takes 100 fields itself; by the count of HTTP/2 these are 64 KiB with what is added.
        let value = "v".repeat(640);
        let call = Call::get("web.test:8080", "/").speaks(speaks);
        let call = (0..95).fold(call, |call, n| call.header(&format!("x-{n}"), &value));
        let answer = call.send(caller.outbound()).await.unwrap();
        assert_eq!(answer.status, 200, "{speaks:?}: {answer:?}");
        let seen = web.app().seen().pop().unwrap();
        assert!(seen.headers.keys().filter(|name| name.as_str().starts_with("x-")).count() >= 95);
    }
}

#[tokio::test]
async fn one_address_cannot_take_all_connections_and_another_is_not_in_its_way() {
    let world = World::start(Limits { connections_per_address: 4, ..Limits::default() }).await;
    // The edge and the mesh's port count together.
    let mut held = Vec::new();
    for at in [world.edge(), world.web.sidecar.inbound(), world.edge(), world.edge()] {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    let mut fifth = TcpStream::connect(world.edge()).await.unwrap();
    assert_eq!(closed(&mut fifth).await, b"");
    world.cut("per_address", 1.0).await;

    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(world.edge()).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(closed(&mut other).await.starts_with(b"HTTP/1.1 200"));
    held.pop();
    wait::until("a place is free", async || {
        Call::get("x", "/").send(world.edge()).await.map_err(|error| format!("{error:?}"))
    })
    .await;
}

#[tokio::test]
async fn who_says_nothing_holds_nothing_for_long() {
    let world = World::start(Limits { head_s: 1, idle_s: 1, handshake_s: 1, ..Limits::default() }).await;
    // Nothing at all, half a head, and half a handshake.
    let mut silent = TcpStream::connect(world.edge()).await.unwrap();
    assert_eq!(closed(&mut silent).await, b"");
    let mut slow = TcpStream::connect(world.edge()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    assert!(closed(&mut slow).await.starts_with(b"HTTP/1.1 408"));
    let mut shaking = TcpStream::connect(world.web.sidecar.at(TLS_PORT)).await.unwrap();
    shaking.write_all(&[0x16, 3, 1, 0, 200]).await.unwrap();
    closed(&mut shaking).await;
    let metric = "outrider_edge_tls_handshake_failures_total";
    world.web.sidecar.counts(metric, &["reason=\"timeout\""], 1.0).await;
    // A connection that has had its request.
    let mut idle = TcpStream::connect(world.edge()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(closed(&mut idle).await.starts_with(b"HTTP/1.1 200"));
    let (mut send, connection) = http2(world.edge()).await;
    let (answer, _) = send.send_request(get(), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    wait::bounded("GOAWAY", connection).await.unwrap().expect("it ends well");
}

type Ended = tokio::task::JoinHandle<Result<(), h2::Error>>;

async fn http2(at: SocketAddr) -> (h2::client::SendRequest<Bytes>, Ended) {
    let tcp = TcpStream::connect(at).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    (send, tokio::spawn(connection))
}

fn get() -> Request<()> {
    let request = Request::builder().method(Method::GET).uri("http://www.example/").version(Version::HTTP_2);
    request.body(()).unwrap()
}

/// Opens streams and resets each, at most `at_once` of them at a time, until the connection ends or `count` are through.
async fn reset(at: SocketAddr, count: usize, world: &World) -> Result<(), h2::Error> {
    let (send, connection) = http2(at).await;
    for _ in 0..count {
        let begun = world.web.app().begun();
        let Ok(mut send) = send.clone().ready().await else { break };
        let mut request = get();
        request.headers_mut().insert("x-app", "hold".parse().unwrap());
        let Ok((answer, mut stream)) = send.send_request(request, false) else { break };
        // Past the sidecar's own accept: what is reset before it is bounded by the codec.
        wait::until("the app has it, or the connection has ended", async || {
            if world.web.app().begun() > begun || connection.is_finished() {
                Ok(())
            } else {
                Err("neither".to_owned())
            }
        })
        .await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
    }
    drop(send);
    wait::bounded("the connection ends", connection).await.unwrap()
}

#[tokio::test]
async fn a_client_that_resets_stream_after_stream_is_told_to_calm_down_and_others_are_not() {
    let world = World::start(Limits { resets_per_second: 5, ..Limits::default() }).await;
    let ended = reset(world.edge(), 200, &world).await;
    let error = ended.expect_err("it is thrown out");
    assert_eq!(error.reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");
    world.cut("reset_flood", 1.0).await;
    assert_eq!(Call::get("www.example", "/").http2().send(world.edge()).await.unwrap().status, 200);
    // A few of them are what a client does that is left.
    let gentle = World::start(Limits::default()).await;
    reset(gentle.edge(), 20, &gentle).await.expect("it ends well");
    let cut = gentle.web.sidecar.metric("outrider_connections_cut_total", &[]).await.unwrap();
    assert!(cut < 0.5, "{cut}");
}

#[tokio::test]
async fn a_client_from_outside_has_so_many_streams_at_once_and_the_app_of_a_sidecar_more() {
    let world = World::start(Limits { streams: 3, ..Limits::default() }).await;
    for (at, streams) in [(world.edge(), 3), (world.web.outbound(), 1_024)] {
        let (send, _connection) = http2(at).await;
        let send = wait::bounded("room", send.ready()).await.unwrap();
        wait::until("the sidecar's SETTINGS", async || {
            let now = send.current_max_send_streams();
            if now == streams { Ok(()) } else { Err(format!("{now}")) }
        })
        .await;
    }
}
