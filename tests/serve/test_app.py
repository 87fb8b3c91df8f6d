"""The endpoint over HTTP."""

import asyncio
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from distill.encoders.checkpoints import load_late_interaction
from distill.index.exact import ExactIndex
from serve.app import LimitBody
from serve.errors import ServeError
from serve.launch import needs, start
from tests.serve.samples import DOCUMENT_COUNT, TEXTS, Endpoint, document_of, free_port

QUERY = "A honey bee tells her sisters where food is"


def post(endpoint: Endpoint, body: Any) -> httpx.Response:
    return httpx.post(f"{endpoint.url}/search", json=body, timeout=30)


def test_search_answers_what_the_index_does(endpoint: Endpoint, checkpoint: Path, index_folder: Path) -> None:
    answer = post(endpoint, {"query": QUERY, "k": 3})
    assert answer.status_code == 200
    index = ExactIndex.open(pafs.LocalFileSystem(), str(index_folder))
    (hits,) = index.search_documents(load_late_interaction(checkpoint).encode_queries([QUERY]), 3)
    body = answer.json()
    assert body["query"] == QUERY
    assert body["took_ms"] > 0
    assert [result["rank"] for result in body["results"]] == [1, 2, 3]
    for hit, result in zip(hits, body["results"], strict=True):
        assert (result["id"], result["lang"], result["title"], result["text"]) == TEXTS[hit.position]
        assert result["doc_id"] == document_of(result["id"])
        assert result["score"] == pytest.approx(hit.score, abs=0.01)


def test_ten_results_unless_asked_otherwise(endpoint: Endpoint) -> None:
    assert len(post(endpoint, {"query": QUERY}).json()["results"]) == DOCUMENT_COUNT
    assert len(post(endpoint, {"query": QUERY, "k": 1}).json()["results"]) == 1


def test_a_document_is_found_once_by_its_best_passage(endpoint: Endpoint) -> None:
    for text in ("Ein Text ohne Titel", "Ein Text ohne Titel und sein zweiter Teil"):
        results = post(endpoint, {"query": text, "k": DOCUMENT_COUNT, "langs": ["de"]}).json()["results"]
        assert sorted(result["doc_id"] for result in results) == ["bees", "untitled"]
        # As many documents as were asked for, though both passages of one are better than the other.
        [first, second] = post(endpoint, {"query": text, "k": 2, "langs": ["de"]}).json()["results"]
        assert (first, second) == (results[0], results[1])


def test_a_query_that_is_longer_than_the_model_reads_is_said_to_be(endpoint: Endpoint) -> None:
    """The model reads 12 tokens of a query: [CLS], a marker, 9 words and [SEP]."""
    assert post(endpoint, {"query": " ".join(["bee"] * 9)}).json()["query_truncated"] is False
    assert post(endpoint, {"query": " ".join(["bee"] * 10)}).json()["query_truncated"] is True


def test_language_filter(endpoint: Endpoint) -> None:
    answer = post(endpoint, {"query": QUERY, "langs": ["fa", "de"]}).json()
    assert sorted((r["doc_id"], r["lang"]) for r in answer["results"]) == [
        ("bees", "de"),
        ("bees", "fa"),
        ("untitled", "de"),
    ]
    assert (
        post(endpoint, {"query": QUERY, "langs": None}).json()["results"]
        == post(endpoint, {"query": QUERY}).json()["results"]
    )


