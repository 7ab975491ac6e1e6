"""HTTP by Python, over plaintext: as a server of the standard library, or as a client that does each operation once.

http_peer.py serve 1.0|1.1 ADDRESS
http_peer.py call h1|h2 ADDRESS...

A client, `http.client` or httpx, prints what it saw as lines of JSON, in the order of the operations, for one address after
the other.
"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ECHO_BYTES = 64 << 10
LARGE_BYTES = 1 << 20


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def body(self):
        """As applications of this library read it: the library itself reads no body."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def answer(self, status, kind=None, content=b"", length=True):
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
        if length and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        if self.path == "/hello":
            self.answer(200, "text/plain", b"hello\n")
        elif self.path == "/none":
            self.answer(204)
        elif self.path == "/large":
            # In HTTP/1.0 the end of the connection is the end of the body.
            told = self.protocol_version == "HTTP/1.1"
            self.answer(200, "application/octet-stream", pattern(LARGE_BYTES), length=told)
        elif self.path == "/seen":
            self.answer(200, "text/plain", " ".join(sorted(map(str.lower, self.headers))).encode())
        else:
            self.answer(404)

    do_HEAD = do_GET

    def do_POST(self):
        self.answer(200, "application/octet-stream", self.body())


def serve(version, address):
    Handler.protocol_version = "HTTP/" + version
    host, port = address.split(":")
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


OPERATIONS = [
    ("get", "GET", "/hello", None),
    ("echo", "POST", "/echo", "length"),
    ("stream", "POST", "/echo", "parts"),
    ("head", "HEAD", "/hello", None),
    ("none", "GET", "/none", None),
    ("large", "GET", "/large", None),
    ("seen", "GET", "/seen", None),
]


def content_of(body):
    """The bytes to send, or parts of them whose number nobody tells."""
    if body == "parts":
        return (pattern(ECHO_BYTES)[at:at + 1000] for at in range(0, ECHO_BYTES, 1000))
    return pattern(ECHO_BYTES) if body == "length" else None


def over_1(at):
    connection = http.client.HTTPConnection(at, timeout=15)

    def ask(method, path, body):
        connection.request(method, path, content_of(body), encode_chunked=body == "parts")
        answer = connection.getresponse()
        return answer.status, answer.getheaders(), answer.read()

    return ask, connection.close


def over_2(at):
    import httpx

    client = httpx.Client(http1=False, http2=True, timeout=15, trust_env=False)

    def ask(method, path, body):
        answer = client.request(method, f"http://{at}{path}", content=content_of(body))
        return answer.status_code, answer.headers.items(), answer.content

    return ask, client.close


def call(protocol, at):
    ask, close = over_1(at) if protocol == "h1" else over_2(at)
    for op, method, path, body in OPERATIONS:
        seen = {"at": at, "op": op}
        try:
            status, fields, content = ask(method, path, body)
            seen["status"] = status
            seen["fields"] = {name.lower(): value for name, value in fields}
            seen["length"] = len(content)
            seen["patterned"] = content == pattern(len(content))
            seen["text"] = content.decode() if len(content) < 4096 else ""
        except Exception as error:
            seen["error"] = repr(error)
        print(json.dumps(seen), flush=True)
    close()


def main(mode, protocol, *addresses):
    if mode == "serve":
        serve(protocol, addresses[0])
    for at in addresses:
        call(protocol, at)


main(*sys.argv[1:])
