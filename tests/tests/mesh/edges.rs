//! Callers from outside: TLS of both versions, certificates that change, and who is believed about where they come from.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use outrider_tests::app::Speaks;
use outrider_tests::authority::Authority;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::peer::Hello;
use outrider_tests::{policy, process, tools, wait};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

const TLS_PORT: u16 = 21_443;
static BOTH: &[&rustls::SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// `web` with an edge in plaintext and one over TLS, open to anybody.
fn documents(mesh: &str, tls: &str) -> String {
    let mesh = format!("{}{mesh}", policy::OPEN);
    let web = policy::service(
        "web",
        &format!(
            "ports: [{{port: 80, targetPort: {app}, appProtocol: http}}],
             edge: [{{port: {plain}, targetPort: {app}}}, {{port: {TLS_PORT}, targetPort: {app}, tls: {{{tls}}}}}]",
            app = port::APP,
            plain = port::EDGE,
        ),
    );
    let allow = policy::authorization("web", "web", "Enforce", "Allow", "[{from: [{external: true}]}]");
    policy::documents(&[&mesh, &web, &allow])
}

const CERTIFICATES: &str = "certificateRefs: [{name: www}, {kind: Secret, name: api}]";

/// The certificates' own authority is none of the mesh's.
struct Edge {
    public: Authority,
    web: Pod,
    mesh: Mesh,
}

impl Edge {
    async fn start(settings: &str) -> Self {
        let mesh = Mesh::start(&documents(settings, CERTIFICATES)).await;
        let public = Authority::new("public.example");
        public.publish(mesh.folder(), "www", &["www.example", "*.www.example"]);
        public.publish(mesh.folder(), "api", &["api.example"]);
        std::fs::write(mesh.folder().join("public.pem"), public.root_pem()).unwrap();
        let web = mesh.pod("web").app(port::APP, Speaks::Http1);
        let web =
            web.edge_certificate(mesh.folder(), "www").edge_certificate(mesh.folder(), "api").start().await;
        Self { public, web, mesh }
    }

    fn at(&self) -> SocketAddr {
        self.web.sidecar.at(TLS_PORT)
    }

    /// curl to a host name that leads to the edge, trusting the public authority alone.
    async fn curl(&self, curl: &Path, host: &str, args: &[&str]) -> String {
        let resolve = format!("{host}:{TLS_PORT}:{}", self.at().ip());
        let trusted = self.mesh.folder().join("public.pem");
        let url = format!("https://{host}:{TLS_PORT}/path");
        let fixed = ["-sS", "--resolve", &resolve, "--cacert", trusted.to_str().unwrap()];
        process::run(curl, fixed.iter().chain(args).chain(&[&*url])).await
    }
}

fn stranger(alpn: &[&[u8]]) -> Hello {
    Hello { credentials: None, alpn: alpn.iter().map(|name| name.to_vec()).collect(), versions: BOTH }
}

#[tokio::test]
async fn curl_comes_in_over_both_versions_of_tls_and_of_http_and_the_app_is_told() {
    let Some(curl) = tools::CURL.find() else { return };
    let edge = Edge::start("").await;
    for (tls, shown) in
        [(["--tlsv1.2", "--tls-max", "1.2"], "1.2"), (["--tlsv1.3", "--tls-max", "1.3"], "1.3")]
    {
        for (http, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let posted =
                [http, "-d", "from curl", "-H", "x-app: status=202", "-H", "x-forwarded-proto: gopher"];
            let written = ["-H", "x-forwarded-for: 6.6.6.6", "-w", " %{http_code} %{http_version}"];
            let args: Vec<&str> = tls.iter().chain(&posted).chain(&written).copied().collect();
            let out = edge.curl(&curl, "www.example", &args).await;
            assert_eq!(out, format!("from curl 202 {version}"), "TLS {shown}, {http}");
            let seen = edge.web.app().seen().pop().unwrap();
            assert_eq!(seen.header("x-forwarded-proto").as_deref(), Some("https"));
            let told = seen.header("x-forwarded-for").unwrap();
            assert!(told.starts_with("127.") && !told.contains(','), "curl's own address alone: {told}");
            assert_eq!(seen.header("x-forwarded-client-cert"), None);
        }
    }
    let out = edge.curl(&curl, "www.example", &["--http1.1", "--no-alpn", "-w", "%{http_version}"]).await;
    assert!(out.ends_with("1.1"), "a client that names no protocol: {out}");
    let big =
        ["--http2", "-H", "x-app: bytes=3000000", "-o", "/dev/null", "-w", "%{http_code} %{size_download}"];
    assert_eq!(edge.curl(&curl, "www.example", &big).await, "200 3000000");
}

#[tokio::test]
async fn nghttp_asks_fifty_times_at_once_over_tls() {
    let Some(nghttp) = tools::NGHTTP.find() else { return };
    let edge = Edge::start("").await;
    let url = format!("https://{}/many", edge.at());
    let args = ["--no-verify-peer", "-m", "50", "-n", "-s", "-H", "x-app: bytes=10", &url];
    let out = process::run(&nghttp, args).await;
    let answered = out.lines().filter(|line| line.contains(" 200 ") && line.ends_with("/many")).count();
    assert_eq!(answered, 50, "{out}");
}

#[tokio::test]
async fn the_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let Some(curl) = tools::CURL.find() else { return };
    let edge = Edge::start("").await;
    // Each is verified by curl against the name.
    for host in ["www.example", "shop.www.example", "api.example"] {
        let out = edge.curl(&curl, host, &["-o", "/dev/null", "-w", "%{http_code}"]).await;
        assert_eq!(out, "200", "{host}");
    }
    let shown = stranger(&[b"h2"]).handshake(edge.at()).await.unwrap();
    let www = std::fs::read_to_string(edge.mesh.folder().join("www.crt")).unwrap();
    let leaf = shown.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_eq!(first_of(&www), leaf, "without a name, the first");
}

