#!/usr/bin/env python3
"""Adds Outrider to the rivals' setups: a control plane, and a sidecar on each side, as a user would run them.

    outrider.py DIR OUTRIDER        after rivals.py DIR
    bench.py DIR/setups.json --dir DIR --var envoy=… --var outrider=OUTRIDER --baseline envoy-mesh-h2

The sidecars join once here; in the benchmark they start from what lies on disk, as after any restart. Everything is on
that has no switch: mTLS by SPIFFE ID, authorization, 20 routes of which the last matches, header changes, permits,
balancing, metrics, reports each second. Traces are on where OTEL_EXPORTER_OTLP_ENDPOINT is set.
"""
import json
import pathlib
import subprocess
import sys
import time
import urllib.request

BASE = 20500
API, CONTROL = f"127.0.0.1:{BASE + 30}", f"127.0.0.1:{BASE + 31}"


def policy(app_port):
    def route(index, prefix):
        return f"""    - name: r{index}
      matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]
      filters:
        - type: RequestHeaderModifier
          requestHeaderModifier: {{set: [{{name: x-route, value: r{index}}}]}}
      timeouts: {{request: 15s}}
      backendRefs: [{{name: app, port: 80}}]
"""
    def routes(name, rules):
        return f"""---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: bench}}
spec:
  parentRefs: [{{group: "", kind: Service, name: app, port: 80}}]
  rules:
{"".join(rules)}"""
    # The requests are for `/`, which only the last one matches.
    rules = [route(i, f"/service-{i}/v1") for i in range(19)] + [route(19, "/")]
    return f"""apiVersion: outrider.mesh/v1alpha1
kind: MeshConfig
metadata: {{name: bench}}
spec: {{trustDomain: bench.local, mtls: Strict, defaultAuthorization: Deny, egress: RegistryOnly}}
---
apiVersion: outrider.mesh/v1alpha1
kind: Service
metadata: {{name: client, namespace: bench}}
spec: {{ports: [{{port: 80, targetPort: {app_port}, appProtocol: http}}], upstreams: [app]}}
---
apiVersion: outrider.mesh/v1alpha1
kind: Service
metadata: {{name: app, namespace: bench}}
spec: {{ports: [{{port: 80, targetPort: {app_port}, appProtocol: http}}]}}
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
""" + routes("app-first", rules[:10]) + routes("app-second", rules[10:])


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


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out, binary = pathlib.Path(sys.argv[1]).resolve(), str(pathlib.Path(sys.argv[2]).resolve())
    setups = json.loads((out / "setups.json").read_text())
    (out / "policy").mkdir(exist_ok=True)
    (out / "policy/bench.yaml").write_text(policy(20000))

    control_plane = ["{outrider}", "control-plane", "--policy", "{dir}/policy", "--data-dir", "{dir}/cp",
                     "--api", API, "--control", CONTROL, "--join-secrets-dir", "{dir}/join"]

    def sidecar(service, first, *more):
        at = [f"127.0.0.1:{BASE + first + i}" for i in range(4)]
        return ["{sidecar}", "--service", f"bench/{service}", "--control-plane", CONTROL,
                "--join-file", f"{{dir}}/join/bench.{service}", "--data-dir", f"{{dir}}/sidecar-{service}",
                "--inbound", at[0], "--outbound", at[1], "--admin", at[2], "--health", at[3],
                "--shards", "1", *more]

    inbound = sidecar("app", 10)
    outbound = sidecar("client", 20, "--upstream", f"bench/app:80=127.0.0.1:{BASE}")
    sidecar_binary = str(pathlib.Path(binary).with_name("outrider-sidecar"))
    setups["vars"] |= {"outrider": binary, "sidecar": sidecar_binary}
    fill = lambda cmd: [a.replace("{sidecar}", sidecar_binary).replace("{outrider}", binary)
                        .replace("{dir}", str(out)) for a in cmd]

    # Join once, with an app that answers, so that the directory is complete on disk.
    app = subprocess.Popen(["nginx", "-p", str(out), "-c", str(out / "upstream.conf")])
    running = [app]
    try:
        start = lambda cmd: running.append(subprocess.Popen(fill(cmd), stderr=open(out / "outrider-setup.log", "ab")))
        start(control_plane)
        wait("join secrets", lambda: all((out / f"join/bench.{s}").exists() for s in ("app", "client")))
        start(inbound)
        start(outbound)
        wait("an answer through both sidecars",
             lambda: urllib.request.urlopen(f"http://127.0.0.1:{BASE}/", timeout=2).status == 200)
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(10)

    proc = lambda name, cmd, **more: {"name": name, "cmd": cmd} | more
    setups["setups"] = [s for s in setups["setups"] if not s["name"].startswith("outrider")]
    setups["setups"].append({"name": "outrider-mesh", "url": f"http://127.0.0.1:{BASE}/", "procs": [
        proc("control", control_plane, account=False, wait_port=BASE + 31),
        proc("in", inbound, wait_port=BASE + 10), proc("out", outbound)]})
    (out / "setups.json").write_text(json.dumps(setups, indent=1) + "\n")


if __name__ == "__main__":
    main()