def test_queries_that_arrive_together_get_their_own_answers(endpoint: Endpoint) -> None:
    texts = [text for *_, text in TEXTS]
    alone = [post(endpoint, {"query": text, "k": 1}).json()["results"] for text in texts]
    with ThreadPoolExecutor(10) as pool:
        together = [
            answer.json()["results"] for answer in pool.map(lambda t: post(endpoint, {"query": t, "k": 1}), texts * 4)
        ]
    for one, many in zip(alone * 4, together, strict=True):
        assert many[0]["id"] == one[0]["id"]
        assert many[0]["score"] == pytest.approx(one[0]["score"], abs=0.01)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"query": ""}, "query is empty"),
        ({"query": " \n\t"}, "query is empty"),
        ({"query": "x" * 201}, "query has 201 characters, at most 200 are allowed"),
        ({"query": "x", "k": 0}, "k must be from 1 to 100, found 0"),
        ({"query": "x", "k": -1}, "k must be from 1 to 100, found -1"),
        ({"query": "x", "k": 1_000_000}, "k must be from 1 to 100, found 1000000"),
        ({"query": "x", "k": "5"}, "k must be a whole number, found '5'"),
        ({"query": "x", "k": True}, "k must be a whole number, found True"),
        ({"query": "x", "k": 2.5}, "k must be a whole number, found 2.5"),
        ({"query": "x", "k": None}, "k must be a whole number, found None"),
        ({"query": 7}, "query must be a string, found 7"),
        ({"query": None}, "query must be a string, found None"),
        ({"query": "x", "langs": ["en", "xx"]}, "langs has 'xx', which the index does not; it has de, en, fa"),
        ({"query": "x", "langs": []}, "langs must name a language, or be left out, found []"),
        ({"query": "x", "langs": "en"}, "langs must be a list of language codes, or left out, found 'en'"),
        ({"query": "x", "langs": [1]}, "langs[0] must be a string, found 1"),
        ({"k": 3}, "query is missing"),
        ({"query": "x", "size": 3}, "unknown field 'size'; the fields are query, k, langs"),
        ({"query": 7, "k": "5"}, "query must be a string, found 7; k must be a whole number, found '5'"),
        (
            [],
            'the body must be a JSON object such as {"query": "...", "k": 10}, sent with Content-Type: application/json',
        ),
    ],
)
def test_bad_requests(endpoint: Endpoint, body: Any, message: str) -> None:
    answer = post(endpoint, body)
    assert (answer.status_code, answer.json()) == (422, {"error": message})


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (b"", 422, "the body must be a JSON object"),
        (b"hello", 422, "the body is not JSON: Expecting value"),
        (b'{"query": ', 422, "the body is not JSON: Expecting value"),
        (b'{"query": "\\ud800"}', 422, "query holds half of a surrogate pair, which is no character"),
        (b'{"query": "\xff"}', 400, "There was an error parsing the body"),
        (b"[" * 60_000, 400, "There was an error parsing the body"),
        (b'{"query": "x", "k": ' + b"9" * 5_000 + b"}", 400, "There was an error parsing the body"),
    ],
)
def test_bodies_that_are_no_requests(endpoint: Endpoint, content: bytes, status: int, message: str) -> None:
    answer = httpx.post(
        f"{endpoint.url}/search", content=content, headers={"Content-Type": "application/json"}, timeout=30
    )
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)


def test_json_without_its_content_type(endpoint: Endpoint) -> None:
    answer = httpx.post(
        f"{endpoint.url}/search",
        content=json.dumps({"query": QUERY}),
        headers={"Content-Type": "text/plain"},
        timeout=30,
    )
    assert answer.status_code == 422
    assert answer.json()["error"].endswith("sent with Content-Type: application/json")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_of_ten_megabytes(endpoint: Endpoint, announced: bool) -> None:
    chunk = b"x" * 100_000
    content = chunk * 100 if announced else (chunk for _ in range(100))
    answer = httpx.post(f"{endpoint.url}/search", content=content, timeout=30)
    assert (answer.status_code, answer.json()) == (413, {"error": "the body has more than 65536 bytes"})
    assert post(endpoint, {"query": QUERY}).status_code == 200


@pytest.mark.parametrize(("size", "status"), [(65_536, 200), (65_537, 413)])
def test_the_largest_body(endpoint: Endpoint, size: int, status: int) -> None:
    body = json.dumps({"query": QUERY}).encode()
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{endpoint.url}/search", content=body + b" " * (size - len(body)), headers=headers, timeout=30)
    assert answer.status_code == status