fn first_of(pem: &str) -> Vec<u8> {
    use base64::Engine as _;
    let body: String =
        pem.lines().take_while(|line| !line.contains("END")).filter(|line| !line.contains("BEGIN")).collect();
    base64::prelude::BASE64_STANDARD.decode(body).unwrap()
}

#[tokio::test]
async fn a_handshake_that_fails_is_counted_by_its_reason() {
    let edge = Edge::start("").await;
    let name = "outrider_edge_tls_handshake_failures_total";
    stranger(&[b"outrider/1"]).handshake(edge.at()).await.unwrap_err();
    edge.web.sidecar.counts(name, &["reason=\"incompatible\""], 1.0).await;
    let answer = Call::get("www.example", "/").send(edge.at()).await;
    assert!(answer.is_err(), "plaintext is not served on the port: {answer:?}");
    edge.web.sidecar.counts(name, &["reason=\"plaintext\""], 1.0).await;
    drop(TcpStream::connect(edge.at()).await.unwrap());
    edge.web.sidecar.counts(name, &["reason=\"closed\""], 1.0).await;
    let mut silent = TcpStream::connect(edge.at()).await.unwrap();
    silent.write_all(&[0x16, 3, 1, 0, 200]).await.unwrap();
    edge.web.sidecar.counts(name, &["reason=\"timeout\""], 1.0).await;
    assert_eq!(edge.web.app().seen().len(), 0);
}

