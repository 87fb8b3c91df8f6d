"""The endpoint as users start it: `--serve` at the end of a job, and jobs/serve.py, on a local Ray and on a cluster with a token."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve.client import SearchClient
from tests.jobs_small import ROOT, Driver, Finished, SmallJob, descendants, environment, survivors
from tests.serve.samples import free_port

BIN = Path(sys.executable).parent
GONE_S = 20.0
TOKEN = "a-token-of-this-test-0123456789abcdef"


def ask_and_interrupt(driver: Driver, port: int, number: int = signal.SIGINT) -> Finished:
    """Wait for the endpoint, search, interrupt it; no process may be left."""
    driver.wait_until("it serves", lambda: "\nserving " in f"\n{driver.read().out}", 300)
    answer = SearchClient(f"http://127.0.0.1:{port}").search("How do honey bees dance?", k=3)
    assert [result.rank for result in answer.results] == [1, 2, 3]
    family = descendants(driver.pid)
    driver.interrupt(number)
    found = driver.wait(120)
    assert survivors(family, GONE_S) == {}
    assert found.code == 128 + number, found.err
    return found


def serving(*arguments: str, folder: Path, **variables: str) -> Driver:
    command = [sys.executable, str(ROOT / "jobs/serve.py"), *arguments]
    return Driver(command, folder, environment(**variables), terminal=True)


def test_a_job_that_ends_by_serving(ray_processes: None, whole: tuple[SmallJob, Finished], tmp_path: Path) -> None:
    """On a local Ray whose token nobody has set, with a stage to run before."""
    # A copy, since another test counts the folders of the finished run.
    shutil.copytree(
        Path(whole[0].store, "stages"), tmp_path / "store" / "stages", ignore=shutil.ignore_patterns("*.tmp")
    )
    job, port = SmallJob(tmp_path, whole[0].teacher, data=whole[0].folder / "data"), free_port()
    driver = job.start("--serve", "--serve.port", str(port), "--evaluate.depth", "19", terminal=True)
    found = ask_and_interrupt(driver, port)
    assert found.err.splitlines()[-1] == "jobs/mtd.py: interrupted; the same command goes on from what is done"
    assert not found.reused["evaluate"]


def test_a_run_is_served_on_a_local_ray(ray_processes: None, whole: tuple[SmallJob, Finished], tmp_path: Path) -> None:
    port = free_port()
    driver = serving("--run", f"{whole[0].store}/runs/small", "--serve.port", str(port), folder=tmp_path)
    found = ask_and_interrupt(driver, port, signal.SIGTERM)
    assert found.err == "jobs/serve.py: interrupted; the endpoint has stopped\n"


@pytest.fixture(scope="module")
def guarded_cluster(ray_processes: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of one node that asks for `TOKEN`."""
    port, agent, metrics = free_port(), free_port(), free_port()
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    variables = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN, PATH=path, RAY_USAGE_STATS_ENABLED="0")
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        head = Driver(
            [
                str(BIN / "ray"), "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=4", f"--port={port}",
                f"--temp-dir={folder}", "--include-dashboard=false", f"--dashboard-agent-listen-port={agent}",
                f"--metrics-export-port={metrics}", "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
            ],
            tmp_path_factory.mktemp("head"),
            variables,
        )  # fmt: skip
        try:
            head.wait_until("the cluster answers", lambda: "Ray runtime started" in head.read().out, 120)
            yield f"127.0.0.1:{port}"
        finally:
            family = descendants(head.pid)
            head.end()
            left = survivors(family, GONE_S)
        assert left == {}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_MODE": "disabled"}, "asks for a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"),
        (
            {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another-token-0123456789abcdef"},
            "asks for a token, and refuses the one of RAY_AUTH_TOKEN: set RAY_AUTH_TOKEN to the cluster's own",
        ),
        (
            {"RAY_AUTH_TOKEN": "another-token-0123456789abcdef"},
            "asks for a token, and refuses the one of RAY_AUTH_TOKEN: set RAY_AUTH_TOKEN to the cluster's own",
        ),
    ],
)
def test_a_wrong_or_missing_token_is_said_so(
    guarded_cluster: str, whole: tuple[SmallJob, Finished], tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    arguments = ("--run", f"{whole[0].store}/runs/small", "--cluster.address", guarded_cluster)
    found = serving(*arguments, folder=tmp_path, HOME=str(tmp_path), **variables).wait(60)
    assert (found.code, found.err) == (1, f"jobs/serve.py: the cluster at {guarded_cluster} {said}\n")


def test_a_run_is_served_on_a_cluster_with_a_token(
    guarded_cluster: str, whole: tuple[SmallJob, Finished], tmp_path: Path
) -> None:
    port = free_port()
    arguments = ("--run", f"{whole[0].store}/runs/small", "--serve.port", str(port))
    variables = {"RAY_ADDRESS": guarded_cluster, "RAY_AUTH_TOKEN": TOKEN}
    found = ask_and_interrupt(serving(*arguments, folder=tmp_path, **variables), port)
    assert found.err.splitlines()[-1] == "jobs/serve.py: interrupted; the endpoint has stopped"
    assert "Traceback" not in found.err
