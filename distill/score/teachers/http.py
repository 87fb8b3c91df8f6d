"""Teachers behind an HTTP server: vLLM's /score, text-embeddings-inference's /rerank, and Cohere's /rerank."""

import datetime as dt
import email.utils
import json
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from distill.models.locate import ModelError
from distill.score.settings import HttpTeacher
from distill.score.teachers.interface import Pair, Provenance, Scored, check_pairs

_FIRST_WAIT_S = 0.5
_LAST_WAIT_S = 60.0
_RETRIED = frozenset({408, 425, 429})
"""Client errors that pass: time-out, too early, too many requests. Server errors are retried as well."""
_ADVICE = {
    401: "set score.teacher.key_variable to the variable that holds the token",
    403: "the token in score.teacher.key_variable may not do this",
    404: "check the path of score.teacher.url and the model's name",
    413: "lower score.teacher.pairs_per_request",
    422: "is score.teacher.api the server's protocol?",
}


@dataclass(frozen=True)
class _Request:
    """Passages of one query; `positions` are those of their pairs in the caller's list."""

    query: str
    passages: list[str]
    positions: list[int]


class _Passing(Exception):  # noqa: N818
    """A fault that may be gone the next time; `pause_s` is how long the server asks to wait, None where it does not say."""

    def __init__(self, fault: str, pause_s: float | None = None) -> None:
        super().__init__(fault)
        self.pause_s = pause_s


