"""A proxy before an S3 server that answers chosen requests with an error, as overloaded stores do."""

import http.client
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit


@dataclass
class Faults:
    """The requests that fail.

    Attributes:
        status: the answer to them.
        left: of each kind, how many still fail.
        below: fail only for paths that hold this.
        cut: bytes of a GET's answer after which the connection ends, in place of an error.
        seen: counts of all requests by kind.
        failed: counts of those that failed.
    """

    status: int = 503
    left: Counter[str] = field(default_factory=Counter)
    below: str = ""
    cut: int | None = None
    seen: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    next: tuple[str, int, str] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def then(self, below: str, status: int, kind: str) -> None:
        """Go over to another fault, which lasts, with the first request whose path holds `below`."""
        self.next = (below, status, kind)

    def clear(self) -> None:
        """Let all requests pass."""
        self.next, self.left, self.cut, self.below = None, Counter(), None, ""

    def fails(self, kind: str, path: str) -> bool:
        """Count a request; return whether it fails."""
        with self.lock:
            self.seen[kind] += 1
            if self.next and self.next[0] in path:
                self.below, self.status, self.left = self.next[0], self.next[1], Counter({self.next[2]: 1000})
                self.next = None
            hit = self.below in path and self.left[kind] > 0
            self.left[kind] -= hit
            self.failed[kind] += hit
            return hit


def kind_of(method: str, target: str) -> str:
    """Return the name of a request in S3's API, as far as uploads and downloads need it."""
    query = parse_qs(urlsplit(target).query, keep_blank_values=True)
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload"
    if method == "PUT" and "partNumber" in query:
        return "UploadPart"
    return "LIST" if method == "GET" and "list-type" in query else method


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"  # pyright: ignore[reportIncompatibleVariableOverride]

    def _do(self) -> None:
        body = self._body()
        faults = self.server.faults
        fails = faults.fails(kind_of(self.command, self.path), self.path)
        if fails and faults.cut is None:
            self._answer(faults.status, {"Content-Type": "application/xml"}, _error(faults.status))
            return
        connection = http.client.HTTPConnection(self.server.upstream, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "expect")}
        connection.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection", "date")}
        self._answer(answer.status, kept, content, faults.cut if fails else None)
        connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _do  # noqa: N815 - the names that http.server calls

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _answer(self, status: int, headers: dict[str, str], content: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        for name, value in (headers | {"Content-Length": length}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        self.close_connection |= cut is not None

    def log_message(self, *_: object) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write no log."""


def _error(status: int) -> bytes:
    code = {503: "SlowDown", 500: "InternalError", 403: "AccessDenied"}[status]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>injected</Message></Error>'.encode()
    )


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, upstream: str, faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.faults = faults

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over connections that the client ended."""


@contextmanager
def faulty(upstream: str) -> Iterator[tuple[str, Faults]]:
    """Hold a proxy before the server at `upstream` (http://host:port) open; give its address and what decides which requests fail."""
    faults = Faults()
    with _Server(upstream, faults) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", faults
        finally:
            server.shutdown()
            thread.join()
