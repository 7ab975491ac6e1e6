#!/usr/bin/env python3
"""Millions of requests through one pair of sidecars, with certificates of a minute that rotate under them.

    soak.py DIR/setups.json --dir DIR [--requests 10000000]

Needs what `outrider.py DIR OUTRIDER` has set up. Rounds of HTTP/1.1 (`wrk`) and HTTP/2 (`h2load`), in turn; after each,
what has failed so far, resident memory and open descriptors of both sidecars. It ends with 1 where a request failed, memory
at the end is more than 5 % above that after the first tenth, or descriptors are left once all clients have gone.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROUND_SECONDS = 10


def look(pids):
    memory = [int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) / 1024 for pid in pids]
    return memory, [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]


def http1(url):
    out = subprocess.run(["wrk", "-t1", "-c32", f"-d{ROUND_SECONDS}s", url], capture_output=True, text=True).stdout
    done = int(re.search(r"(\d+) requests in", out)[1])
    bad = sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", out))
    bad += int((re.search(r"Non-2xx or 3xx responses: (\d+)", out) or [0, 0])[1])
    return done, bad


def http2(url):
    out = subprocess.run(["h2load", "-c8", "-m8", f"-D{ROUND_SECONDS}", url], capture_output=True, text=True).stdout
    done, ok = (int(re.search(rf"(\d+) {word}", out)[1]) for word in ("done", "succeeded"))
    return done, done - ok + sum(int(n) for n in re.findall(r"(\d+) (?:errored|timeout)", out))


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("setups")
    parse.add_argument("--dir", required=True, type=pathlib.Path)
    parse.add_argument("--requests", type=int, default=10_000_000)
    args = parse.parse_args()
    out = args.dir.resolve()
    setups = json.loads(pathlib.Path(args.setups).read_text())
    setup = next(s for s in setups["setups"] if s["name"] == "outrider-mesh")
    var = setups["vars"] | {"dir": str(out)}
    fill = lambda cmd: [re.sub(r"\{(\w+)\}", lambda m: var.get(m[1], m[0]), part) for part in cmd]
    policy = out / "policy/bench.yaml"
    policy.write_text(policy.read_text().replace("egress: RegistryOnly}", "egress: RegistryOnly, certificates: {lifetime: 1m}}"))
    running = [subprocess.Popen(["nginx", "-p", str(out), "-c", str(out / "upstream.conf")])]
    try:
        for proc in setup["procs"]:
            running.append(subprocess.Popen(fill(proc["cmd"]), stderr=subprocess.DEVNULL))
            time.sleep(2)
        ok = soak(setup["url"], [process.pid for process in running[2:]], args.requests)
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(15)
    sys.exit(not ok)


def soak(url, pids, requests):
    done = failed = 0
    first, idle = None, look(pids)[1]
    print("| requests | failed | MiB of both sidecars | descriptors |\n|---|---|---|---|")
    while done < requests:
        for load in (http1, http2):
            more, bad = load(url)
            done, failed = done + more, failed + bad
        memory, descriptors = look(pids)
        if first is None and done >= requests / 10:
            first = sum(memory)
        print(f"| {done:,} | {failed} | {memory[0]:.1f}, {memory[1]:.1f} | {descriptors[0]}, {descriptors[1]} |", flush=True)
    last = sum(memory)
    # Idle connections to the app, and those between sidecars, close by themselves.
    time.sleep(10)
    left = look(pids)[1]
    print(f"memory at the end to that after a tenth: {last / first:.3f}; descriptors before {idle}, after {left}")
    return failed == 0 and last <= first * 1.05 and all(a <= b + 4 for a, b in zip(left, idle))


if __name__ == "__main__":
    main()
