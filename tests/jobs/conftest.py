"""One run of the small job from its first stage to its report, shared by the tests that go on from it."""

import fcntl
import os
import pickle
from pathlib import Path

import pytest

from tests.jobs_small import Finished, SmallJob


@pytest.fixture(scope="session")
def whole(
    ray_processes: None, tiny_cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SmallJob, Finished]:
    """The small job, run to its end on a local Ray and a local folder with one actor a stage.

    It runs once for all processes of pytest-xdist: whichever asks first runs it, the others wait for it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "whole"
    shared.mkdir(exist_ok=True)
    result = shared / "result.pickle"
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not result.exists():
            job = SmallJob(shared / "job", tiny_cross_encoder)
            job.folder.mkdir()
            result.write_bytes(pickle.dumps((job, job.run().done())))
    return pickle.loads(result.read_bytes())
