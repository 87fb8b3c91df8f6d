"""One run of the small job from its first stage to its report, shared by the tests that go on from it."""

from pathlib import Path

import pytest

from tests.jobs_small import Finished, SmallJob


@pytest.fixture(scope="session")
def whole(tiny_cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallJob, Finished]:
    """The small job, run to its end on a local Ray and a local folder with one actor a stage."""
    job = SmallJob(tmp_path_factory.mktemp("whole"), tiny_cross_encoder)
    return job, job.run().done()
