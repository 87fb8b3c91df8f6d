"""The client: its answers, its errors, and that it needs the standard library alone."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import serve.client
from serve.answers import Health, Result, SearchResponse
from serve.client import SearchClient, SearchError
from tests.serve.samples import Endpoint, free_port

HEALTH = {
    "status": "ok",
    "documents": 5,
    "passages": 6,
    "truncated": {},
    "vectors": 60,
    "dim": 16,
    "languages": {"de": 2, "fa": 3},
    "model": "m",
    "index": "i",
    "max_k": 100,
    "max_query_characters": 200,
}
RESULT = {
    "rank": 1,
    "id": "bees",
    "doc_id": "bees",
    "lang": "de",
    "title": "Bienen",
    "text": "Eine Biene",
    "score": 2.5,
}
ANSWERS = {
    "/health": (200, json.dumps(HEALTH | {"added_later": 1}).encode()),
    "/search": (
        200,
        json.dumps({"query": "bee", "results": [RESULT], "took_ms": 1.5, "query_truncated": False}).encode(),
    ),
    "/short/health": (200, b'{"status": "ok"}'),
    "/list/health": (200, b"[]"),
    "/page/health": (200, b"<html>"),
    "/failed/health": (502, b"<html>bad gateway"),
}


class Handler(BaseHTTPRequestHandler):
    """Answers as ANSWERS says."""

    def do_GET(self) -> None:
        status, body = ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of ANSWERS."""
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_answers_are_dataclasses_and_unknown_fields_are_left_out(url: str) -> None:
    client = SearchClient(url)
    assert client.search("bee") == SearchResponse("bee", [Result(**RESULT)], 1.5, query_truncated=False)
    assert client.health() == Health(**HEALTH)


def test_standard_library_alone(url: str) -> None:
    """The interpreter finds no installed package, as `-S` leaves out site-packages."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from serve.client import SearchClient\n"
        "client = SearchClient(sys.argv[2])\n"
        "print(client.search('bee', k=1, langs=['de']).results[0].title, client.health().documents)\n"
        "others = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'__main__'}\n"
        "print(*sorted(others))"
    )
    root = Path(serve.client.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(root), url], capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.stderr) == (["Bienen 5", "serve"], "")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/short", None, "is no Polyray endpoint: its answer has no documents, passages, truncated, vectors, dim"),
        ("/list", None, "is no Polyray endpoint: its answer has no status, documents"),
        ("/page", None, "is no Polyray endpoint: its answer is not JSON"),
        ("/failed", 502, "HTTP 502: <html>bad gateway"),
    ],
)
def test_a_server_of_something_else(url: str, path: str, status: int | None, message: str) -> None:
    with pytest.raises(SearchError, match=message) as error:
        SearchClient(url + path).health()
    assert error.value.status == status


def test_a_running_endpoint(endpoint: Endpoint) -> None:
    client = SearchClient(endpoint.url + "/")
    assert client.health().documents == 5
    assert [(r.rank, r.lang) for r in client.search("زنبور عسل", k=1, langs=["fa"]).results] == [(1, "fa")]
    with pytest.raises(SearchError, match=r"^query is empty$") as error:
        client.search("")
    assert error.value.status == 422


def test_no_endpoint() -> None:
    with pytest.raises(SearchError, match=r"does not answer: .*refused") as error:
        SearchClient(f"http://127.0.0.1:{free_port()}").health()
    assert error.value.status is None
    with pytest.raises(ValueError, match="must begin with http"):
        SearchClient("localhost:8000")
