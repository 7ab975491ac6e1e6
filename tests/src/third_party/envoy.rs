//! Envoy: as an app that answers by itself, and as a proxy.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::{Route, answers, serves};
use crate::app::Speaks;
use crate::process::Process;

/// Answers `GET /` itself: a real upstream app.
pub async fn app(envoy: &Path, folder: &Path, address: SocketAddr, speaks: Speaks) -> Process {
    let routes = json!([{
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "from envoy\n"}},
        "response_headers_to_add": [
            {"header": {"key": "x-seen-host", "value": "%REQ(:AUTHORITY)%"}},
            {"header": {"key": "x-seen-target", "value": "[%REQ(outrider-target)%]"}},
        ],
    }]);
    start(envoy, folder, "envoy-app", address, &[listener(address, speaks, &routes)], &[]).await
}

/// Stands in front of `upstream`, to which it passes everything as it comes.
pub async fn proxy(
    envoy: &Path,
    folder: &Path,
    address: SocketAddr,
    upstream: SocketAddr,
    speaks: Speaks,
    transport_socket: Option<Value>,
) -> Process {
    let mut cluster = cluster("upstream", upstream, speaks);
    if let Some(transport_socket) = transport_socket {
        cluster["transport_socket"] = transport_socket;
    }
    let listener = listener(address, speaks, &to_cluster("upstream"));
    start(envoy, folder, "envoy-proxy", address, &[listener], &[cluster]).await
}

/// [`proxy`] with many listeners, each with an upstream of its own.
pub async fn proxies(envoy: &Path, folder: &Path, routes: &[Route]) -> Process {
    let name = |number: usize| format!("upstream{number}");
    let listeners: Vec<_> = (0..)
        .zip(routes)
        .map(|(number, route)| listener(route.listen, route.from, &to_cluster(&name(number))))
        .collect();
    let clusters: Vec<_> =
        (0..).zip(routes).map(|(number, route)| cluster(&name(number), route.to, route.speaks)).collect();
    let mut process = start(envoy, folder, "envoy-proxies", routes[0].listen, &listeners, &clusters).await;
    for route in routes {
        answers(&mut process, route.listen).await;
    }
    process
}

fn to_cluster(name: &str) -> Value {
    json!([{"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "15s"}}])
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn cluster(name: &str, upstream: SocketAddr, speaks: Speaks) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": socket(upstream)}}
        ]}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": match speaks {
                    Speaks::Http1 => json!({"http_protocol_options": {"enable_trailers": true}}),
                    Speaks::Http2 => json!({"http2_protocol_options": {}}),
                },
            }
        },
    })
}

fn listener(address: SocketAddr, speaks: Speaks, routes: &Value) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": match speaks { Speaks::Http1 => "HTTP1", Speaks::Http2 => "HTTP2" },
        "generate_request_id": false,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
        }}],
    });
    json!({
        "name": address.to_string(),
        "address": socket(address),
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
        ]}],
    })
}

async fn start(
    envoy: &Path,
    folder: &Path,
    name: &str,
    address: SocketAddr,
    listeners: &[Value],
    clusters: &[Value],
) -> Process {
    let config = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    let path = folder.join(format!("{name}.json"));
    std::fs::write(&path, config.to_string()).expect("the case's folder is writable");
    let mut command = Command::new(envoy);
    command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
    serves(name, folder, command, address).await
}