class HttpScorer:
    """Scores pairs with a server; the protocol is `settings.api`.

    Passages of one query travel together, at most `pairs_per_request` of them, and at most `concurrency` requests are open at a time.
    A broken connection, a time-out, 408, 425, 429 and 5xx are tried again, `attempts` times in all: after 0.5 s, 1 s, 2 s ... up to 60 s,
    each shortened by a random part of up to a half so that clients do not return together, or after the time that Retry-After names.
    That time holds for every request of this teacher, since the server asked its client, not one request, to wait. Any other answer
    that is not a success, and any answer that does not give every passage one score, is a `ModelError` with the server's own words.

    What the server cuts it does not say: `truncated` is False throughout, and the provenance says who cuts. A score of JSON's null, which
    is how servers write a score that is not a number, becomes NaN.

    Args:
        settings: the teacher.
    """

    def __init__(self, settings: HttpTeacher) -> None:
        self._settings = settings
        self._headers = {"Authorization": f"Bearer {_key(settings.key_variable)}"} if settings.key_variable else {}
        length = settings.max_passage_tokens
        self.provenance = Provenance(
            kind=settings.type,
            model=settings.model or settings.url,
            engine=f"{settings.api} at {settings.url}",
            truncation="by the server" if length is None else f"passages at {length} tokens, by the server",
        )

    def score(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Scored:
        """Return the server's scores of `pairs`, in their order. The first request that fails for good cancels the rest."""
        check_pairs(queries, passages, pairs)
        scores = np.full(len(pairs), np.nan, dtype=np.float32)
        with _Exchange(self._settings, self._headers) as exchange:
            for request, of_request in exchange.run(list(self._requests(queries, passages, pairs))):
                scores[request.positions] = of_request
        return Scored(scores, np.zeros(len(pairs), dtype=bool))

    def _requests(self, queries: Sequence[str], passages: Sequence[str], pairs: Sequence[Pair]) -> Iterator[_Request]:
        positions: dict[int, list[int]] = {}
        for position, (query, _) in enumerate(pairs):
            positions.setdefault(query, []).append(position)
        size = self._settings.pairs_per_request
        for query, of_query in positions.items():
            for start in range(0, len(of_query), size):
                part = of_query[start : start + size]
                yield _Request(queries[query], [passages[pairs[position][1]] for position in part], part)


class _Exchange:
    """The requests of one call: their connections, and the gate that Retry-After closes for all of them."""

    def __init__(self, settings: HttpTeacher, headers: Mapping[str, str]) -> None:
        self._settings = settings
        limits = httpx.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        self._client = httpx.Client(headers=dict(headers), timeout=settings.timeout_s, limits=limits)
        self._threads = ThreadPoolExecutor(settings.concurrency)
        self._gate = threading.Condition()
        self._closed_until = 0.0
        self._over = threading.Event()
        self._random = random.Random()  # noqa: S311

    def __enter__(self) -> "_Exchange":  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._gate:
            self._gate.notify_all()
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def run(self, requests: Sequence[_Request]) -> Iterator[tuple[_Request, list[float]]]:
        """Each request with its scores; the first fault that is final is raised."""
        sent = {self._threads.submit(self._scores_of, request): request for request in requests}
        for future in as_completed(sent):
            scores = future.result()
            if scores:  # nothing where another request failed for good, which is still to come
                yield sent[future], scores

    def _scores_of(self, request: _Request) -> list[float]:
        try:
            return self._send(request)
        except ModelError:
            self._over.set()
            raise

    def _send(self, request: _Request) -> list[float]:
        """Return the scores of one request's passages, in their order."""
        body = _body(self._settings, request.query, request.passages)
        for attempt in range(1, self._settings.attempts + 1):
            self._wait_for_the_gate()
            if self._over.is_set():
                break
            try:
                return self._read(self._post(body), len(request.passages))
            except _Passing as fault:
                if attempt == self._settings.attempts:
                    raise ModelError(
                        f"{self._settings.url}: {fault}, {attempt} times in a row; is the server up and large enough?"
                    ) from fault
                if fault.pause_s is None:
                    delay = min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LAST_WAIT_S)
                    self._over.wait(delay * self._random.uniform(0.5, 1.0))
                else:
                    self._close_the_gate(fault.pause_s, str(fault))
        return []  # another request failed for good

    def _post(self, body: dict[str, Any]) -> httpx.Response:
        """One attempt: an answer that is a success. What may pass is a `_Passing`, what cannot get better a `ModelError`."""
        try:
            answer = self._client.post(self._settings.url, json=body)
        except httpx.RequestError as error:
            raise _Passing(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if answer.is_success:
            return answer
        fault = f"answered {answer.status_code}: {_words(answer)}"
        if answer.status_code in _RETRIED or answer.is_server_error:
            raise _Passing(fault, retry_after(answer.headers))
        advice = _ADVICE.get(answer.status_code)
        raise ModelError(f"{self._settings.url} {fault}" + (f"; {advice}" if advice else ""))

    def _close_the_gate(self, seconds: float, fault: str) -> None:
        """Let no request of this teacher start for some seconds."""
        longest = self._settings.longest_wait_s
        if seconds > longest:
            asked = f"it asks to wait {seconds:.0f} s, score.teacher.longest_wait_s is {longest:g}"
            raise ModelError(f"{self._settings.url} {fault}; {asked}")
        with self._gate:
            self._closed_until = max(self._closed_until, time.monotonic() + seconds)

    def _wait_for_the_gate(self) -> None:
        with self._gate:
            while not self._over.is_set() and (left := self._closed_until - time.monotonic()) > 0:
                self._gate.wait(left)

    def _read(self, answer: httpx.Response, count: int) -> list[float]:
        try:
            return _scores(self._settings.api, answer.json(), count)
        except ValueError as error:
            raise ModelError(f"{self._settings.url} ({self._settings.api}): {error}") from None


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ModelError(
            f"score.teacher.key_variable: the environment of the workers has no {variable}; "
            "pass it in score.pool.runtime_env: {env_vars: ...}"
        )
    return key


def _body(settings: HttpTeacher, query: str, passages: list[str]) -> dict[str, Any]:
    """Make a request in the server's protocol."""
    model = {"model": settings.model} if settings.model else {}
    length = {} if settings.max_passage_tokens is None else {"max_tokens_per_doc": settings.max_passage_tokens}
    match settings.api:
        case "vllm_score":
            texts: dict[str, Any] = {"queries": query, "documents": passages, "use_activation": not settings.raw_scores}
        case "tei_rerank":
            # Without `truncate` that server refuses a request when one pair is too long.
            texts = {"query": query, "texts": passages, "raw_scores": settings.raw_scores, "truncate": True}
            model = {}
        case "cohere_rerank":
            texts = {"query": query, "documents": passages, "top_n": len(passages)}
    return {**model, **texts, **length, **settings.fields}


class _AnswerError(ValueError):
    """An answer that is not what the protocol says."""


def _scores(api: str, answer: Any, count: int) -> list[float]:
    """Scores of `count` passages in the order in which they were sent; the server gives them in any order."""
    name, key = {
        "vllm_score": ("data", "score"),
        "tei_rerank": ("", "score"),
        "cohere_rerank": ("results", "relevance_score"),
    }[api]
    rows = answer if not name else answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise _AnswerError(
            f"expected a list of scores{f' under {name!r}' if name else ''}, got {json.dumps(answer)[:200]}"
        )
    scores: dict[int, float] = {}
    for row in rows:
        position = row.get("index") if isinstance(row, dict) else None
        if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < count:
            raise _AnswerError(f"a score without an index from 0 to {count - 1}: {json.dumps(row)[:200]}")
        if position in scores:
            raise _AnswerError(f"two scores for passage {position} of a request")
        value = row.get(key, "nothing")
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            raise _AnswerError(f"the {key} of passage {position} is {json.dumps(value)[:100]}, not a number")
        scores[position] = float("nan") if value is None else float(value)
    if len(scores) != count:
        missing = next(position for position in range(count) if position not in scores)
        raise _AnswerError(f"{len(scores)} scores for {count} passages; passage {missing} has none")
    return [scores[position] for position in range(count)]


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait: Retry-After as a number or a date (RFC 9110, 10.2.3); None without a readable one.

    A date counts from the server's own Date where there is one, so that clocks need not agree.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    until = _date(text)
    if until is None:
        return None
    return max(0.0, (until - (_date(headers.get("Date", "")) or dt.datetime.now(dt.UTC))).total_seconds())


def _date(text: str) -> dt.datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=dt.UTC)


def _words(answer: httpx.Response) -> str:
    """Return the server's own message, on one line."""
    try:
        said = answer.json()
    except ValueError:
        said = answer.text
    for name in ("error", "message", "detail"):
        if isinstance(said, dict) and said.get(name):
            said = said[name]
    if isinstance(said, dict | list):
        said = json.dumps(said, ensure_ascii=False)
    return " ".join(str(said).split())[:300] or answer.reason_phrase
