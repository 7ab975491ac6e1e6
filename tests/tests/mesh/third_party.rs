//! Clients, apps and proxies that others wrote, on either side of the mesh.

use std::net::SocketAddr;
use std::path::Path;

use outrider_tests::app::Speaks;
use outrider_tests::authority::{Credentials, Wanted};
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::Mesh;
use outrider_tests::mesh::offline::Offline;
use outrider_tests::{policy, process, third_party, tools, wait};
use serde_json::{Value, json};

use crate::data_path::Pair;

#[tokio::test]
async fn curl_and_nghttp_reach_apps_of_both_versions() {
    let (Some(curl), Some(nghttp)) = (tools::CURL.find(), tools::NGHTTP.find()) else { return };
    let pair = Pair::start().await;
    let base = format!("http://{}", pair.caller.outbound());
    for host in ["web.test:8080", "web2.test:8080"] {
        let host_header = format!("Host: {host}");
        for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
            let shown = ["-sS", version, "-w", " %{http_code} %{size_download}"];
            let posted = ["-H", &host_header, "-H", "x-app: status=202", "-d", "from curl"];
            let out = process::run(&curl, shown.iter().chain(&posted).chain(&[&*format!("{base}/a")])).await;
            assert_eq!(out, "from curl 202 9", "{version} to {host}");
            let asked = ["-H", &host_header, "-H", "x-app: bytes=1000000", "-o", "/dev/null"];
            let out = process::run(&curl, shown.iter().chain(&asked).chain(&[&*format!("{base}/b")])).await;
            assert_eq!(out, " 200 1000000", "{version} to {host}");
        }
        let authority = format!(":authority: {host}");
        let out =
            process::run(&nghttp, ["-H", &authority, "-H", "x-app: bytes=3", &format!("{base}/c")]).await;
        assert_eq!(out.as_bytes(), [0, 1, 2], "nghttp to {host}");
        // Fifty at once on one connection.
        let many = ["-m", "50", "-n", "-s", "-H", &authority, "-H", "x-app: bytes=10"];
        let out = process::run(&nghttp, many.iter().chain(&[&*format!("{base}/d")])).await;
        let answered = out.lines().filter(|line| line.contains(" 200 ") && line.ends_with("/d")).count();
        assert_eq!(answered, 50, "nghttp to {host}:\n{out}");
    }
}

#[tokio::test]
async fn an_upload_by_curl_that_asks_whether_to_go_on_is_answered() {
    let Some(curl) = tools::CURL.find() else { return };
    let pair = Pair::start().await;
    let file = pair.mesh.folder().join("upload");
    std::fs::write(&file, vec![7; 2_000_000]).unwrap();
    let data = format!("@{}", file.display());
    for host in ["web.test:8080", "web2.test:8080"] {
        let host_header = format!("Host: {host}");
        let url = format!("http://{}/", pair.caller.outbound());
        let args = [
            "-sS",
            "-H",
            &host_header,
            "-H",
            "Expect: 100-continue",
            "-H",
            "x-app: bytes=5",
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            "--data-binary",
            &data,
            &url,
        ];
        // A second is what curl waits for the go-ahead before it sends anyway.
        assert_eq!(process::run(&curl, args).await, "200", "{host}");
    }
    assert_eq!(pair.web.app().seen().pop().unwrap().pattern.length, 2_000_000);
}

