"""Ctrl-C and SIGTERM at moments of a job, one after the other: each run goes on from the one before.

`benchmarks/interrupts.py` takes every moment.
"""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.jobs_small import STAGES, Driver, Finished, SmallJob, descendants, survivors

GONE_S = 20.0
LINE = "jobs/mtd.py: interrupted; the same command goes on from what is done\n"
Condition = Callable[[Driver, SmallJob], object]


def running(name: str) -> Condition:
    return lambda driver, _: any(name in command for command in descendants(driver.pid).values())


def begun(stage: str) -> Condition:
    def condition(_: Driver, job: SmallJob) -> bool:
        folders = [Path(folder) for folder in job.stage_folders(stage)]
        return any((f / "settings.json").exists() and not (f / "manifest.json").exists() for f in folders)

    return condition


def interrupted(job: SmallJob, when: Condition, number: int = signal.SIGINT, times: int = 1) -> str:
    """Interrupt the job; it must end with its code and the line, and leave no process. Gives what it printed."""
    driver = job.start(terminal=True)
    driver.wait_until("the moment", lambda: when(driver, job))
    family = descendants(driver.pid)
    for _ in range(times):
        if driver.running:
            driver.interrupt(number)
        time.sleep(0.2)
    found = driver.wait(120)
    left = survivors(family, GONE_S)
    assert (found.code, left) == (128 + number, {}), found.err
    assert found.err.endswith(LINE), found.err
    assert "Traceback" not in found.err
    return found.out


def test_interrupted_at_many_moments_the_same_command_goes_on(
    ray_processes: None, whole: tuple[SmallJob, Finished], tmp_path: Path
) -> None:
    """In the imports, in the training and in a stage on actors after it; what comes before is copied from the finished run."""
    for folder in Path(whole[0].store, "stages").iterdir():
        if folder.name.partition("-")[0] not in {"train", "index", "retrieve", "evaluate"}:
            shutil.copytree(folder, tmp_path / "store" / "stages" / folder.name)
    job = SmallJob(tmp_path, whole[0].teacher, data=whole[0].folder / "data", overrides=(("train.steps", 200),))
    started = time.monotonic()
    assert interrupted(job, lambda *_: time.monotonic() - started > 0.2) in {"", f"job 'small', storage {job.store}\n"}
    interrupted(job, running("TrainWorker"), signal.SIGTERM)
    interrupted(job, begun("index"), times=2)
    finished = job.run().done()
    assert list(finished.reused) == list(STAGES)
    assert finished.reused["train"]
    assert not finished.reused["evaluate"]


@pytest.mark.ray
def test_an_interruption_is_the_last_line_of_a_stage_script(whole: tuple[SmallJob, Finished], tmp_path: Path) -> None:
    job = SmallJob(tmp_path, whole[0].teacher, data=whole[0].folder / "data")
    driver = job.start(script="score.py", terminal=True)
    driver.wait_until("Ray runs", lambda: running("raylet/raylet")(driver, job))
    family = descendants(driver.pid)
    driver.interrupt()
    found = driver.wait(120)
    assert (found.code, survivors(family, GONE_S)) == (130, {})
    assert found.err == LINE.replace("mtd", "score")
