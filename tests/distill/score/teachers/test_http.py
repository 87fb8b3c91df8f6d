"""The HTTP teacher against a real server on this machine that speaks the three protocols and fails on request."""

import datetime as dt
import email.utils
import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from distill.models.locate import ModelError
from distill.score.settings import HttpTeacher
from distill.score.teachers import http as module
from distill.score.teachers.http import HttpScorer, retry_after
from distill.score.teachers.interface import PairScorer


def relevance(query: str, passage: str) -> float:
    """The server's model: a number that no two of the tests' pairs share."""
    return int(query.split()[1]) * 1000 + int(passage.split()[1]) - 500.5


class ScoringServer(ThreadingHTTPServer):
    """Speaks /score (vLLM), /rerank (text-embeddings-inference) and /v2/rerank (Cohere)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.faults: deque[Callable[[Handler], None]] = deque()
        self.delay = 0.0
        self.open = self.most_open = 0
        self.change: Callable[[Any], Any] = lambda answer: answer

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScoringServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            server.requests.append(body)
            server.headers.append(dict(self.headers))
            server.times.append(time.monotonic())
            server.open += 1
            server.most_open = max(server.most_open, server.open)
            fault = server.faults.popleft() if server.faults else None
        try:
            time.sleep(server.delay)
            if fault is not None:
                fault(self)
            else:
                self.answer(200, server.change(self.scores(body)))
        finally:
            with server.lock:
                server.open -= 1

    def scores(self, body: dict[str, Any]) -> Any:
        if self.path == "/score":
            raw = not body["use_activation"]
            values = [relevance(body["queries"], text) for text in body["documents"]]
            rows = [{"index": i, "object": "score", "score": v if raw else sigmoid(v)} for i, v in enumerate(values)]
            return {"id": "score-1", "object": "list", "model": "m", "data": rows, "usage": {}}
        texts = body["texts"] if self.path == "/rerank" else body["documents"]
        values = [(relevance(body["query"], text), i) for i, text in enumerate(texts)]
        best_first = sorted(values, reverse=True)
        if self.path == "/rerank":
            return [{"index": i, "score": v if body["raw_scores"] else sigmoid(v)} for v, i in best_first]
        best_first = best_first[: body["top_n"]]
        return {"id": "r", "results": [{"index": i, "relevance_score": sigmoid(v / 1000)} for v, i in best_first]}

    def answer(self, status: int, content: Any, **headers: str) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the tests read what they need from the server."""


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def fails(status: int, content: Any = None, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(status, content or {"error": "busy"}, **headers)


def hangs_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def stops_in_the_middle(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.close_connection = True


@pytest.fixture
def server() -> Iterator[ScoringServer]:
    server = ScoringServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.01)


PATHS = {"vllm_score": "/score", "tei_rerank": "/rerank", "cohere_rerank": "/v2/rerank"}
QUERIES = [f"query {q}" for q in range(5)]
PASSAGES = [f"passage {p}" for p in range(40)]
PAIRS = [(q, p) for p in range(40) for q in range(5) if (p + q) % 3]
EXPECTED = np.array([relevance(QUERIES[q], PASSAGES[p]) for q, p in PAIRS], dtype=np.float32)


def teacher(server: ScoringServer, api: str = "vllm_score", **settings: Any) -> HttpScorer:
    values = {"url": server.url(PATHS[api]), "api": api, "raw_scores": api != "cohere_rerank", "pairs_per_request": 7}
    return HttpScorer(HttpTeacher.model_validate({**values, **settings}))


@pytest.mark.parametrize("api", ["vllm_score", "tei_rerank"])
def test_every_score_lands_on_its_pair(server: ScoringServer, api: str) -> None:
    scored = teacher(server, api).score(QUERIES, PASSAGES, PAIRS)
    assert scored.scores.tolist() == EXPECTED.tolist()
    assert scored.truncated.tolist() == [False] * len(PAIRS)
    # 26 or 27 passages a query, 7 in a request: 4 requests for each of 5 queries, and none with two queries.
    assert len(server.requests) == 20


def test_coheres_activated_scores_land_on_their_pairs(server: ScoringServer) -> None:
    scores = teacher(server, "cohere_rerank", model="rerank-9").score(QUERIES, PASSAGES, PAIRS).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-EXPECTED.astype(float) / 1000)), rtol=1e-6)
    assert {request["model"] for request in server.requests} == {"rerank-9"}