#[tokio::test]
async fn nginx_serves_as_an_app() {
    let (Some(nginx), Some(curl)) = (tools::NGINX.find(), tools::CURL.find()) else { return };
    let policy =
        policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::http("web", 8080)]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").start().await;
    assert_eq!(caller.sidecar.endpoints("test/web").await, Ok(0), "not before its app answers");
    let _nginx = third_party::nginx(&nginx, mesh.folder(), web.sidecar.at(port::APP)).await;
    caller.sidecar.sees("test/web", 1).await;

    let page: Vec<u8> = (0..3_000_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    std::fs::write(mesh.folder().join("www/page"), &page).unwrap();
    for call in [Call::get("web.test:8080", "/page"), Call::get("web.test:8080", "/page").http2()] {
        let answer = call.send(caller.outbound()).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.pattern.length, answer.pattern.differs),
            (200, 3_000_000, false)
        );
        assert_eq!(answer.header("content-length"), "3000000");
        assert!(answer.header("server").starts_with("nginx"), "{answer:?}");
    }
    let etag = Call::get("web.test:8080", "/page").send(caller.outbound()).await.unwrap().header("etag");
    let unchanged =
        Call::get("web.test:8080", "/page").header("if-none-match", &etag).send(caller.outbound()).await;
    assert_eq!(unchanged.unwrap().status, 304);
    let part = Call::get("web.test:8080", "/page")
        .header("range", "bytes=251-260")
        .send(caller.outbound())
        .await
        .unwrap();
    assert_eq!((part.status.as_u16(), part.body.as_ref()), (206, &page[251..=260]));
    let url = format!("http://{}/echo-headers", caller.outbound());
    let out = process::run(&curl, ["-sS", "-H", "Host: web.test:8080", "-H", "x-test: 5", &url]).await;
    assert_eq!(out, "GET web.test 5\n");
    let out = process::run(
        &curl,
        [
            "-sS",
            "-H",
            "Host: web.test:8080",
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            &format!("http://{}/none", caller.outbound()),
        ],
    )
    .await;
    assert_eq!(out, "404");
}

#[tokio::test]
async fn every_kind_of_grpc_call_by_grpcio_passes_two_sidecars_with_its_trailers() {
    let Some(python) = tools::GRPCIO.find() else { return };
    let calls = policy::service("calls", "ports: [{port: 50051, targetPort: 21080, appProtocol: grpc}]");
    let policy = policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &calls]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").upstream("test/calls", 50051).start().await;
    let server = mesh.pod("calls").start().await;
    let _server = third_party::grpc_server(&python, mesh.folder(), server.sidecar.at(port::APP)).await;
    caller.sidecar.sees("test/calls", 1).await;
    for (address, authority) in
        [(caller.outbound(), "calls.test:50051"), (caller.sidecar.upstream(0), "whatever.example")]
    {
        let script = third_party::script("grpc_client.py");
        let out =
            process::run(&python, [script.as_os_str(), address.to_string().as_ref(), authority.as_ref()])
                .await;
        let seen: Value = serde_json::from_str(&out).expect("the client prints JSON");
        let trailers = json!({"x-seen": "from the client", "x-bytes-bin": "0001feff"});
        assert_eq!(
            seen["unary"],
            json!({"answer": "unary:one", "first": {"x-first": "unary"}, "trailers": trailers})
        );
        assert_eq!(seen["server_stream"], json!({"in_order": true, "trailers": trailers}));
        assert_eq!(seen["client_stream"], json!({"answer": "part0+part1+part2", "trailers": trailers}));
        let answers: Vec<_> = (0..20).map(|number| format!("re:{number}")).collect();
        assert_eq!(seen["both_streams"], json!({"answers": answers, "ended": true, "trailers": trailers}));
        let failure =
            json!({"code": "FAILED_PRECONDITION", "details": "not now: 100% über", "trailers": trailers});
        assert_eq!(seen["failure"], failure);
        assert_eq!(seen["missing"], "UNIMPLEMENTED");
    }
}

#[tokio::test]
async fn an_envoy_as_client_reaches_apps_of_both_versions() {
    let Some(envoy) = tools::ENVOY.find() else { return };
    let pair = Pair::start().await;
    for (name, speaks) in [("one", Speaks::Http1), ("two", Speaks::Http2)] {
        let folder = pair.mesh.folder().join(name);
        std::fs::create_dir(&folder).unwrap();
        let front = SocketAddr::new(pair.mesh.address(), port::APP);
        let _envoy =
            third_party::envoy_proxy(&envoy, &folder, front, pair.caller.outbound(), speaks, None).await;
        for app in [Speaks::Http1, Speaks::Http2] {
            let (pod, host) = pair.app(app);
            let body = outrider_tests::pattern::Pattern::new(1_000_000);
            let call = Call::post(host, "/through?envoy=1", "")
                .body(body)
                .speaks(speaks)
                .plan("bytes=2000000,status=201");
            let answer = wait::bounded("an answer", call.send(front)).await.unwrap();
            assert_eq!(
                (answer.status.as_u16(), answer.pattern.length, answer.pattern.differs),
                (201, 2_000_000, false),
                "{speaks:?} to {app:?}"
            );
            let seen = pod.app().seen().pop().unwrap();
            assert_eq!((seen.pattern.length, seen.pattern.differs), (1_000_000, false));
            assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/through?envoy=1");
        }
        // Envoy itself says what it makes of a refusal: it passes it on as it is.
        let answer = Call::get("nobody.test", "/").speaks(speaks).send(front).await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.header("proxy-status").contains("destination_not_found")),
            (502, true)
        );
    }
}