@pytest.mark.parametrize(("headers", "read"), [([(b"content-length", b"11")], 0), ([], 3)])
def test_a_large_body_is_not_read_to_its_end(headers: list[tuple[bytes, bytes]], read: int) -> None:
    received, sent = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"1234", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass

    async def call() -> None:
        from starlette.exceptions import HTTPException

        try:
            await LimitBody(app, 10)({"type": "http", "headers": headers}, receive, send)
        except HTTPException as error:
            sent.append({"status": error.status_code})

    asyncio.run(call())
    assert received == read
    assert sent[0]["status"] == 413


def test_unknown_paths_and_methods(endpoint: Endpoint) -> None:
    answer = httpx.get(f"{endpoint.url}/nothing/here", timeout=30)
    assert (answer.status_code, answer.json()) == (404, {"error": "there is nothing at '/nothing/here'; see /docs"})
    answer = httpx.get(f"{endpoint.url}/search", timeout=30)
    assert (answer.status_code, answer.json()) == (405, {"error": "'/search' does not take GET; see /docs"})


def test_health(endpoint: Endpoint, index_folder: Path) -> None:
    vectors = sum(pq.read_table(index_folder / "documents")["tokens"].to_pylist())
    assert httpx.get(f"{endpoint.url}/health", timeout=30).json() == {
        "status": "ok",
        "documents": 5,
        "passages": 6,
        "truncated": {"en": 1},
        "vectors": vectors,
        "dim": 16,
        "languages": {"de": 2, "en": 2, "fa": 1},
        "model": endpoint.checkpoint,
        "index": endpoint.index,
        "max_k": 100,
        "max_query_characters": 200,
    }


def test_openapi_documents_the_search(endpoint: Endpoint) -> None:
    schema = httpx.get(f"{endpoint.url}/openapi.json", timeout=30).json()
    assert set(schema["paths"]) == {"/search", "/health"}
    assert set(schema["paths"]["/search"]["post"]["responses"]) == {"200", "413", "422"}
    request = schema["components"]["schemas"]["SearchRequest"]
    assert request["required"] == ["query"]
    assert {name: bool(field["description"]) for name, field in request["properties"].items()} == {
        "query": True,
        "k": True,
        "langs": True,
    }
    assert [sorted(example) for example in request["examples"]] == [["query"], ["k", "langs", "query"]]
    assert "swagger" in httpx.get(f"{endpoint.url}/docs", timeout=30).text


def test_start_where_serve_listens_elsewhere(endpoint: Endpoint) -> None:
    settings = endpoint.settings.model_copy(update={"port": free_port()})
    with pytest.raises(ServeError, match=f"Ray Serve already listens on port {endpoint.settings.port} of this cluster"):
        start(endpoint.checkpoint, endpoint.index, settings)


def test_start_without_a_checkpoint_or_an_index(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(ServeError, match="holds no checkpoint; run the train stage first"):
        start(str(tmp_path), endpoint.index, endpoint.settings)
    with pytest.raises(ServeError, match="holds no table 'documents'; run the index stage first"):
        start(endpoint.checkpoint, str(tmp_path), endpoint.settings)


def test_a_taken_port_is_refused() -> None:
    from serve.launch import check_port

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(
            ServeError, match=f"^port {port} of 127.0.0.1 is taken by another program: set serve.port to a free one"
        ):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(ServeError, match="is not an address of this machine"):
        check_port("no.such.host.invalid", port)


def test_needs_two_cpus_for_each_replica(endpoint: Endpoint) -> None:
    (need,) = needs(endpoint.settings.model_copy(update={"replicas": 3}))
    assert (need.count, need.cpus, need.setting) == (6, 1.0, "serve.replicas")