def test_requests_say_what_each_protocol_says(server: ScoringServer) -> None:
    pairs = [(1, 3), (1, 2)]
    teacher(server, model="m", max_passage_tokens=9, fields={"instruction": "i"}).score(QUERIES, PASSAGES, pairs)
    teacher(server, "tei_rerank", model="m", raw_scores=False).score(QUERIES, PASSAGES, pairs)
    teacher(server, "cohere_rerank", max_passage_tokens=9).score(QUERIES, PASSAGES, pairs)
    texts = ["passage 3", "passage 2"]
    assert server.requests == [
        {
            "model": "m",
            "queries": "query 1",
            "documents": texts,
            "use_activation": False,
            "max_tokens_per_doc": 9,
            "instruction": "i",
        },
        {"query": "query 1", "texts": texts, "raw_scores": False, "truncate": True},
        {"query": "query 1", "documents": texts, "top_n": 2, "max_tokens_per_doc": 9},
    ]


def test_no_pairs_are_no_requests(server: ScoringServer) -> None:
    assert len(teacher(server).score(QUERIES, PASSAGES, []).scores) == 0
    assert server.requests == []


def test_a_text_that_comes_twice_is_scored_twice(server: ScoringServer) -> None:
    pairs = [(2, 4), (2, 4), (2, 5)]
    assert teacher(server, "tei_rerank").score(QUERIES, PASSAGES, pairs).scores.tolist() == [1503.5, 1503.5, 1504.5]


def test_no_more_requests_are_open_than_allowed(server: ScoringServer) -> None:
    server.delay = 0.05
    scored = teacher(server, concurrency=3, pairs_per_request=4).score(QUERIES, PASSAGES, PAIRS)
    assert scored.scores.tolist() == EXPECTED.tolist()
    assert server.most_open == 3


def test_bursts_of_faults_are_ridden_out(server: ScoringServer) -> None:
    server.faults.extend([fails(503), hangs_up, fails(429), fails(500), stops_in_the_middle, fails(502), fails(408)])
    scored = teacher(server, attempts=8).score(QUERIES, PASSAGES, PAIRS)
    assert scored.scores.tolist() == EXPECTED.tolist()
    assert len(server.requests) == 20 + 7


def test_a_slow_answer_is_asked_for_again(server: ScoringServer) -> None:
    server.faults.append(lambda handler: time.sleep(3) or hangs_up(handler))
    assert teacher(server, timeout_s=1.5).score(QUERIES, PASSAGES, [(3, 1)]).scores.tolist() == [2500.5]
    assert len(server.requests) == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_holds_for_every_request(server: ScoringServer, form: str) -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    text = "1" if form == "seconds" else email.utils.format_datetime(later, usegmt=True)
    server.faults.append(fails(429, Retry_After=text))
    scored = teacher(server, concurrency=1).score(QUERIES, PASSAGES, PAIRS)
    assert scored.scores.tolist() == EXPECTED.tolist()
    assert np.diff(server.times)[0] >= 1.0  # a date has whole seconds, so two of them are one at least
    assert len(server.times) == 21


def test_a_wait_that_is_asked_of_one_request_stops_the_others(server: ScoringServer) -> None:
    server.faults.append(fails(429, Retry_After="2"))
    server.delay = 0.2
    teacher(server, concurrency=4).score(QUERIES, PASSAGES, PAIRS)
    gaps = np.diff(server.times)
    # The other three would have gone on, and left the one that waited for the end.
    assert gaps.max() >= 1.0
    assert len(gaps) - gaps.argmax() >= 5


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "120"}, 120.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:27:30 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:29:00 GMT"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "soon"}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(httpx.Headers(headers)) == seconds


def test_a_server_that_stays_busy_fails_with_its_words(server: ScoringServer) -> None:
    server.faults.extend([fails(503, {"error": {"message": "model is\nloading"}})] * 3)
    with pytest.raises(ModelError, match=r"/score: answered 503: model is loading, 3 times in a row; is the server up"):
        teacher(server, attempts=3, concurrency=1).score(QUERIES, PASSAGES, PAIRS)
    assert len(server.requests) == 3


def test_a_server_that_is_not_there_fails_with_its_address() -> None:
    settings = HttpTeacher(url="http://127.0.0.1:9/score", api="vllm_score", attempts=2)
    with pytest.raises(ModelError, match=r"^http://127\.0\.0\.1:9/score: ConnectError: .*refused, 2 times in a row"):
        HttpScorer(settings).score(QUERIES, PASSAGES, PAIRS)


