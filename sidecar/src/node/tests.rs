//! Two sidecars on real sockets, without a control plane: what one sends is what the other's app gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrider_shared::authorization::DefaultAuthorization;
use outrider_shared::identity::{Material, TrustBundle};
use outrider_shared::snapshot::{
    AppProtocol, DirectoryPort, DirectoryService, Egress, Endpoint, Forwarded, LocalPort, LocalService, Mesh,
    Mtls, PathNormalization, Tracing, Version,
};
use outrider_shared::{ServiceId, SidecarId, SpiffeId};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::config::Args;
use crate::session::Effects as _;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

/// Not the usual ports, which a mesh that runs on this machine may have on every address, and below those that the system
/// gives away by itself.
const INBOUND: u16 = 21_406;
const OUTBOUND: u16 = 21_401;
const ADMIN: u16 = 21_400;
const HEALTH: u16 = 21_490;
const APP: u16 = 21_080;
/// Held for as long as a test runs; no pod binds it.
const LOCK: u16 = 21_399;

/// The addresses of one test's pods: those of no other test, also of another process, so that ports cannot collide.
struct Pods {
    third: u8,
    _lock: std::net::TcpListener,
}

impl Pods {
    /// Held by a listener on an address that no pod has.
    fn claim() -> Self {
        let start = std::process::id().wrapping_mul(31);
        let claimed = (0..=u8::MAX).find_map(|index| {
            let third = index.wrapping_add(start.to_be_bytes()[3]);
            let lock = std::net::TcpListener::bind((Ipv4Addr::new(127, 17, third, 254), LOCK)).ok()?;
            Some(Self { third, _lock: lock })
        });
        claimed.expect("one of 256 networks is free")
    }

    fn pod(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, 17, self.third, number)
    }
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    bundle: Arc<TrustBundle>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = params.self_signed(&key).expect("signs");
        let domain = "test.local".parse().expect("a domain");
        let bundle = TrustBundle::new(domain, vec![root.der().clone()]).expect("a root");
        Self { issuer: Issuer::new(params, key), bundle: Arc::new(bundle) }
    }

    fn leaf(&self, service: &str) -> Arc<Material> {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        let name = identity(service).to_string();
        params.subject_alt_names = vec![SanType::URI(name.try_into().expect("ASCII"))];
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&key, &self.issuer).expect("signs");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Arc::new(Material::from_der(vec![leaf.der().clone()], key, Arc::clone(&self.bundle)).expect("fits"))
    }
}

fn identity(service: &str) -> SpiffeId {
    format!("spiffe://test.local/ns/t/sa/{service}").parse().expect("a SPIFFE ID")
}

fn service(name: &str) -> ServiceId {
    ServiceId::new("t", name).expect("a name")
}

fn sidecar_id(n: u8) -> SidecarId {
    format!("{n:02x}").parse().expect("hex")
}

fn start(ip: Ipv4Addr, name: &str) -> Rc<Effects> {
    let at = |port: u16| SocketAddr::from((ip, port)).to_string();
    let flags = [
        ("--service", format!("t/{name}")),
        ("--control-plane", "127.0.0.1:1".into()),
        ("--app-host", ip.to_string()),
        ("--inbound", at(INBOUND)),
        ("--outbound", at(OUTBOUND)),
        ("--admin", at(ADMIN)),
        ("--health", at(HEALTH)),
        ("--shards", "2".into()),
    ];
    let flags = flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
    let args = Command::parse_from(std::iter::once("test".to_owned()).chain(flags)).args;
    assemble(args.check().expect("good flags")).expect("free ports").0
}

/// One service `server` at `endpoints`, called by `client`.
fn snapshot(of: &str, endpoints: &[Ipv4Addr], protocol: AppProtocol) -> Arc<Snapshot> {
    let endpoints = (1_u8..)
        .zip(endpoints)
        .map(|(n, ip)| Endpoint { sidecar: sidecar_id(n), address: SocketAddr::from((*ip, INBOUND)) });
    let server = DirectoryService {
        traffic: None,
        service: service("server"),
        identity: identity("server"),
        ports: vec![DirectoryPort { port: 80, app_protocol: protocol }],
        endpoints: endpoints.collect(),
    };
    let ports = match of {
        "server" => {
            vec![LocalPort { port: 80, target_port: APP, app_protocol: protocol, mtls: Mtls::Strict }]
        }
        _ => Vec::new(),
    };
    Arc::new(Snapshot {
        version: Version { epoch: 1, sequence: 1 },
        revision: 7,
        sidecar: sidecar_id(9),
        mesh: Mesh {
            id: "MeshConfig/test".parse().expect("an id"),
            trust_domain: "test.local".parse().expect("a domain"),
            default_authorization: DefaultAuthorization::AllowSameTrustDomain,
            egress: Egress::RegistryOnly,
            path_normalization: PathNormalization::Base,
            forwarded: Forwarded::default(),
        },
        local: LocalService {
            traffic: None,
            service: service(of),
            identity: identity(of),
            ports,
            edges: Vec::new(),
            authorization: Vec::new(),
            upstreams: vec![service("server")],
        },
        directory: vec![server],
        routes: Vec::new(),
        tracing: Tracing::default(),
    })
}

