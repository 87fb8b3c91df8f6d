"""The search endpoint: a Ray Serve application of two deployments.

    browser, client --HTTP--> Searcher (checks, exact index, texts) --handle--> QueryEncoder (batches of queries)

Both compute in a thread of their own, so the event loops stay free for other requests and for health checks. Queries that arrive within
`batch_wait_s` are encoded together.
"""

import asyncio
import contextlib
import errno
import logging
import re
import socket
import tempfile
import time
import urllib.error
import urllib.request
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
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.session import Need
from cluster.storage import list_files, open_storage
from distill.index.exact import ExactIndex
from distill.settings.serve import ServeSettings
from serve.api import (
    MAX_BODY,
    BadRequestError,
    Error,
    Health,
    Result,
    SearchRequest,
    SearchResponse,
    ServeError,
    check,
    explain,
)

NAME = "polyray"
"""The application's name on the Serve cluster."""
_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"model": Error, "description": f"The body has more than {MAX_BODY} bytes."},
    422: {"model": Error, "description": "The request cannot be answered; the message says why."},
}
# Nothing but the page itself, and requests to where it came from.
_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"
)


class LimitBody:
    """ASGI middleware that refuses bodies above a size without holding them in memory.

    A length that is announced is refused before a byte is read; one that is not, as soon as what has come is too much.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
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
    """Encodes queries in batches.

    Args:
        checkpoint: the student, a local folder or an s3:// URI.
        settings: the endpoint's.
    """

    def __init__(self, checkpoint: str, settings: ServeSettings) -> None:
        from distill.encoders.checkpoints import load_encoder

        with local_folder(checkpoint) as folder:
            self._encoder = load_encoder(folder)
        self._thread = ThreadPoolExecutor(1, "encode")
        # Serve hangs these setters on the decorated method.
        self.encode.set_max_batch_size(settings.max_batch_size)  # pyright: ignore[reportAttributeAccessIssue]
        self.encode.set_batch_wait_timeout_s(settings.batch_wait_s)  # pyright: ignore[reportAttributeAccessIssue]

    def dim(self) -> int:
        """Size of a vector."""
        return self._encoder.dim

    @serve.batch
    async def encode(self, texts: list[str]) -> list[np.ndarray]:
        """The vectors of each query, [T, D] in float32."""
        vectors = await asyncio.get_running_loop().run_in_executor(self._thread, self._encoder.encode_queries, texts)
        return list(vectors.numpy())


class Searcher:
    """The HTTP side, and the index.

    Args:
        encoder: handle of the QueryEncoder.
        checkpoint: where the encoder was read from, for /health.
        index: folder of the index stage, a local folder or an s3:// URI.
        settings: the endpoint's.
    """

    async def __init__(self, encoder: DeploymentHandle, checkpoint: str, index: str, settings: ServeSettings) -> None:
        self._encoder = encoder
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "search")
        self._index = await self._compute(ExactIndex.open, *open_storage(index))
        dim = await encoder.dim.remote()
        if dim != self._index.dim:
            raise ServeError(
                f"the checkpoint {checkpoint} gives vectors of {dim} numbers, the index {index} has {self._index.dim}"
            )
        self.health = Health(
            status="ok",
            documents=len(self._index),
            vectors=self._index.vectors,
            dim=dim,
            languages=self._index.counts,
            model=checkpoint,
            index=index,
            max_k=settings.max_k,
            max_query_characters=settings.max_query_characters,
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve sends requests to."""
        return build_api(self)

    async def search(self, request: SearchRequest) -> SearchResponse:
        """Answer a request, or raise a `BadRequestError`."""
        start = time.perf_counter()
        check(request, self._index.languages, self._settings.max_k, self._settings.max_query_characters)
        vectors = await self._encoder.encode.remote(request.query)
        results = await self._compute(self._find, vectors, request.k, request.langs)
        return SearchResponse(
            query=request.query, results=results, took_ms=round(1000 * (time.perf_counter() - start), 2)
        )

    def _find(self, vectors: np.ndarray, k: int, langs: Sequence[str] | None) -> list[Result]:
        # A copy: arrays that come through Ray are read-only.
        (hits,) = self._index.search(torch.from_numpy(np.array(vectors)).unsqueeze(0), k, langs)
        found = [(hit, self._index.document(hit.position)) for hit in hits]
        return [
            Result(rank=rank, id=d.passage_id, lang=d.lang, title=d.title, text=d.text, score=hit.score)
            for rank, (hit, d) in enumerate(found, 1)
        ]

    async def _compute(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a computation in the replica's one computing thread; torch uses as many cores as it was given."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


def build_api(searcher: Searcher) -> FastAPI:
    """The HTTP side: routes, limits, and errors as `{"error": message}`."""
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
        """What is being served: answers once the index is in memory and the encoder has answered."""
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
def local_folder(uri: str) -> Iterator[str]:
    """A folder with the files of `uri`: itself where it is local, else a copy that lives as long as the context."""
    filesystem, path = open_storage(uri)
    if isinstance(filesystem, pafs.LocalFileSystem):
        yield path
        return
    with tempfile.TemporaryDirectory() as copy:
        pafs.copy_files(path, copy, source_filesystem=filesystem, destination_filesystem=pafs.LocalFileSystem())
        yield copy


def build_application(checkpoint: str, index: str, settings: ServeSettings) -> serve.Application:
    """The application: what `serve.run` takes.

    Args:
        checkpoint: the student, a local folder or an s3:// URI that every node of the cluster can read.
        index: the folder of an index stage, likewise.
        settings: the endpoint's.
    """
    # Serve lets five requests into a replica by default, which would cap batches at five.
    entered = 2 * settings.max_batch_size
    common = {"num_replicas": settings.replicas, "ray_actor_options": {"num_cpus": 1}}
    encoder = serve.deployment(name="QueryEncoder", max_ongoing_requests=entered, **common)(QueryEncoder)
    searcher = serve.deployment(name="Searcher", max_ongoing_requests=max(100, entered), **common)(
        serve.ingress()(Searcher)
    )
    return searcher.bind(encoder.bind(checkpoint, settings), checkpoint, index, settings)


def start(
    checkpoint: str, index: str, settings: ServeSettings, timeout_s: float = 600.0, *, ray_ends: bool = False
) -> str:
    """Start the endpoint on the Ray cluster that this process is connected to, wait until it answers, and return its URL.

    What would fail or wait for ever is refused at once with a `ServeError`: a checkpoint or an index that is not there, a port that
    is taken, a Serve that already listens elsewhere. A replica that fails, or does not start within `timeout_s`, is one too; what was
    started is then stopped (`ray_ends`: see `stop`). An endpoint that runs already is replaced.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    _check_locations(checkpoint, index)
    running = _running_port()
    if running is None:
        check_port(settings.host, settings.port)
    elif running != settings.port:
        raise ServeError(
            f"Ray Serve already listens on port {running} of this cluster: set serve.port to {running}, or stop it first"
        )
    serve.start(proxy_location="HeadOnly", http_options={"host": settings.host, "port": settings.port})
    target = serve.RunTarget(build_application(checkpoint, index, settings), name=NAME, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)
    deadline = time.monotonic() + timeout_s
    url = f"http://{'127.0.0.1' if settings.host in {'0.0.0.0', '::', ''} else settings.host}:{settings.port}"  # noqa: S104
    try:
        _wait_until_running(deadline)
        _wait_until_answering(url, deadline)
    except BaseException:
        stop(ray_ends=ray_ends)
        raise
    return url


def stop(*, ray_ends: bool = False) -> None:
    """Stop the endpoint, and Serve with it where nothing else runs there. Requests that are being answered are finished first.

    `ray_ends` says that Ray, and so Serve, ends right after with this process: stopping Serve before that only prints warnings.
    """
    if NAME in serve.status().applications:
        serve.delete(NAME)
    if not ray_ends and not serve.status().applications:
        serve.shutdown()


def needs(settings: ServeSettings) -> list[Need]:
    """What the endpoint asks of the cluster: a CPU for each encoder and each searcher."""
    return [Need("serve", 2 * settings.replicas, 1.0, 0.0, "serve.replicas")]


def _check_locations(checkpoint: str, index: str) -> None:
    filesystem, path = open_storage(checkpoint)
    if filesystem.get_file_info(f"{path}/config.json").type != pafs.FileType.File:
        raise ServeError(f"{checkpoint} holds no checkpoint; run the train stage first")
    filesystem, path = open_storage(index)
    for table in ("documents", "vectors"):
        if not list_files(filesystem, f"{path}/{table}", ".parquet"):
            raise ServeError(f"{index} holds no table '{table}'; run the index stage first")


def _running_port() -> int | None:
    """The port of the Serve that already runs on the cluster, if one does. Serve has no public way to ask."""
    client = _get_global_client(raise_if_no_controller_running=False)
    return client.http_config.port if client else None


def check_port(host: str, port: int) -> None:
    """Refuse a port that is taken: Serve would retry for a minute, then say so in a replica's log."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ServeError(f"serve.host '{host}' is not an address of this machine: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ServeError(
                f"port {port} of {host} is taken by another program: set serve.port to a free one, or stop it"
            ) from error
        raise ServeError(f"cannot listen on port {port} of {host}: {error.strerror}") from error


def _wait_until_running(deadline: float) -> None:
    while True:
        application = serve.status().applications.get(NAME)
        if application is None or application.status == ApplicationStatus.RUNNING:
            break
        if application.status in {ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY}:
            messages = [deployment.message for deployment in application.deployments.values()]
            raise ServeError(f"the endpoint cannot start: {_reason([*messages, application.message])}")
        if time.monotonic() > deadline:
            raise ServeError(
                "the endpoint did not start in time: the cluster may lack free CPUs (two for each replica)"
            )
        time.sleep(0.2)


def _wait_until_answering(url: str, deadline: float) -> None:
    """Wait for the proxy, which learns of an application a moment after it runs."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise ServeError(f"{url}/health does not answer: {error}") from error
        time.sleep(0.1)


def _reason(messages: Sequence[str]) -> str:
    """The error itself, from the traces of replicas that failed."""
    lines = [line.strip() for message in messages for line in message.splitlines()]
    errors = [line for line in lines if re.match(r"^[\w.]*(Error|Exception)\b.*: ", line)]
    return errors[-1] if errors else " ".join(" ".join(messages).split())[:300]
