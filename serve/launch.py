"""Starting and stopping the endpoint on a Serve cluster."""

import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

import pyarrow.fs as pafs
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus

from cluster.locations import shown
from cluster.session import Need
from cluster.storage import list_files, open_storage
from distill.settings.serve import ServeSettings
from serve.app import QueryEncoder, Searcher
from serve.errors import ServeError
from serve.port import check_port

NAME = "polyray"
"""The application's name on the Serve cluster."""


def build_application(checkpoint: str, index: str, settings: ServeSettings) -> serve.Application:
    """Build the application that `serve.run` takes.

    Args:
        checkpoint: the student, a local folder or an s3:// URI that every node of the cluster can read.
        index: the folder of an index stage, likewise.
        settings: the endpoint's settings.
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

    An endpoint that runs already is replaced. If the start fails, what was started is stopped again.

    Args:
        checkpoint: the student, a local folder or an s3:// URI that every node of the cluster can read.
        index: the folder of an index stage, likewise.
        settings: the endpoint's settings.
        timeout_s: longest wait for the first answer, in seconds.
        ray_ends: whether Ray ends with this process (see `stop`).

    Raises:
        ServeError: the checkpoint or the index is missing, the port is taken, Serve already listens on another port, a replica fails, or
            the endpoint does not answer within `timeout_s`.
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
    """Stop the endpoint, and Serve with it if nothing else runs there. Requests that are being answered are finished first.

    Args:
        ray_ends: whether Ray, and so Serve, ends with this process: then Serve is not stopped here, which would only print warnings.
    """
    if NAME in serve.status().applications:
        serve.delete(NAME)
    if not ray_ends and not serve.status().applications:
        serve.shutdown()


def needs(settings: ServeSettings) -> list[Need]:
    """Return what the endpoint needs of the cluster: a CPU for each encoder and each searcher."""
    return [Need("serve", 2 * settings.replicas, 1.0, 0.0, "serve.replicas")]


def _check_locations(checkpoint: str, index: str) -> None:
    filesystem, path = open_storage(checkpoint)
    if filesystem.get_file_info(f"{path}/config.json").type != pafs.FileType.File:
        raise ServeError(f"{shown(checkpoint)} holds no checkpoint; run the train stage first")
    filesystem, path = open_storage(index)
    for table in ("documents", "vectors"):
        if not list_files(filesystem, f"{path}/{table}", ".parquet"):
            raise ServeError(f"{shown(index)} holds no table '{table}'; run the index stage first")


def _running_port() -> int | None:
    """Return the port of the Serve that runs on the cluster, or None. Serve has no public function for it."""
    client = _get_global_client(raise_if_no_controller_running=False)
    return client.http_config.port if client else None


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
    """Wait for the proxy, which knows an application a moment after it runs."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise ServeError(f"{url}/health does not answer: {error}") from error
        time.sleep(0.1)


def _reason(messages: Sequence[str]) -> str:
    """Return the error's own line from the traces of replicas that failed."""
    lines = [line.strip() for message in messages for line in message.splitlines()]
    errors = [line for line in lines if re.match(r"^[\w.]*(Error|Exception)\b.*: ", line)]
    return errors[-1] if errors else " ".join(" ".join(messages).split())[:300]