/// An HTTP/1.1 app that answers with what it got.
async fn echo_app(ip: Ipv4Addr) {
    let listener = TcpListener::bind((ip, APP)).await.expect("a free port");
    actix_rt::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepts");
            let serve = service_fn(|request: Request<hyper::body::Incoming>| async {
                let head = format!(
                    "{} {} host={:?} xfcc={:?} reserved={}",
                    request.method(),
                    request.uri(),
                    request.headers()["host"],
                    request.headers().get("x-forwarded-client-cert"),
                    request
                        .headers()
                        .keys()
                        .filter(|name| name.as_str().starts_with("outrider-")
                            && !["outrider-hops", "outrider-context"].contains(&name.as_str()))
                        .count(),
                );
                let body = request.into_body().collect().await?.to_bytes();
                let answer = Response::builder().header("x-head", head).body(Full::new(body));
                Ok::<_, hyper::Error>(answer.expect("a response"))
            });
            actix_rt::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), serve),
            );
        }
    });
}

async fn ask(ip: Ipv4Addr, request: Request<Full<Bytes>>) -> Response<Bytes> {
    let stream = TcpStream::connect((ip, OUTBOUND)).await.expect("listens");
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("speaks HTTP");
    actix_rt::spawn(connection);
    let answer = tokio::time::timeout(Duration::from_secs(10), send.send_request(request)).await;
    let (head, body) = answer.expect("in time").expect("an answer").into_parts();
    Response::from_parts(head, body.collect().await.expect("a whole body").to_bytes())
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "server").body(Full::default()).expect("a request")
}

#[actix_rt::test]
async fn a_request_crosses_two_sidecars_and_comes_back() {
    let pods = Pods::claim();
    let (client, server) = (pods.pod(1), pods.pod(2));
    let ca = Ca::new();
    echo_app(server).await;
    for (ip, name) in [(client, "client"), (server, "server")] {
        let effects = start(ip, name);
        effects.identity(ca.leaf(name));
        effects.snapshot(snapshot(name, &[server], AppProtocol::Http1)).expect("usable");
    }
    let request = Request::post("/a/./b?q=1")
        .header("host", "server")
        .header("outrider-target", "t/other:1")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .body(Full::new(Bytes::from_static(b"body")))
        .expect("a request");
    let answer = ask(client, request).await;
    assert_eq!(answer.status(), StatusCode::OK, "{:?} {:?}", answer.headers(), answer.body());
    let head = answer.headers()["x-head"].to_str().expect("ASCII");
    assert_eq!(
        head,
        "POST /a/b?q=1 host=\"server\" xfcc=Some(\"URI=spiffe://test.local/ns/t/sa/client\") reserved=0"
    );
    assert_eq!(answer.body(), "body");
}

#[actix_rt::test]
async fn an_endpoint_that_is_gone_is_passed_over_without_a_failed_request() {
    let pods = Pods::claim();
    let (client, server, gone) = (pods.pod(1), pods.pod(2), pods.pod(3));
    let ca = Ca::new();
    echo_app(server).await;
    for (ip, name) in [(client, "client"), (server, "server")] {
        let effects = start(ip, name);
        effects.identity(ca.leaf(name));
        effects.snapshot(snapshot(name, &[gone, server], AppProtocol::Http1)).expect("usable");
    }
    for _ in 0..20 {
        let request =
            Request::post("/").header("host", "server").body(Full::new(Bytes::from_static(b"once")));
        let answer = ask(client, request.expect("a request")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{:?}", answer.body());
        assert_eq!(answer.body(), "once");
    }
}

#[actix_rt::test]
async fn an_endpoint_that_proves_to_be_someone_else_gets_nothing() {
    let pods = Pods::claim();
    let (client, server) = (pods.pod(1), pods.pod(2));
    let ca = Ca::new();
    echo_app(server).await;
    for (ip, name, proves) in [(client, "client", "client"), (server, "server", "impostor")] {
        let effects = start(ip, name);
        effects.identity(ca.leaf(proves));
        effects.snapshot(snapshot(name, &[server], AppProtocol::Http1)).expect("usable");
    }
    let answer = ask(client, get("/")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let status = answer.headers()["proxy-status"].to_str().expect("ASCII").to_owned();
    assert!(status.contains("tls_certificate_error"), "{status}");
}

#[actix_rt::test]
async fn what_no_service_is_called_is_refused_with_the_reason() {
    let pods = Pods::claim();
    let (client, server) = (pods.pod(1), pods.pod(2));
    let ca = Ca::new();
    let effects = start(client, "client");
    let answer = ask(client, get("/")).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "no snapshot yet");
    effects.identity(ca.leaf("client"));
    effects.snapshot(snapshot("client", &[server], AppProtocol::Http1)).expect("usable");
    let request = Request::get("/").header("host", "nobody").body(Full::default()).expect("a request");
    let answer = ask(client, request).await;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = String::from_utf8(answer.body().to_vec()).expect("text");
    assert!(body.contains("nobody") && body.contains("MeshConfig/test@r7"), "{body}");
}

#[actix_rt::test]
async fn health_checks_end_when_the_drain_begins() {
    let pods = Pods::claim();
    let node = Arc::clone(&start(pods.pod(1), "client").node);
    let mut checks = std::pin::pin!(crate::health::run(Arc::clone(&node)));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut checks).await;
    assert!(early.is_err(), "they go on while it serves");
    node.phase.send_replace(Phase::Withdrawing { until: Instant::now() });
    tokio::time::timeout(Duration::from_secs(10), checks).await.expect("they end");
}
