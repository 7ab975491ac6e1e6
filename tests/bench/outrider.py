#!/usr/bin/env python3
"""Adds Outrider to the rivals' setups: a control plane, and a sidecar on each side, as a user would run them.

    outrider.py DIR OUTRIDER [--var grpc=PATH]        after rivals.py DIR
    bench.py DIR/setups.json --dir DIR --var envoy=… --var grpc=PATH --baseline envoy-mesh-h2

The sidecars join once here; in the benchmark they start from what lies on disk, as after any restart. Everything is on
that has no switch: mTLS by SPIFFE ID, authorization, permits, balancing, metrics, reports each second. Traces are on where
OTEL_EXPORTER_OTLP_ENDPOINT is set. Setups by their policy, each with a control plane and a mesh of its own:
  outrider-mesh  20 routes of which the last matches, with a header change and a timeout, and traffic policy by its
                 defaults; with -large, -upload and -grpc, as of the rivals
  outrider-on    the same, and retries; -post: POST of 1,024 bytes with an Idempotency-Key, of which a copy is kept aside
  outrider-off   no route, no retry, no breaker, no queue, a limit that is never reached; -post too
  outrider-soak  outrider-mesh with certificates of a minute, and an app that takes upgrades: for soak.py
"""
import argparse
import json
import pathlib
import sys
import time
import urllib.request

import bench
from rivals import APP, GRPC, workloads

BASE = 20500
UPGRADE = 20002
API, CONTROL = f"127.0.0.1:{BASE + 30}", f"127.0.0.1:{BASE + 31}"

OFF = """---
apiVersion: outrider.mesh/v1alpha1
kind: BackendTrafficPolicy
metadata: {name: app-off, namespace: bench}
spec:
  targetRefs: [{group: "", kind: Service, name: app}]
  client:
    circuitBreaker: {failureRatio: 0}
    concurrency: {algorithm: Fixed, initial: 1024}
    loadBalancing: {algorithm: RoundRobin}
  server:
    concurrency: {algorithm: Fixed, initial: 1024}
    queue: {maxDepth: 0}
"""


def ports(variant):
    """Of the app: what callers ask for, where it listens, and how it is spoken to."""
    more = {"mesh": [(81, GRPC, "grpc")], "soak": [(81, GRPC, "grpc"), (82, UPGRADE, "http")]}
    return [(80, APP, "http"), *more.get(variant, [])]


def routes(retry):
    def route(index, prefix):
        return f"""    - name: r{index}
      matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {{set: [{{name: x-route, value: r{index}}}]}}
      timeouts: {{request: 15s}}
{retry}      backendRefs: [{{name: app, port: 80}}]
"""

    def document(name, rules):
        return f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: bench}}
spec:
  parentRefs: [{{group: "", kind: Service, name: app, port: 80}}]
  rules:
{"".join(rules)}"""
    # What is asked for is matched by the last one alone.
    rules = [route(i, f"/service-{i}/v1") for i in range(19)] + [route(19, "/")]
    return document("app-first", rules[:10]) + document("app-second", rules[10:])


def policy(variant):
    listed = ", ".join(f"{{port: {port}, targetPort: {target}, appProtocol: {protocol}}}"
                       for port, target, protocol in ports(variant))
    lifetime = ", certificates: {lifetime: 1m}" if variant == "soak" else ""
    retry = "      retry: {codes: [502, 503, 504], attempts: 2, backoff: 25ms}\n" if variant == "on" else ""
    return f"""apiVersion: outrider.mesh/v1alpha1
kind: MeshConfig
metadata: {{name: bench}}
spec: {{trustDomain: bench.local, mtls: Strict, defaultAuthorization: Deny, egress: RegistryOnly{lifetime}}}
---
apiVersion: outrider.mesh/v1alpha1
kind: Service
metadata: {{name: client, namespace: bench}}
spec: {{upstreams: [app]}}
---
apiVersion: outrider.mesh/v1alpha1
kind: Service
metadata: {{name: app, namespace: bench}}
spec: {{ports: [{listed}]}}
---
apiVersion: outrider.mesh/v1alpha1
kind: AuthorizationPolicy
metadata: {{name: app-authz, namespace: bench}}
spec:
  targetRefs: [{{group: "", kind: Service, name: app}}]
  mode: Enforce
  action: Allow
  rules:
    - from: [{{spiffe: ["spiffe://bench.local/ns/bench/sa/client"]}}]
      to: [{{http: {{methods: [GET, POST]}}}}]
