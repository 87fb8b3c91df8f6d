"""A cluster that grows from no worker node and shrinks again, whose nodes and drivers are killed while they work."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.fake_cluster import FakeCluster, fake_cluster

SHARDS = 9
LABELS = {"labels": {"kind": "reserved"}, "fallback_labels": [{"kind": "spot"}]}
POOL = {"min_actors": 1, "max_actors": 3, "num_cpus": 1.0, "resources": {"slot": 1.0}, **LABELS}
NODES = {"small": {"resources": {"CPU": 1, "slot": 1}, "labels": {"kind": "spot"}, "max_workers": 3}}


@pytest.fixture(scope="module")
def cluster(ray_processes: None) -> Iterator[FakeCluster]:
    with fake_cluster({"CPU": 1}, NODES) as running:
        yield running


class Job:
    """A job whose shards sleep; none ends before `peers` actors are there. Its folder, what is in it, and its last driver."""

    def __init__(self, cluster: FakeCluster, folder: Path, seconds: float, peers: int) -> None:
        self.folder = folder
        self._log = folder / "log"
        self._cluster = cluster
        paths = {"store": str(folder / "store"), "log": str(self._log)}
        self._facts = json.dumps({**paths, "shards": SHARDS, "seconds": seconds, "peers": peers, "pool": POOL})
        self.start()

    def start(self) -> None:
        """Start a driver."""
        self._driver = self._cluster.driver("-m", "tests.sleepy_job", self._facts)

    def finish(self) -> dict[str, int]:
        """Wait for the driver; the counts of the job's shards."""
        output, _ = self._driver.communicate(timeout=240)
        assert self._driver.returncode == 0, output[-4000:]
        return json.loads(next(line for line in output.splitlines() if line.startswith('{"total"')))

    def kill(self) -> None:
        """Kill the driver as a machine that is switched off does."""
        self._driver.kill()
        self._driver.communicate()

    def until(self, condition: Callable[[], bool], seconds: float = 240.0) -> None:
        """Wait for something that a running driver does."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self._driver.returncode is not None or self._driver.poll() is None, self._driver.communicate()[0][
                -4000:
            ]
            assert time.monotonic() < deadline, "it did not come to pass"
            time.sleep(0.2)

    def begun(self) -> list[tuple[int, int]]:
        """The number of every shard that was begun, and the process that did."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]

    def committed(self) -> set[int]:
        """Numbers of the committed shards."""
        return {int(path.stem) for path in self.folder.glob("store/stages/*/_shards/*.json")}

    def rows(self) -> list[dict[str, Any]]:
        """The job's table."""
        files = sorted(self.folder.glob("store/stages/*/squares/*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]


@pytest.fixture
def job(cluster: FakeCluster, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Starts a job, and ends it."""
    jobs: list[Job] = []

    def start(seconds: float, peers: int) -> Job:
        jobs.append(Job(cluster, tmp_path, seconds, peers))
        return jobs[-1]

    yield start
    for started in jobs:
        started.kill()


UNTIL_IDLE = """
import ray, time
ray.init(log_to_driver=False)
while (count := sum(node["Alive"] for node in ray.nodes())) > 1:
    time.sleep(0.5)
print("nodes", count)
"""


def wait_for_the_head_alone(cluster: FakeCluster) -> None:
    assert "nodes 1" in cluster.run("-c", UNTIL_IDLE)


def test_it_grows_from_nothing_to_what_waits_and_back(cluster: FakeCluster, job: Callable[..., Job]) -> None:
    wait_for_the_head_alone(cluster)
    running = job(0.5, peers=3)
    assert running.finish() == {"total": SHARDS, "computed": SHARDS}
    assert [row["square"] for row in running.rows()] == [n * n for n in range(SHARDS)]
    assert len({row["node"] for row in running.rows()}) == 3
    assert Counter(index for index, _ in running.begun()) == Counter(range(SHARDS))
    wait_for_the_head_alone(cluster)


CHECK = """
from cluster.session import Need, Session, SessionError
with Session() as session:
    session.check([Need("score", 3, 1.0, 0.0, "score.pool", resources={"slot": 1.0})], autoscales=True)
    try:
        session.check([Need("score", 1, 1.0, 0.0, "score.pool", resources={"slot": 2.0})], autoscales=True)
    except SessionError as error:
        print("refused:", error)
"""


def test_what_no_node_that_may_come_can_give_is_refused(cluster: FakeCluster) -> None:
    refused = "refused: score asks for 1 x 2 slot at once (score.pool), the 1 nodes and those that the autoscaler may add (3 x small)"
    assert f"{refused} have 3 slot, not more than 1 slot on one of them; lower it, or let" in cluster.run("-c", CHECK)


def test_a_node_that_is_killed_loses_only_what_it_was_at(job: Callable[..., Job]) -> None:
    running = job(2.0, peers=2)
    running.until(lambda: bool(running.committed()))
    before = running.committed()
    os.kill(parent(running.begun()[-1][1]), signal.SIGKILL)  # the raylet, and with it its workers
    running.finish()
    assert [(row["n"], row["square"]) for row in running.rows()] == [(n, n * n) for n in range(SHARDS)]
    times = Counter(index for index, _ in running.begun())
    assert set(times) == set(range(SHARDS))
    assert all(times[index] == 1 for index in before)
    assert sum(times.values()) <= SHARDS + 2


def test_a_driver_that_is_killed_goes_on_from_what_is_committed(job: Callable[..., Job]) -> None:
    running = job(1.5, peers=1)
    running.until(lambda: len(running.committed()) >= 3)
    running.kill()
    running.until(lambda: not any(alive(pid) for _, pid in running.begun()))
    before = running.committed()
    running.start()
    assert running.finish() == {"total": SHARDS, "computed": SHARDS - len(before)}
    assert [(row["n"], row["square"]) for row in running.rows()] == [(n, n * n) for n in range(SHARDS)]
    times = Counter(index for index, _ in running.begun())
    assert all(times[index] == 1 for index in before)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