#[tokio::test]
async fn a_new_certificate_is_shown_under_load_without_a_failed_request() {
    let edge = Edge::start("").await;
    let (at, stop, answered) = (edge.at(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = stranger(&[b"h2"]).request(at, "/load", &[("x-app", "bytes=1000")]).await;
                    let answer = answer.unwrap();
                    assert_eq!((answer.status.as_u16(), answer.pattern.length), (200, 1_000));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let shows = async |wanted: &[u8]| {
        let tls = stranger(&[b"h2"]).handshake(at).await.map_err(|error| error.to_string())?;
        let shown = tls.get_ref().1.peer_certificates().unwrap();
        if *shown[0] == *wanted { Ok(()) } else { Err("another one".to_owned()) }
    };
    for _ in 0..2 {
        let new = edge.public.publish(edge.mesh.folder(), "www", &["www.example"]);
        wait::until("the new certificate is shown", || shows(&new.chain[0])).await;
        let before = answered.load(Ordering::Relaxed);
        wait::until("requests go on", async || {
            let now = answered.load(Ordering::Relaxed);
            if now > before + 8 { Ok(()) } else { Err(format!("{now}")) }
        })
        .await;
    }
    // What cannot be used changes nothing, and is said.
    let good = edge.public.publish(edge.mesh.folder(), "www", &["www.example"]);
    wait::until("the good one is shown", || shows(&good.chain[0])).await;
    std::fs::write(edge.mesh.folder().join("www.key"), "half a key").unwrap();
    let refused = ["certificate=\"www\"", "outcome=\"refused\""];
    edge.web.sidecar.counts("outrider_edge_certificate_reads_total", &refused, 1.0).await;
    shows(&good.chain[0]).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no request failed");
    }
    let end =
        edge.web.sidecar.metric("outrider_edge_certificate_not_after_timestamp_seconds", &["\"www\""]).await;
    let tomorrow = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let left = end.unwrap() - tomorrow;
    assert!((23.0 * 3600.0..25.0 * 3600.0).contains(&left), "{left} s are left");
}

#[tokio::test]
async fn an_edge_turns_to_tls_and_back_while_it_runs_and_an_unknown_certificate_is_refused() {
    let edge = Edge::start("").await;
    let plain = edge.web.sidecar.at(port::EDGE);
    assert_eq!(Call::get("www.example", "/").send(plain).await.unwrap().status, 200);
    let unknown = documents("", "certificateRefs: [{name: nobody}]");
    edge.mesh.control.write_policy(&unknown);
    wait::until("the sidecar refuses it", async || {
        let sidecars: serde_json::Value = edge.mesh.control.get("/v1/sidecars").await?;
        let text = sidecars.to_string();
        if text.contains("no --edge-certificate is called nobody") { Ok(()) } else { Err(text) }
    })
    .await;
    stranger(&[b"h2"]).handshake(edge.at()).await.expect("the policy before it is in force");

    let swapped = documents("", CERTIFICATES)
        .replace(&port::EDGE.to_string(), "EDGE")
        .replace(&TLS_PORT.to_string(), &port::EDGE.to_string())
        .replace("EDGE", &TLS_PORT.to_string());
    edge.mesh.control.write_policy(&swapped);
    edge.web.sidecar.has_revision(3).await;
    stranger(&[b"h2"]).handshake(plain).await.expect("it has become TLS");
    assert_eq!(Call::get("www.example", "/").send(edge.at()).await.unwrap().status, 200);
}

/// A caller that stands behind proxies: what it and they wrote, and what the app is told.
#[tokio::test]
async fn what_trusted_proxies_say_of_a_caller_reaches_the_app_and_nothing_else_does() {
    let claims = [
        ("x-forwarded-for", "6.6.6.6, 203.0.113.9, 192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.example"),
        ("forwarded", "for=6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
    ];
    for (settings, believed) in [
        ("", false),
        ("  forwarded: {trustedProxies: [10.0.0.0/8]}\n", false),
        ("  forwarded: {trustedProxies: [127.0.0.0/8, 192.0.2.0/24]}\n", true),
        ("  forwarded: {trustedHops: 2}\n", true),
    ] {
        let edge = Edge::start(settings).await;
        for http in [Speaks::Http1, Speaks::Http2] {
            let call = claims
                .iter()
                .fold(Call::get("www.example", "/"), |call, (name, value)| call.header(name, value));
            let answer = call.speaks(http).send(edge.web.sidecar.at(port::EDGE)).await.unwrap();
            assert_eq!(answer.status, 200);
            let seen = edge.web.app().seen().pop().unwrap();
            let told = seen.header("x-forwarded-for").unwrap();
            let (claimed, host) =
                (told.starts_with("203.0.113.9, 192.0.2.7, 127."), seen.header("x-forwarded-host"));
            assert_eq!((claimed, host.is_some()), (believed, believed), "{settings}: {told}");
            assert_eq!(
                seen.header("x-forwarded-proto").as_deref(),
                Some(if believed { "https" } else { "http" })
            );
            assert!(!told.contains("6.6.6.6"), "{told}");
            assert_eq!(seen.header("forwarded"), None);
        }
    }
}
