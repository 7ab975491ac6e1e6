#!/usr/bin/env python3
"""What small requests feel of a neighbour that misbehaves: of one setup after the other, p50 and p99 alone and beside it.

    stall.py DIR/setups.json --dir DIR --var envoy=… [--only a,b] [--seconds 5]

Small requests come at 1,000 a second over 16 connections, open loop (`h2load --rps`). Beside them, in turn:
  stall      one client that asks for 1 GiB and never reads, and one that reads 1 GiB
  slowloris  2,000 connections that send one byte of a head each second
Memory is the highest of each process of the setup during the phase.
"""
import argparse
import json
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

RATE, CONNECTIONS, SLOW = 1000, 16, 2000


def rss_mib(pids):
    total = 0
    for pid in pids:
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("VmRSS"):
                total += int(line.split()[1])
    return total / 1024


def load(url, seconds, pids, out):
    """p50 and p99 in ms, failures, and the highest resident memory."""
    log = out / "stall.log"
    log.unlink(missing_ok=True)
    run = subprocess.Popen(["h2load", "--h1", f"-c{CONNECTIONS}", f"--rps={RATE // CONNECTIONS}", f"-D{seconds}",
                            f"--log-file={log}", url], stdout=subprocess.DEVNULL)
    peak = 0.0
    while run.poll() is None:
        peak = max(peak, rss_mib(pids))
        time.sleep(0.1)
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    took = sorted(int(row[2]) / 1000 for row in rows if row[1] == "200")
    return statistics.median(took), took[int(len(took) * 0.99)], len(rows) - len(took), peak


def never_reads(url, stop):
    host, port = re.match(r"http://([^:/]+):(\d+)", url).groups()
    with socket.create_connection((host, int(port))) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /big HTTP/1.1\r\nHost: app\r\n\r\n")
        stop.wait()


def reads_all(url, stop):
    while not stop.is_set():
        with urllib.request.urlopen(url + "big") as answer:
            while not stop.is_set() and answer.read(1 << 20):
                pass


def slowloris(url, stop):
    host, port = re.match(r"http://([^:/]+):(\d+)", url).groups()
    head = b"GET / HTTP/1.1\r\nHost: app\r\nX-Slow: " + b"x" * 600
    clients = [socket.create_connection((host, int(port))) for _ in range(SLOW)]
    for byte in head:
        for client in clients:
            try:
                client.send(bytes([byte]))
            except OSError:
                pass  # it was closed, as it should be
        if stop.wait(1):
            break
    for client in clients:
        client.close()


def upstream(out):
    (out / "big").mkdir(exist_ok=True)
    with open(out / "big/big", "wb") as big:
        big.truncate(1 << 30)
    text = (out / "upstream.conf").read_text()
    text = text.replace("location /echo", f"location = /big {{ root {out}/big; }}\n    location /echo", 1)
    (out / "upstream-stall.conf").write_text(text)
    return subprocess.Popen(["nginx", "-p", str(out), "-c", str(out / "upstream-stall.conf")])


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("setups")
    parse.add_argument("--dir", required=True, type=pathlib.Path)
    parse.add_argument("--var", action="append", default=[])
    parse.add_argument("--only", default="outrider-mesh")
    parse.add_argument("--seconds", type=int, default=5)
    args = parse.parse_args()
    out = args.dir.resolve()
    setups = json.loads(pathlib.Path(args.setups).read_text())
    var = setups["vars"] | dict(given.split("=", 1) for given in args.var) | {"dir": str(out)}
    fill = lambda cmd: [re.sub(r"\{(\w+)\}", lambda m: var.get(m[1], m[0]), part) for part in cmd]
    app = upstream(out)
    print("| setup | phase | p50 ms | p99 ms | p99 to alone | failed | peak MiB |\n|---|---|---|---|---|---|---|")
    try:
        for setup in setups["setups"]:
            if setup["name"] in args.only.split(","):
                measure(setup, fill, out, args.seconds)
    finally:
        app.terminate()


def measure(setup, fill, out, seconds):
    running, url = [], setup["url"]
    try:
        for proc in setup["procs"]:
            running.append(subprocess.Popen(fill(proc["cmd"]), stderr=subprocess.DEVNULL))
            time.sleep(1.5)
        pids = [process.pid for process, proc in zip(running, setup["procs"]) if proc.get("account", True)]
        alone = None
        for phase, beside in [("alone", []), ("stall", [never_reads, reads_all]), ("slowloris", [slowloris])]:
            stop = threading.Event()
            threads = [threading.Thread(target=what, args=(url, stop)) for what in beside]
            for thread in threads:
                thread.start()
            if threads:
                time.sleep(2)
            p50, p99, failed, peak = load(url, seconds, pids, out)
            stop.set()
            for thread in threads:
                thread.join(30)
            alone = alone or p99
            print(f"| {setup['name']} | {phase} | {p50:.2f} | {p99:.2f} | {p99 / alone:.2f} | {failed} | {peak:.0f} |")
            sys.stdout.flush()
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(15)


if __name__ == "__main__":
    main()
