//! Servers and proxies that others wrote, started the way their users start them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::wait;

/// Waits until something accepts connections at an address.
pub async fn answers(process: &mut Process, address: SocketAddr) {
    wait::until(&format!("{address} answers"), || {
        process.assert_runs();
        async move { TcpStream::connect(address).await.map(drop).map_err(|error| error.to_string()) }
    })
    .await;
}

/// Python's grpcio, serving `python/grpc_server.py`.
pub async fn grpc_server(python: &Path, folder: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(python);
    command.arg(script("grpc_server.py")).arg(address.to_string());
    let mut process = Process::start("grpc-server", folder, &mut command);
    answers(&mut process, address).await;
    process
}

/// Python's websockets, serving `python/websocket_server.py`.
pub async fn websocket_server(python: &Path, folder: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(python);
    command.arg(script("websocket_server.py")).arg(address.to_string());
    let mut process = Process::start("websocket-server", folder, &mut command);
    answers(&mut process, address).await;
    process
}

/// A file of this crate's `python` folder.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

/// nginx, serving `folder/www` over HTTP/1.1, and at `/echo-headers` what it was asked for.
pub async fn nginx(nginx: &Path, folder: &Path, address: SocketAddr) -> Process {
    let www = folder.join("www");
    std::fs::create_dir_all(&www).expect("the case's folder is writable");
    let config = folder.join("nginx.conf");
    let at = folder.display();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 256; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n  \
         fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n  \
         client_max_body_size 0;\n  \
         server {{\n    listen {address};\n    root {at}/www;\n    \
         location = /echo-headers {{ return 200 \"$request_method $host $http_x_test\\n\"; }}\n    \
         location = /teapot {{ return 418; }}\n  }}\n}}\n"
    );
    std::fs::write(&config, text).expect("the case's folder is writable");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(folder).arg("-c").arg(&config);
    let mut process = Process::start("nginx", folder, &mut command);
    answers(&mut process, address).await;
    process
}

/// Which HTTP an Envoy speaks on one of its sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvoyHttp {
    Http1,
    Http2,
}

/// An Envoy that answers `GET /` itself: a real upstream app.
pub async fn envoy_app(envoy: &Path, folder: &Path, address: SocketAddr, speaks: EnvoyHttp) -> Process {
    let routes = json!([{
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "from envoy\n"}},
        "response_headers_to_add": [
            {"header": {"key": "x-seen-host", "value": "%REQ(:AUTHORITY)%"}},
            {"header": {"key": "x-seen-target", "value": "[%REQ(outrider-target)%]"}},
        ],
    }]);
    envoy_with(envoy, folder, "envoy-app", address, speaks, routes, &json!([])).await
}

/// An Envoy in front of `upstream`, to which it passes everything as it comes.
pub async fn envoy_proxy(
    envoy: &Path,
    folder: &Path,
    address: SocketAddr,
    upstream: SocketAddr,
    speaks: EnvoyHttp,
    transport_socket: Option<Value>,
) -> Process {
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "15s"}}]);
    let mut cluster = json!({
        "name": "upstream",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": socket(upstream)}}
        ]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": match speaks {
                    EnvoyHttp::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
                    EnvoyHttp::Http2 => json!({"http2_protocol_options": {}}),
                },
            }
        },
    });
    if let Some(transport_socket) = transport_socket {
        cluster["transport_socket"] = transport_socket;
    }
    envoy_with(envoy, folder, "envoy-proxy", address, speaks, routes, &json!([cluster])).await
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

async fn envoy_with(
    envoy: &Path,
    folder: &Path,
    name: &str,
    address: SocketAddr,
    speaks: EnvoyHttp,
    routes: Value,
    clusters: &Value,
) -> Process {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": match speaks { EnvoyHttp::Http1 => "HTTP1", EnvoyHttp::Http2 => "HTTP2" },
        "generate_request_id": false,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        }}],
    });
    let config = json!({"static_resources": {
        "listeners": [{
            "name": "listener",
            "address": socket(address),
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
            ]}],
        }],
        "clusters": clusters,
    }});
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, config.to_string()).expect("the case's folder is writable");
    let mut command = Command::new(envoy);
    command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
    let mut process = Process::start(name, folder, &mut command);
    answers(&mut process, address).await;
    process
}