""" + (OFF if variant == "off" else routes(retry))


def processes(variant):
    """Control plane and both sidecars, in the order in which they start."""
    folder = f"{{dir}}/outrider-{variant}"

    def sidecar(service, first, *more):
        at = [f"127.0.0.1:{BASE + first + i}" for i in range(4)]
        return ["{sidecar}", "--service", f"bench/{service}", "--control-plane", CONTROL,
                "--join-file", f"{folder}/join/bench.{service}", "--data-dir", f"{folder}/sidecar-{service}",
                "--inbound", at[0], "--outbound", at[1], "--admin", at[2], "--health", at[3],
                "--shards", "1", *more]

    control_plane = ["{outrider}", "control-plane", "--policy", f"{folder}/policy", "--data-dir", f"{folder}/cp",
                     "--api", API, "--control", CONTROL, "--join-secrets-dir", f"{folder}/join"]
    upstreams = [f"--upstream=bench/app:{port}=127.0.0.1:{BASE + i}" for i, (port, _, _) in enumerate(ports(variant))]
    return [{"name": "control", "cmd": control_plane, "account": False, "wait_port": BASE + 31},
            {"name": "in", "cmd": sidecar("app", 10), "wait_port": BASE + 10},
            {"name": "out", "cmd": sidecar("client", 20, *upstreams)}]


def upgrade_app():
    return {"name": "upgrade", "cmd": [sys.executable, str(pathlib.Path(__file__).with_name("soak.py").resolve()), "--serve",
                                       str(UPGRADE)], "wait_port": UPGRADE}


def wait(what, ready, limit=20):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"not ready within {limit} s: {what}")


def join(variant, out, fill, shared):
    """Once, with apps that answer, so that identities and the directory are complete on disk."""
    folder = out / f"outrider-{variant}"
    (folder / "policy").mkdir(parents=True, exist_ok=True)
    (folder / "policy/bench.yaml").write_text(policy(variant))
    control_plane, inbound, outbound = processes(variant)
    running = []
    begin = lambda specs: bench.start(specs, fill, out, out / f"outrider-{variant}/join", 20, running)
    try:
        begin([*shared, *([upgrade_app()] if variant == "soak" else []), control_plane])
        wait("join secrets", lambda: all((folder / f"join/bench.{s}").exists() for s in ("app", "client")))
        begin([inbound, outbound])
        wait("an answer through both sidecars",
             lambda: urllib.request.urlopen(f"http://127.0.0.1:{BASE}/", timeout=2).status == 200)
    finally:
        for process in reversed(running):
            process.stop()


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("dir", type=pathlib.Path)
    parse.add_argument("outrider", type=pathlib.Path)
    parse.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="as bench.py takes it")
    args = parse.parse_args()
    out, binary = args.dir.resolve(), args.outrider.resolve()
    spec = json.loads((out / "setups.json").read_text())
    spec["vars"] |= {"outrider": str(binary), "sidecar": str(binary.with_name("outrider-sidecar"))}
    fill = bench.filler(spec, args.var, out)
    for variant in ("mesh", "on", "off", "soak"):
        join(variant, out, fill, spec["shared"])

    url = f"http://127.0.0.1:{BASE}/"
    added = workloads("outrider-mesh", url, f"http://127.0.0.1:{BASE + 1}/", processes("mesh"), processes("mesh"))
    for variant in ("off", "on"):
        plain = {"name": f"outrider-{variant}", "procs": processes(variant), "url": url}
        added += [plain, plain | {"name": f"outrider-{variant}-post", "url": url + "upload", "post": "{dir}/1k.bin",
                                  "headers": {"Idempotency-Key": "bench"}}]
    added.append({"name": "outrider-soak", "procs": [upgrade_app(), *processes("soak")], "url": url})
    spec["setups"] = [s for s in spec["setups"] if not s["name"].startswith("outrider")] + added
    (out / "setups.json").write_text(json.dumps(spec, indent=1) + "\n")


if __name__ == "__main__":
    main()