#[tokio::test]
async fn an_envoy_as_app_answers_in_both_versions() {
    let Some(envoy) = tools::ENVOY.find() else { return };
    let policy = policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
        &policy::http2("web2", 8080),
    ]);
    let mesh = Mesh::start(&policy).await;
    let caller = mesh.pod("caller").start().await;
    for (name, speaks) in [("web", Speaks::Http1), ("web2", Speaks::Http2)] {
        let pod = mesh.pod(name).start().await;
        let folder = mesh.folder().join(name);
        std::fs::create_dir(&folder).unwrap();
        let _envoy = third_party::envoy_app(&envoy, &folder, pod.sidecar.at(port::APP), speaks).await;
        caller.sidecar.sees(&format!("test/{name}"), 1).await;
        for call in [
            Call::get(&format!("{name}.test:8080"), "/"),
            Call::get(&format!("{name}.test:8080"), "/").http2(),
        ] {
            let answer = wait::bounded("an answer", call.send(caller.outbound())).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, "from envoy\n"), "{answer:?}");
            assert_eq!(answer.header("x-seen-host"), format!("{name}.test:8080"));
            assert_eq!(answer.header("x-seen-target"), "[]", "what is the mesh's stays in the mesh");
        }
    }
}

#[tokio::test]
async fn an_envoy_with_a_certificate_of_the_mesh_is_let_in_and_one_without_is_not() {
    let Some(envoy) = tools::ENVOY.find() else { return };
    let mut offline = Offline::new(&policy::documents(&[
        policy::OPEN,
        &policy::http("caller", 8080),
        &policy::http("web", 8080),
    ]));
    let place = offline.place("web");
    let app = outrider_tests::app::App::start("web", place.at(port::APP), Speaks::Http1).unwrap();
    let web = offline.start(&place).await;
    let caller = "spiffe://test.mesh/ns/test/sa/caller";
    let credentials = offline.authority.issue(&Wanted::new(caller));
    let foreign = outrider_tests::authority::Authority::new("other.mesh");
    let foreign = foreign.issue(&Wanted::new("spiffe://other.mesh/ns/test/sa/caller"));
    for (name, credentials, status) in
        [("good", Some(credentials), 200), ("anonymous", None, 503), ("foreign", Some(foreign), 503)]
    {
        let folder = offline.folder().join(name);
        std::fs::create_dir(&folder).unwrap();
        let front = SocketAddr::new(offline.address(), port::APP);
        let tls = upstream_tls(&folder, credentials.as_ref());
        let _envoy =
            third_party::envoy_proxy(&envoy, &folder, front, web.inbound(), Speaks::Http2, Some(tls)).await;
        let call = Call::get("web.test:8080", "/")
            .http2()
            .header("outrider-target", "test/web:8080")
            .plan("bytes=9");
        let answer = wait::bounded("an answer", call.send(front)).await.unwrap();
        assert_eq!(answer.status.as_u16(), status, "{name}: {answer:?}");
        assert_eq!(answer.app().is_empty(), status != 200, "{name}: {answer:?}");
    }
    assert_eq!(app.seen_one().header("x-forwarded-client-cert"), Some(format!("URI={caller}")));
}

/// Envoy's TLS settings towards an inbound port: as a sidecar's, with or without a certificate.
fn upstream_tls(folder: &Path, credentials: Option<&Credentials>) -> Value {
    let mut common = json!({
        "alpn_protocols": ["outrider/1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
    });
    if let Some(credentials) = credentials {
        let (chain, key) = credentials.pem();
        let (chain_file, key_file) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain_file, chain).unwrap();
        std::fs::write(&key_file, key).unwrap();
        common["tls_certificates"] =
            json!([{"certificate_chain": {"filename": chain_file}, "private_key": {"filename": key_file}}]);
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": common,
        },
    })
}