def test_too_long_a_wait_is_refused(server: ScoringServer) -> None:
    server.faults.append(fails(429, Retry_After="3600"))
    with pytest.raises(ModelError, match=r"asks to wait 3600 s, score\.teacher\.longest_wait_s is 600"):
        teacher(server, concurrency=1).score(QUERIES, PASSAGES, PAIRS)


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (400, {"error": {"message": "too long: 900 > 512"}}, "answered 400: too long: 900 > 512$"),
        (404, {"detail": "Not Found"}, "answered 404: Not Found; check the path of score.teacher.url"),
        (413, {"error": "batch size 64 > 32", "error_type": "Validation"}, "413: batch size 64 > 32; lower .*pairs_per_request"),
        (422, {"detail": [{"loc": ["body", "texts"]}]}, "422: .*texts.*; is score.teacher.api the server's protocol"),
        (401, {"message": "no key"}, "401: no key; set score.teacher.key_variable"),
    ],
)  # fmt: skip
def test_other_client_errors_end_at_once(server: ScoringServer, status: int, content: Any, words: str) -> None:
    server.faults.append(fails(status, content))
    with pytest.raises(ModelError, match=words) as caught:
        teacher(server, concurrency=1).score(QUERIES, PASSAGES, PAIRS)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


def test_one_failure_stops_the_rest(server: ScoringServer) -> None:
    server.delay = 0.05
    server.faults.append(fails(400))
    with pytest.raises(ModelError, match="answered 400: busy"):
        teacher(server, concurrency=2, pairs_per_request=1).score(QUERIES, PASSAGES, PAIRS)
    assert len(server.requests) < 10


def drop(rows: list[Any]) -> list[Any]:
    return rows[:-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "1 scores for 2 passages; passage 0 has none"),
        (lambda rows: [rows[0], rows[0]], "two scores for passage 1 of a request"),
        (lambda rows: [*rows, {"index": 2, "score": 1.0}], "index from 0 to 1: .*2"),
        (lambda rows: [rows[0], {"score": 1.0}], "a score without an index"),
        (lambda rows: [rows[0], {"index": True, "score": 1.0}], "a score without an index"),
        (lambda rows: [rows[0], {"index": 0, "score": "high"}], 'the score of passage 0 is "high", not a number'),
        (lambda rows: [rows[0], {"index": 0}], "the score of passage 0 is .*, not a number"),
        (lambda rows: {"results": rows}, "expected a list of scores, got .*results"),
    ],
)
def test_answers_that_cannot_be_trusted_are_errors(server: ScoringServer, change: Any, words: str) -> None:
    server.change = change
    with pytest.raises(ModelError, match=words):
        teacher(server, "tei_rerank").score(QUERIES, PASSAGES, [(0, 0), (0, 1)])
    assert len(server.requests) == 1


def test_a_null_is_not_a_number(server: ScoringServer) -> None:
    server.change = lambda rows: [rows[0], {"index": 0, "score": None}]
    scores = teacher(server, "tei_rerank").score(QUERIES, PASSAGES, [(0, 0), (0, 1)]).scores
    assert math.isnan(scores[0])
    assert scores[1] == -499.5


def test_the_key_is_sent_and_must_exist(server: ScoringServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"the environment of the workers has no TEACHER_KEY; pass it in"):
        teacher(server, key_variable="TEACHER_KEY")
    monkeypatch.setenv("TEACHER_KEY", "s3cret")
    scorer = teacher(server, key_variable="TEACHER_KEY")
    scorer.score(QUERIES, PASSAGES, [(0, 0)])
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in repr(scorer.provenance)


def test_provenance_says_who_computes_and_who_cuts(server: ScoringServer) -> None:
    scorer = teacher(server, model="bge")
    assert isinstance(scorer, PairScorer)
    assert scorer.provenance.name == "bge"
    assert re.fullmatch(r"vllm_score at http://127\.0\.0\.1:\d+/score", scorer.provenance.engine)
    assert scorer.provenance.truncation == "by the server"
    cut = teacher(server, "cohere_rerank", max_passage_tokens=300).provenance
    assert cut.truncation == "passages at 300 tokens, by the server"
    assert cut.model == server.url("/v2/rerank")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api": "cohere_rerank"}, "set raw_scores to false"),
        ({"api": "tei_rerank", "max_passage_tokens": 5}, "tei_rerank has no max_passage_tokens"),
        ({"api": "vllm_score", "url": "http://user:pass@host/score"}, "should match pattern"),
        ({"api": "vllm_score", "url": "host:8000/score"}, "should match pattern"),
    ],
)
def test_settings_that_a_protocol_cannot_keep_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        HttpTeacher.model_validate({"url": "http://host/score", **settings})


def test_what_does_not_change_scores_is_not_part_of_their_identity() -> None:
    one = HttpTeacher(url="http://host/score", api="vllm_score")
    other = one.model_copy(update={"concurrency": 99, "attempts": 2, "timeout_s": 1.0, "key_variable": "K"})
    assert one.identity() == other.identity()
    assert one.identity() != one.model_copy(update={"raw_scores": False}).identity()
