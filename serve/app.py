"""The search endpoint: a Ray Serve application of two deployments.

    browser, client --HTTP--> Searcher (checks, exact index, texts) --handle--> QueryEncoder (batches of queries)

Both compute in a thread of their own, so the event loops stay free for other requests and for health checks. Queries that arrive within
`batch_wait_s` are encoded together.
"""

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.copying import download
from cluster.locations import shown
from cluster.storage import open_storage
from distill.index.exact import ExactIndex
from distill.measures.truncation import truncated_counts
from distill.settings.serve import ServeSettings
from serve.answers import Health, Result, SearchResponse
from serve.api import MAX_BODY, Error, SearchRequest, check, explain
from serve.errors import BadRequestError, ServeError

_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"model": Error, "description": f"The body has more than {MAX_BODY} bytes."},
    422: {"model": Error, "description": "The request cannot be answered; the message says why."},
}
# The page loads nothing but itself, and sends requests to its own origin alone.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"
)


class LimitBody:
    """ASGI middleware that refuses bodies above a size without holding them in memory.

    A request whose Content-Length is too large is refused before a byte is read; one without it as soon as too many bytes have come.

    Args:
        app: the application that takes the requests.
        limit: largest body in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts bytes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._limit:
            await JSONResponse({"error": self._message}, 413)(scope, receive, send)
            return
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > self._limit:
                raise HTTPException(413, self._message)
            return message

        await self._app(scope, counted, send)

    @property
    def _message(self) -> str:
        return f"the body has more than {self._limit} bytes"


class QueryEncoder:
    """The deployment that encodes queries, in batches.

    Args:
        checkpoint: the student, a local folder or an s3:// URI.
        settings: the endpoint's settings.
    """

    def __init__(self, checkpoint: str, settings: ServeSettings) -> None:
        from distill.encoders.checkpoints import load_encoder

        with _local_folder(checkpoint) as folder:
            self._encoder = load_encoder(folder)
        self._thread = ThreadPoolExecutor(1, "encode")
        # `serve.batch` adds these setters to the method.
        self.encode.set_max_batch_size(settings.max_batch_size)  # pyright: ignore[reportAttributeAccessIssue]
        self.encode.set_batch_wait_timeout_s(settings.batch_wait_s)  # pyright: ignore[reportAttributeAccessIssue]

    def dim(self) -> int:
        """Return the size of a vector."""
        return self._encoder.dim

    @serve.batch
    async def encode(self, texts: list[str]) -> list[tuple[np.ndarray, bool]]:
        """Return the vectors of each query, [T, D] in float32, and whether the query is truncated."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, texts)

    def _encode(self, texts: list[str]) -> list[tuple[np.ndarray, bool]]:
        truncated = self._encoder.read_queries(texts).truncated
        return list(zip(self._encoder.encode_queries(texts).numpy(), truncated, strict=True))


class Searcher:
    """The deployment that answers HTTP requests and holds the index.

    Args:
        encoder: handle of the QueryEncoder.
        checkpoint: location that the encoder was read from, for /health.
        index: folder of the index stage, a local folder or an s3:// URI.
        settings: the endpoint's settings.
    """

    async def __init__(self, encoder: DeploymentHandle, checkpoint: str, index: str, settings: ServeSettings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "search")
        self._index = await self._compute(ExactIndex.open, *open_storage(index))
        dim = await encoder.dim.remote()
        if dim != self._index.dim:
            raise ServeError(
                f"the checkpoint {shown(checkpoint)} gives vectors of {dim} numbers, the index {shown(index)} has {self._index.dim}"
            )
        texts = self._index.documents.select(["doc_id", "lang", "truncated"])
        versions = texts.group_by(["doc_id", "lang"]).aggregate([])["lang"].to_pylist()
        documents = dict(sorted(Counter(versions).items()))
        self.health = Health(
            status="ok",
            documents=sum(documents.values()),
            passages=len(self._index),
            truncated={lang: n["truncated"] for lang, n in truncated_counts(texts).items() if n["truncated"]},
            vectors=self._index.vectors,
            dim=dim,
            languages=documents,
            model=shown(checkpoint),
            index=shown(index),
            max_k=settings.max_k,
            max_query_characters=settings.max_query_characters,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Return the ASGI application that Serve sends requests to."""
        return build_api(self)

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Answer a request.

        Raises:
            BadRequestError: the request cannot be answered.
        """
        start = time.perf_counter()
        check(request, self._index.languages, self._settings.max_k, self._settings.max_query_characters)
        vectors, truncated = await self._encoder.encode.remote(request.query)
        results = await self._compute(self._find, vectors, request.k, request.langs)
        took = round(1000 * (time.perf_counter() - start), 2)
        return SearchResponse(query=request.query, results=results, took_ms=took, query_truncated=truncated)

    def _find(self, vectors: np.ndarray, k: int, langs: Sequence[str] | None) -> list[Result]:
        # A copy: arrays that come through Ray are read-only.
        (hits,) = self._index.search_documents(torch.from_numpy(np.array(vectors)).unsqueeze(0), k, langs)
        documents = [(hit, self._index.document(hit.position)) for hit in hits]
        return [
            Result(rank, d.passage_id, d.doc_id, d.lang, d.title, d.text, hit.score)
            for rank, (hit, d) in enumerate(documents, 1)
        ]

    async def _compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a computation in the replica's one computing thread, in which torch uses the replica's cores."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def build_api(searcher: Searcher) -> FastAPI:
    """Build the HTTP side: routes, limits, and errors as `{"error": message}`."""
    api = FastAPI(
        title="Polyray search",
        description="Multilingual search: a query in any language finds passages in all.",
        version="1",
    )
    api.add_middleware(LimitBody, limit=MAX_BODY)
    for error, handler in {
        RequestValidationError: _invalid,
        BadRequestError: _bad,
        HTTPException: _http,
        Exception: _failed,
    }.items():
        api.add_exception_handler(error, handler)
    page = resources.files("serve").joinpath("page.html").read_text(encoding="utf-8")

    @api.post("/search", responses=_REFUSED)
    async def search(request: SearchRequest) -> SearchResponse:
        """Find the documents that answer a query, in any language or in those asked for."""
        return await searcher.search(request)

    @api.get("/health")
    async def health() -> Health:
        """Describe what is being served. Answers once the index is in memory and the encoder has answered."""
        return searcher.health

    @api.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def search_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _PAGE_POLICY})

    return api


def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
    return JSONResponse({"error": explain(error.errors())}, 422)


def _bad(_request: Request, error: BadRequestError) -> JSONResponse:
    return JSONResponse({"error": str(error)}, 422)


def _http(request: Request, error: HTTPException) -> JSONResponse:
    messages = {
        404: f"there is nothing at {request.url.path!r}; see /docs",
        405: f"{request.url.path!r} does not take {request.method}; see /docs",
    }
    return JSONResponse({"error": messages.get(error.status_code, error.detail)}, error.status_code, error.headers)


def _failed(_request: Request, _error: Exception) -> JSONResponse:
    return JSONResponse({"error": "the server failed; its log says why"}, 500)


@contextlib.contextmanager
def _local_folder(uri: str) -> Iterator[str]:
    """Yield a local folder with the files of `uri`: the folder itself if it is local, else a copy that is deleted at the end."""
    filesystem, path = open_storage(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield path
        return
    with tempfile.TemporaryDirectory() as copy:
        download(filesystem, path, copy)
        yield copy
