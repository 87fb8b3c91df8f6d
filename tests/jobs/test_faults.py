"""SIGKILL to the driver, to a scoring actor and to a training worker: the job ends with every row once, and nothing done twice."""

import json
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.jobs_small import AFTER_TRAINING, STAGES, Driver, Finished, SmallJob, descendants, survivors, write_teacher

DEATH_S = 30.0
"""How long the processes of a killed driver may take to end. On a calm machine they take two."""

SHARDS = 8


@pytest.fixture
def slow(whole: tuple[SmallJob, Finished], tiny_cross_encoder: Path, tmp_path: Path) -> SmallJob:
    """The small job with a teacher that reads longer than a test takes to kill what it runs in."""
    teacher = tmp_path / "teacher"
    write_teacher(teacher, tiny_cross_encoder, hidden=192, layers=4)
    return SmallJob(tmp_path, teacher, data=whole[0].folder / "data", overrides=(("score.teacher.max_tokens", 256),))


def wait_for_shards(driver: Driver, job: SmallJob, count: int) -> dict[str, int]:
    """Wait until so many shards of the score stage are committed; give their markers."""
    driver.wait_until(f"{count} committed shards", lambda: len(job.markers("score")) >= count)
    return job.markers("score")


def check_scores(job: SmallJob) -> None:
    """Every query once, with a score for each of its candidates, in their order."""
    candidates = job.table("select", "candidates").sort_by("query_id").to_pylist()
    scores = job.table("score", "scores").to_pylist()
    assert [row["query_id"] for row in scores] == [row["query_id"] for row in candidates]
    assert [row["passage_ids"] for row in scores] == [row["passage_ids"] for row in candidates]
    assert [len(row["scores"]) for row in scores] == [8] * 48
    assert len(job.table("score", "rejected")) == 0


def test_a_driver_killed_while_it_scores_is_taken_over_and_so_is_a_killed_actor(
    ray_session: None, slow: SmallJob
) -> None:
    """First the driver is killed; in the same command again, the actor. Only the first has a Ray of its own, which must end with it."""
    driver = slow.start(script="score.py")
    wait_for_shards(driver, slow, 2)
    family = driver.kill()
    assert any("raylet" in name for name in family.values())
    assert survivors(family, DEATH_S) == {}
    before = slow.markers("score")
    assert 2 <= len(before) < SHARDS
    assert not Path(slow.folder_of("score"), "manifest.json").exists()

    actors: list[int] = []
    committed: dict[str, int] = {}

    def kill() -> None:
        while len(slow.markers("score")) <= len(before):
            time.sleep(0.005)
        actors.extend(pid for pid, name in descendants(os.getpid()).items() if "MapWorker" in name)
        os.kill(actors[0], signal.SIGKILL)
        committed.update(slow.markers("score"))

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    finished = slow.run_here(script="score.py").done()
    killer.join()
    assert len(actors) == 1
    assert len(before) < len(committed) < SHARDS
    assert finished.reused == {"sources": True, "select": True, "score": False, "calibrate": False}
    assert f"score: {len(before)} of {SHARDS} shards are done" in finished.out
    after = slow.markers("score")
    assert sorted(after) == [f"{i:05d}.json" for i in range(SHARDS)]
    assert {name: after[name] for name in committed} == committed
    assert slow.manifest("score")["shards"] == {"total": SHARDS, "computed": SHARDS - len(before)}
    assert slow.manifest("score")["tables"]["scores"] == {"rows": 48, "files": SHARDS}
    check_scores(slow)
    assert not list(Path(slow.folder_of("score")).rglob("*.tmp"))


def test_a_worker_and_then_the_driver_killed_while_they_train(
    ray_session: None, whole: tuple[SmallJob, Finished], tmp_path: Path
) -> None:
    """With another learning rate beside the finished run: what comes before training is never touched, what follows runs once.

    The first kill is that of the training worker, whom the run replaces; then the driver's; then the same command ends the job.
    """
    # Another process may run the finished job again, which rewrites its model card.
    unfinished = shutil.ignore_patterns("*.tmp")
    shutil.copytree(Path(whole[0].store, "stages"), tmp_path / "store" / "stages", ignore=unfinished)
    job = SmallJob(
        tmp_path, whole[0].teacher, data=whole[0].folder / "data",
        overrides=(("train.steps", 400), ("train.checkpoint_every", 50)),
    )  # fmt: skip
    old = set(job.stage_folders("train"))

    def checkpoints() -> set[int]:
        folders = [Path(folder) for folder in job.stage_folders("train") if folder not in old]
        return {
            int(found.name.removeprefix("step-")) for folder in folders for found in folder.glob("ray_train/step-*")
        }

    driver = job.start("--train.learning_rate", "2e-3")
    driver.wait_until("a checkpoint", checkpoints)
    workers = [pid for pid, name in descendants(driver.pid).items() if "TrainWorker" in name]
    assert len(workers) == 1
    reached = max(checkpoints())
    os.kill(workers[0], signal.SIGKILL)
    driver.wait_until("a checkpoint of the next worker", lambda: max(checkpoints(), default=0) > reached)
    reached = max(checkpoints())
    family = driver.kill()
    assert survivors(family, DEATH_S) == {}
    (folder,) = (Path(folder) for folder in job.stage_folders("train") if folder not in old)
    assert not (folder / "manifest.json").exists()

    finished = job.run_here("--train.learning_rate", "2e-3").done()
    assert finished.reused == {stage: stage not in AFTER_TRAINING for stage in STAGES}
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["train"]["learning_rate"] == 2e-3
    import pyarrow.parquet as pq

    log = pq.read_table(folder / "training_log").to_pylist()
    assert [row["step"] for row in log] == list(range(10, 401, 10))
    assert [row["examples"] for row in log] == [4 * row["step"] for row in log]
    assert 50 < reached < 400
    for stage in AFTER_TRAINING:
        assert len(job.stage_folders(stage)) == 2
    for stage in set(STAGES) - set(AFTER_TRAINING):
        assert len(job.stage_folders(stage)) == 1
