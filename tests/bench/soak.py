#!/usr/bin/env python3
"""Millions of requests through one pair of sidecars, with certificates of a minute that rotate under them.

    soak.py DIR/setups.json --dir DIR [--var grpc=PATH] [--requests 10000000]

Needs what `outrider.py DIR OUTRIDER` has set up. Rounds, in each of which four clients run at the same time, each until its
share is done: 45 % over HTTP/1.1 and 45 % over HTTP/2 (GET of 1,024 bytes, `h2load`), 8 % unary calls of gRPC
(`h2load`), and 2 % over WebSockets of ten messages: each message that came back counts, the upgrade itself does not. All
connections of clients are new in each round. After it: what has failed so far, resident memory, open descriptors and
certificates seen of both sidecars. Then a table by kind, and everything as one line of JSON.

It ends with 1 where a request failed; where one sidecar's memory at the end is more than 5 % above its own after the first
tenth; where a descriptor is left that was not open before the first request, five and a half minutes after the last client
has gone; or where certificates did not rotate.
"""
import argparse
import base64
import hashlib
import json
import os
import pathlib
import re
import signal
import socket
import socketserver
import sys
import tempfile
import threading
import time
import urllib.request
from urllib.parse import urlsplit

import bench

ROUNDS = 100
# Large enough that starting the clients does not count, also where few requests are asked for.
ROUND_LEAST = 10_000
MESSAGES = 10
LIFETIME_SECONDS = 60
# An HTTP/2 connection to the app stays for five minutes without a request; those between sidecars end with their certificates.
SETTLE_SECONDS = 330
CONNECTIONS = {"http1": ["--h1", "-c24"], "http2": ["-c3", "-m8"], "grpc": ["-c1", "-m4"]}
# As many one after the other as keep up with the others.
WEBSOCKETS = 2


# ------------------------------------------------------------------ WebSockets (RFC 6455), as much as an echo needs
def head(sock):
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        more = sock.recv(1)
        if not more:
            raise OSError("closed within the head")
        got += more
    return got.decode("latin-1")


def exactly(sock, count):
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        if not more:
            raise OSError("closed within a frame")
        got += more
    return got


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def frame(opcode, payload, mask=b""):
    """One of at most 125 bytes."""
    masked = bytes(b ^ mask[i % 4] for i, b in enumerate(payload)) if mask else payload
    return bytes([0x80 | opcode, (0x80 if mask else 0) | len(payload)]) + mask + masked


def read_frame(sock):
    first, length = exactly(sock, 2)
    mask = exactly(sock, 4) if length & 0x80 else b"\0\0\0\0"
    return first & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(exactly(sock, length & 0x7F)))


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            key = re.search(r"(?i)\r\nsec-websocket-key: *(\S+)", head(self.request))
            if not key:
                self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.request.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  f"Sec-WebSocket-Accept: {accept_of(key[1])}\r\n\r\n").encode())
            opcode = 2
            while opcode != 8:
                opcode, payload = read_frame(self.request)
                self.request.sendall(frame(opcode, payload))
        except OSError:
            pass  # the other side has seen it too, and counts it


