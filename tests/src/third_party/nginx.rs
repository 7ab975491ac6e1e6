//! nginx: as a server of files and fixed answers, as one that sends content back, and as a proxy.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{Route, serves};
use crate::app::Speaks;
use crate::process::Process;

/// Where Debian's `libnginx-mod-http-echo` puts it.
pub const ECHO_MODULE: &str = "/usr/lib/nginx/modules/ngx_http_echo_module.so";

/// Serves `folder/www` over HTTP/1.1, and at `/echo-headers` what it was asked for.
pub async fn server(nginx: &Path, folder: &Path, address: SocketAddr) -> Process {
    let locations = "location = /echo-headers { return 200 \"$request_method $host $http_x_test\\n\"; }\n    \
                     location = /teapot { return 418; }";
    let http = format!("server {{\n    listen {address};\n    root www;\n    {locations}\n  }}");
    start(nginx, folder, "", &http, address).await
}

/// Does each operation of the peers over HTTP/1.1 at one address and over HTTP/2 at the other. `folder/www/large` is the
/// large answer.
pub async fn peer(nginx: &Path, folder: &Path, over_1: SocketAddr, over_2: SocketAddr) -> Process {
    let http = format!(
        "default_type application/octet-stream;\n  server {{\n    listen {over_1};\n    listen {over_2} http2;\n    root www;\n    \
         location = /hello {{ default_type text/plain; return 200 \"hello\\n\"; }}\n    \
         location = /echo {{ client_body_buffer_size 256k; echo_read_request_body; echo_request_body; }}\n    \
         location = /none {{ return 204; }}\n    \
         location = /seen {{ return 200 \"\"; }}\n  }}"
    );
    let process = start(nginx, folder, &format!("load_module {ECHO_MODULE};\n"), &http, over_1).await;
    tokio::net::TcpStream::connect(over_2).await.expect("both listeners are opened before either is served");
    process
}

/// Which HTTP nginx speaks to what it is a proxy of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// What it does unless it is told otherwise: a connection for each request.
    Http10,
    /// As its documents advise it for connections that are kept.
    Http11,
}

pub async fn proxy(nginx: &Path, folder: &Path, towards: Towards, routes: &[Route]) -> Process {
    let mut http = String::new();
    for (number, route) in routes.iter().enumerate() {
        let (pool, how) = match towards {
            Towards::Http10 => ("", ""),
            Towards::Http11 => (
                "keepalive 4;",
                "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_request_buffering off;",
            ),
        };
        let http2 = if route.from == Speaks::Http2 { " http2" } else { "" };
        let (listen, to) = (route.listen, route.to);
        let _ = write!(
            http,
            "upstream u{number} {{ server {to}; {pool} }}\n  \
             server {{ listen {listen}{http2}; location / {{ proxy_pass http://u{number}; \
             proxy_set_header Host $http_host; {how} }} }}\n  "
        );
    }
    start(nginx, folder, "", &http, routes[0].listen).await
}

async fn start(nginx: &Path, folder: &Path, modules: &str, http: &str, address: SocketAddr) -> Process {
    std::fs::create_dir_all(folder.join("www")).expect("the case's folder is writable");
    let config = folder.join("nginx.conf");
    let at = folder.display();
    let text = format!(
        "{modules}daemon off;\nmaster_process off;\npid {at}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  client_body_temp_path {at}/body;\n  proxy_temp_path {at}/proxy;\n  \
         fastcgi_temp_path {at}/fastcgi;\n  uwsgi_temp_path {at}/uwsgi;\n  scgi_temp_path {at}/scgi;\n  \
         client_max_body_size 0;\n  {http}\n}}\n"
    );
    std::fs::write(&config, text).expect("the case's folder is writable");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(folder).arg("-c").arg(&config);
    serves("nginx", folder, command, address).await
}
