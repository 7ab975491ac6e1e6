#!/usr/bin/env python3
"""What small requests feel of a neighbour that misbehaves: of one setup after the other, p50 and p99 alone and beside it.

    stall.py DIR/setups.json --dir DIR --var envoy=… --var grpc=… [--only a,b] [--seconds 10] [--rounds 3]

Small requests, GET of 1,024 bytes, come at 1,000 a second over 16 connections (`oha`, latency counted from when a request was
due). Beside them, in turn:
  alone      nothing
  unread     one client that asks for 1 GiB and never reads
  gigabit    one that reads 1 GiB after the other at 1 Gbit/s
  both       both of these
  large      one that reads 1 GiB after the other as fast as it can: whoever it is, all processes then share what cores there are
  slowloris  2,000 connections that send one byte of a head each second
Medians of the rounds, `bad` their sum: answered, but not by 200. `rps` is how many were answered; where none was, latency is
`inf`. Memory is the highest of the proxies together during the phase, `read_mib` what the reader of the large ones got, `open`
how many of the 2,000 connections the proxy still holds at the end: one that closes them, as after a timeout, is not worse off
for it.
"""
import argparse
import contextlib
import json
import math
import pathlib
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import bench

RATE, CONNECTIONS, SLOW, SLOW_AT_ONCE = 1000, 16, 2000, 20
PHASES = ("alone", "unread", "gigabit", "both", "large", "slowloris")
GIGABIT = 1e9 / 8


def address(url):
    at = urlsplit(url)
    return at.hostname, at.port


@contextlib.contextmanager
def beside(*jobs):
    """Runs them in threads, each told by an event when to end, and 2 s ahead of what is done meanwhile."""
    stop = threading.Event()
    threads = [threading.Thread(target=job, args=(stop,)) for job in jobs]
    for thread in threads:
        thread.start()
    try:
        time.sleep(2 if jobs else 0)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def never_reads(url, stop):
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(address(url))
        client.sendall(b"GET /files/big HTTP/1.1\r\nHost: app\r\n\r\n")
        stop.wait()


def reads_all(url, stop, read, bytes_per_second=math.inf):
    began = time.monotonic()
    while not stop.is_set():
        try:
            with urllib.request.urlopen(url + "files/big", timeout=2) as answer:
                while not stop.is_set() and (got := answer.read(1 << 18)):
                    read[0] += len(got)
                    time.sleep(max(0.0, began + read[0] / bytes_per_second - time.monotonic()))
        except OSError:
            pass  # refused, or stalled by the other: `read_mib` shows it


def slowloris(url, stop, held):
    head = b"GET / HTTP/1.1\r\nHost: app\r\nX-Slow: " + b"x" * 600
    clients = []
    try:
        for _ in range(SLOW):
            clients.append(socket.create_connection(address(url), 5))
            clients[-1].setblocking(False)
        for byte in head:
            taken = 0
            # Spread over the second: all at once is a burst, which is something else.
            for number, client in enumerate(clients):
                try:
                    client.send(bytes([byte]))
                    taken += 1
                except OSError:
                    pass  # it was closed, as it should be
                if number % SLOW_AT_ONCE == 0 and stop.wait(SLOW_AT_ONCE / SLOW):
                    return
            held[0] = taken
    finally:
        for client in clients:
            client.close()


def phase(name, url, args, pids):
    read, held = [0], [0]
    unread, gigabit = (lambda stop: never_reads(url, stop)), (lambda stop: reads_all(url, stop, read, GIGABIT))
    jobs = {"alone": [], "unread": [unread], "gigabit": [gigabit], "both": [unread, gigabit],
            "large": [lambda stop: reads_all(url, stop, read)],
            "slowloris": [lambda stop: slowloris(url, stop, held)]}[name]
    peak, done = [bench.rss_mib(pids)], threading.Event()

    def sample():
        while not done.wait(0.1):
            peak[0] = max(peak[0], bench.rss_mib(pids))
    sampler = threading.Thread(target=sample)
    with beside(*jobs):
        sampler.start()
        try:
            row = bench.oha(args, {"url": url}, CONNECTIONS, args.seconds, RATE)
        finally:
            done.set()
            sampler.join()
        return row | {"mib": peak[0], "read_mib": read[0] / 2**20, "open": held[0]}


def measure(setup, fill, args, logs):
    """One round of one setup: a row for each phase."""
    running = []
    try:
        t0 = bench.start(setup["procs"], fill, args.dir, f"{logs}/{setup['name']}", 20, running)
        bench.ready(setup, running, t0, 20)
        time.sleep(1)
        pids = [pid for process in running if process.account for pid in bench.tree(process.p.pid)]
        bench.oha(args, setup, CONNECTIONS, 1, RATE)
        return {name: phase(name, setup["url"], args, pids) for name in PHASES}
    finally:
        for process in reversed(running):
            process.stop()


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("setups", type=pathlib.Path)
    parse.add_argument("--dir", required=True, type=pathlib.Path)
    parse.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="as bench.py takes it")
    parse.add_argument("--only", default="outrider-mesh", type=lambda names: names.split(","))
    parse.add_argument("--seconds", type=int, default=10, help="length of one phase")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--oha", default="oha", help="path of oha")
    args = parse.parse_args()
    bench.all_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    spec = json.loads(args.setups.read_text())
    fill = bench.filler(spec, args.var, args.dir)
    with open(args.dir / "files/big", "w+b") as big:
        big.truncate(1 << 30)
        # Into the page cache, so that the first to ask for it does not make nginx wait for the kernel.
        while big.read(1 << 20):
            pass
    logs = tempfile.mkdtemp(prefix="stall-logs-")
    print(f"logs: {logs}", file=sys.stderr)
    setups = [s for s in spec["setups"] if s["name"] in args.only]
    shared, rounds = [], {s["name"]: [] for s in setups}
    try:
        bench.start(spec["shared"], fill, args.dir, f"{logs}/shared", 20, shared)
        for number in range(args.rounds):
            for setup in setups:
                rounds[setup["name"]].append(measure(setup, fill, args, logs))
                print(f"round {number + 1}/{args.rounds} {setup['name']} done", file=sys.stderr)
    finally:
        for process in shared:
            process.stop()
    rows = []
    for name, measured in rounds.items():
        of = lambda which, field: statistics.median(row[which][field] for row in measured)
        for which in measured[0]:
            rows.append([name, which, f"{of(which, 'rps'):.0f}", f"{of(which, 'p50') / 1e3:.2f}", f"{of(which, 'p99') / 1e3:.2f}",
                         f"{of(which, 'p99') / of('alone', 'p99'):.2f}", str(sum(row[which]["bad"] for row in measured)),
                         f"{of(which, 'mib'):.0f}", f"{of(which, 'read_mib'):.0f}" if which in ("gigabit", "large", "both") else "-",
                         f"{of(which, 'open'):.0f}" if which == "slowloris" else "-"])
    bench.table(f"small requests at {RATE}/s beside a neighbour, phases of {args.seconds} s, {args.rounds} rounds",
                ["setup", "phase", "rps", "p50_ms", "p99_ms", "p99 to alone", "bad", "peak_mib", "read_mib", "open"], rows)


if __name__ == "__main__":
    main()