class EchoServer(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads, request_queue_size = True, True, 1024


def websocket(port):
    """One upgrade and its messages: raises OSError where anything is not as it should be."""
    key = base64.b64encode(os.urandom(16)).decode()
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(("GET / HTTP/1.1\r\nHost: app\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        answer = head(sock)
        if not answer.startswith("HTTP/1.1 101 ") or accept_of(key) not in answer:
            raise OSError(f"not upgraded: {answer!r}")
        for number in range(MESSAGES):
            sent = b"message %d" % number
            sock.sendall(frame(2, sent, os.urandom(4)))
            if read_frame(sock) != (2, sent):
                raise OSError("another message came back")
        sock.sendall(frame(8, b"\x03\xe8", os.urandom(4)))
        if read_frame(sock)[0] != 8 or sock.recv(1):
            raise OSError("not closed as it should be")


# ------------------------------------------------------------------ the clients: each (done, failed, why)
def websockets(port, count):
    failures, lock, left = [], threading.Lock(), [count // MESSAGES]

    def one_after_the_other():
        while True:
            with lock:
                if not left[0]:
                    return
                left[0] -= 1
            try:
                websocket(port)
            except OSError as error:
                failures.append(str(error))
    threads = [threading.Thread(target=one_after_the_other) for _ in range(WEBSOCKETS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count, len(failures) * MESSAGES, failures[:3]


def h2load(setup, kind, count):
    how = [*CONNECTIONS[kind], f"-n{count}", "--connection-inactivity-timeout=20"]
    ok, data, bad, out = bench.h2load_run("h2load", setup, how, 600)
    bad = max(bad, count - data // setup["answer"], count - ok)
    return count, bad, re.findall(r"^(?:requests|status codes|time for request): .*", out, re.M) if bad else []


def share(requests):
    """Of one round, by kind; those of WebSockets are whole connections."""
    upgrades, unary = requests // 50 // MESSAGES * MESSAGES, requests * 8 // 100
    http1 = (requests - upgrades - unary) // 2
    return {"http1": http1, "http2": requests - upgrades - unary - http1, "grpc": unary, "websocket": upgrades}


class Soak:
    def __init__(self, setup, sidecars, health):
        unary = setup | {"url": f"{base(setup['url'], 1)}/grpc.testing.TestService/UnaryCall", "post": setup["unary"],
                         "headers": {"Content-Type": "application/grpc", "TE": "trailers"}}
        self.setups = {"http1": setup | {"answer": 1024}, "http2": setup | {"answer": 1024}, "grpc": unary}
        self.upgrade_port = urlsplit(base(setup["url"], 2)).port
        self.pids, self.health = [p.p.pid for p in sidecars], health
        self.leaves, self.refusals = [set() for _ in sidecars], [{} for _ in sidecars]
        self.kinds = {kind: {"requests": 0, "failed": 0, "seconds": 0.0} for kind in (*CONNECTIONS, "websocket")}
        self.rounds = []

    def look(self):
        memory = [round(bench.rss_mib([pid]), 2) for pid in self.pids]
        return memory, [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids]

    def read_metrics(self):
        """The certificates seen, and what each sidecar has refused so far, by reason."""
        for seen, refused, address in zip(self.leaves, self.refusals, self.health):
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                text = answer.read().decode()
            seen.update(re.findall(r"^outrider_certificate_not_before_timestamp_seconds{\S* (\S+)", text, re.M))
            refused.update(re.findall(r"^outrider_refusals_total{\S*reason=\"(\w+)\"\S* (\d*[1-9]\d*)", text, re.M))

    def client(self, kind, count):
        began = time.monotonic()
        try:
            run = websockets(self.upgrade_port, count) if kind == "websocket" else h2load(self.setups[kind], kind, count)
            done, failed, why = run
        except Exception as error:  # a client that broke has sent nothing that can be counted as answered
            done, failed, why = count, count, [repr(error)]
        for line in why:
            print(f"  {kind}: {line}", file=sys.stderr)
        row = self.kinds[kind]
        row["requests"] += done
        row["failed"] += failed
        row["seconds"] += time.monotonic() - began

    def wait_ready(self):
        for address in self.health:
            end = time.monotonic() + 20
            while True:
                try:
                    urllib.request.urlopen(f"http://{address}/ready", timeout=5).close()
                    break
                except OSError as error:
                    if time.monotonic() > end:
                        sys.exit(f"not ready within 20 s: {address}: {error}")
                time.sleep(0.1)

    def idle_descriptors(self):
        """The fewest of some moments: it looks at the app's ports itself, and is asked whether it is ready."""
        looks = []
        for _ in range(10):
            time.sleep(0.2)
            looks.append(self.look()[1])
        return [min(seen) for seen in zip(*looks)]

    def warm_up(self):
        """gRPC, as soon as it answers, and a WebSocket; the answer of gRPC tells how much data each has."""
        end = time.monotonic() + 20
        while not self.setups["grpc"].get("answer"):
            if time.monotonic() > end:
                sys.exit("no answer of gRPC within 20 s")
            self.setups["grpc"]["answer"] = bench.h2load_run("h2load", self.setups["grpc"], ["-n1"], 5)[1]
        websocket(self.upgrade_port)

    def run(self, requests):
        """Whether all is as it should be."""
        began, first, done, failed = time.monotonic(), None, 0, 0
        each = max(ROUND_LEAST, requests // ROUNDS)
        self.wait_ready()
        before = self.idle_descriptors()
        self.warm_up()
        print("| requests | failed | s | MiB of both sidecars | descriptors | certificates |\n|---|---|---|---|---|---|")
        while done < requests:
            clients = [threading.Thread(target=self.client, args=part) for part in share(min(each, requests - done)).items()]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            failed_before = failed
            done, failed = (sum(row[field] for row in self.kinds.values()) for field in ("requests", "failed"))
            (memory, descriptors), seconds = self.look(), time.monotonic() - began
            self.read_metrics()
            if failed > failed_before:
                print(f"  refused so far: {self.refusals}", file=sys.stderr)
            if first is None and done >= requests / 10:
                first = memory
            certificates = [len(seen) for seen in self.leaves]
            self.rounds.append({"requests": done, "failed": failed, "seconds": round(seconds, 1), "mib": memory,
                                "descriptors": descriptors, "certificates": certificates})
            pair = lambda values, form="": ", ".join(format(value, form) for value in values)
            print(f"| {done:,} | {failed} | {seconds:.0f} | {pair(memory, '.1f')} | {pair(descriptors)} | "
                  f"{pair(certificates)} |", flush=True)
        end = time.monotonic() + SETTLE_SECONDS
        while any(a > b for a, b in zip(self.look()[1], before)) and time.monotonic() < end:
            time.sleep(1)
        growth = [round(last / tenth, 3) for last, tenth in zip(memory, first)]
        return self.tell(seconds, growth, before, self.look()[1])

    def tell(self, seconds, growth, before, left):
        print("\n| kind | requests | failed | requests/s while it ran |\n|---|---|---|---|")
        for kind, row in self.kinds.items():
            print(f"| {kind} | {row['requests']:,} | {row['failed']} | {row['requests'] / max(row['seconds'], .001):,.0f} |")
        print(f"\nmemory at the end to that after a tenth: {growth}; descriptors before {before}, after {left}")
        certificates = self.rounds[-1]["certificates"]
        checks = {"no request failed": not any(row["failed"] for row in self.kinds.values()),
                  "memory within 5 %": all(ratio <= 1.05 for ratio in growth),
                  "no descriptor left": all(a <= b for a, b in zip(left, before)),
                  "certificates rotated": all(seen >= seconds // LIFETIME_SECONDS for seen in certificates)}
        print(json.dumps({"kinds": self.kinds, "seconds": round(seconds, 1), "growth": growth, "descriptors_before": before,
                          "descriptors_after": left, "refusals": self.refusals, "checks": checks, "rounds": self.rounds}))
        for check, holds in checks.items():
            print(f"{'ok' if holds else 'FAILED'}: {check}", file=sys.stderr)
        return all(checks.values())


def base(url, further):
    """The listener so many ports further."""
    at = urlsplit(url)
    return f"http://{at.hostname}:{at.port + further}"


def main():
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("setups", nargs="?", type=pathlib.Path)
    parse.add_argument("--dir", type=pathlib.Path)
    parse.add_argument("--var", action="append", default=[], metavar="NAME=VALUE", help="as bench.py takes it")
    parse.add_argument("--requests", type=int, default=10_000_000)
    parse.add_argument("--serve", type=int, metavar="PORT", help="is the app that takes upgrades, and nothing else")
    args = parse.parse_args()
    if args.serve:
        EchoServer(("127.0.0.1", args.serve), Echo).serve_forever()
    if not (args.setups and args.dir):
        parse.error("the setups file and --dir are needed")
    bench.all_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    spec = json.loads(args.setups.read_text())
    fill = bench.filler(spec, args.var, args.dir)
    setup = next(s for s in spec["setups"] if s["name"] == "outrider-soak")
    setup["unary"] = fill("{dir}/unary.bin")
    running = []
    logs = tempfile.mkdtemp(prefix="soak-logs-")
    print(f"logs: {logs}", file=sys.stderr)
    try:
        bench.start([*spec["shared"], *setup["procs"]], fill, args.dir, f"{logs}/soak", 20, running)
        cmd = lambda process: next(p["cmd"] for p in setup["procs"] if p["name"] == process.name)
        sidecars = [process for process in running if process.name in ("in", "out")]
        health = [cmd(process)[cmd(process).index("--health") + 1] for process in sidecars]
        ok = Soak(setup, sidecars, health).run(args.requests)
    finally:
        for process in reversed(running):
            process.stop()
    sys.exit(not ok)


if __name__ == "__main__":
    main()
