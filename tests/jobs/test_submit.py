"""The job submitted to a cluster as its users submit it: `ray start --head`, then `ray job submit`, with its stages on S3."""

import json
import os
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.jobs_small import ROOT, STAGES, Driver, Finished, SmallJob, descendants, environment, survivors
from tests.warm_workers import warm_workers

BIN = Path(sys.executable).parent
START_S = 120.0
SUBMIT_S = 900.0


@dataclass(frozen=True)
class Cluster:
    """A cluster of one node.

    Attributes:
        dashboard: where jobs are submitted.
        code: a copy of the project, as a user's checkout.
        variables: the environment of everything that talks to it.
        workers: the command that starts its workers.
    """

    dashboard: str
    code: Path
    variables: dict[str, str]
    workers: str

    def submit(self, folder: Path, entrypoint: Sequence[str]) -> Finished:
        """`ray job submit`, to the job's end."""
        command = [
            str(BIN / "ray"),
            "job",
            "submit",
            "--address",
            self.dashboard,
            "--working-dir",
            str(self.code),
            "--runtime-env-json",
            json.dumps({"py_executable": self.workers}),
            "--",
        ]
        return Driver([*command, *entrypoint], folder, self.variables).wait(SUBMIT_S)


def free_ports(count: int) -> list[int]:
    """Free ports outside the range that Ray gives its workers."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="module")
def cluster(ray_processes: None, s3_bucket: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head node with a dashboard, ended by SIGTERM to the process that was started."""
    code = tmp_path_factory.mktemp("checkout") / "polyray"
    for name in ("jobs", "cluster", "distill", "serve"):
        shutil.copytree(ROOT / name, code / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", code)
    port, dashboard, agent, metrics = free_ports(4)
    # Ray finds `python` of an entrypoint on the head's PATH.
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    variables = environment(RAY_AUTH_MODE="disabled", PATH=path, RAY_USAGE_STATS_ENABLED="0")
    with (
        tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder,
        warm_workers() as workers,
    ):
        head = Driver(
            [
                str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=4", f"--port={port}", f"--temp-dir={folder}",
                "--include-dashboard=true", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}",
                f"--metrics-export-port={metrics}", "--min-worker-port=0", "--max-worker-port=0", "--disable-usage-stats",
            ],
            tmp_path_factory.mktemp("head"),
            variables,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{dashboard}"
            head.wait_until("the dashboard answers", lambda: answers(f"{url}/api/jobs/"), START_S)
            yield Cluster(url, code, variables, workers)
        finally:
            family = descendants(head.pid)
            head.end()
            left = survivors(family, 20.0)
        assert left == {}


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except OSError:  # refused, or not ready: URLError and HTTPError are among them
        time.sleep(0.2)
        return False


@pytest.fixture(scope="module")
def submitted(
    cluster: Cluster, whole: tuple[SmallJob, Finished], s3_bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SmallJob, Finished]:
    """The whole job, submitted, with its stages on S3."""
    job = replace(
        whole[0],
        folder=tmp_path_factory.mktemp("submit"),
        storage=f"{s3_bucket}/submitted",
        data=whole[0].folder / "data",
    )
    return job, cluster.submit(job.folder, ["python", "jobs/mtd.py", "--config", str(job.config())])


def test_a_submitted_job_runs_to_its_end_and_its_lines_are_in_the_log(submitted: tuple[SmallJob, Finished]) -> None:
    _, finished = submitted
    finished.done()
    assert finished.reused == dict.fromkeys(STAGES, False)
    assert "nDCG@20, 8 test queries in en" in finished.out
    assert f"report      {submitted[0].store}/runs/small/report.html" in finished.out


@pytest.mark.parametrize(
    ("stage", "table"),
    [
        ("sources", "queries"), ("sources", "passages"), ("sources", "qrels"), ("select", "candidates"),
        ("translate", "translations"), ("score", "scores"), ("mix", "examples"), ("train", "training_log"),
        ("index", "documents"), ("index", "vectors"), ("evaluate", "measurements"),
    ],
)  # fmt: skip
def test_tables_on_s3_equal_those_on_local_disk(
    whole: tuple[SmallJob, Finished], submitted: tuple[SmallJob, Finished], stage: str, table: str
) -> None:
    submitted[1].done()
    here, there = whole[0], submitted[0]
    assert Path(here.folder_of(stage)).name == Path(there.folder_of(stage)).name
    assert there.table(stage, table).equals(here.table(stage, table))


def test_the_script_is_submitted_as_an_executable_too(
    cluster: Cluster, submitted: tuple[SmallJob, Finished], tmp_path: Path
) -> None:
    """Its mode and its first line are enough; the run before is found on S3."""
    job = submitted[0]
    finished = cluster.submit(tmp_path, ["jobs/mtd.py", "--config", str(job.folder / "job.yaml")]).done()
    assert finished.reused == dict.fromkeys(STAGES, True)


def test_a_submitted_job_that_fails_says_why_and_gives_an_exit_code(cluster: Cluster, tmp_path: Path) -> None:
    finished = cluster.submit(tmp_path, ["python", "jobs/mtd.py", "--train.learning_rate", "-1"])
    assert finished.code == 1
    said = finished.out + finished.err
    assert "jobs/mtd.py: train.learning_rate: Input should be greater than 0 (got '-1')" in said
    assert "Traceback" not in said
