"""Training on a real Ray Train worker group, with workers killed for real."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from cluster.session import Session
from cluster.stages import Runner, Stage, StageRun
from distill.encoders.checkpoints import load_late_interaction
from distill.encoders.settings import LateInteractionStudent, PretrainedStudent
from distill.tables import EXAMPLES
from distill.train.settings import TrainSettings
from tests.jobs_small import descendants, survivors
from tests.train_processes import train_workers, wait_for_checkpoint

WORDS = ["bee", "honey", "dance", "hive", "flower", "sun", "angle", "food", "comb"]
WORDS += ["nectar", "river", "bridge", "stone", "arch", "road", "city", "map", "light"]


@dataclass(frozen=True)
class Job:
    """One training in a folder of its own."""

    root: Path
    student: Path

    def stages(self, **settings: object) -> tuple[Stage, Stage]:
        values = {
            "learning_rate": 1e-3, "batch_size": 4, "steps": 300, "log_every": 10, "checkpoint_every": 50, "schedule": "linear",
        } | settings  # fmt: skip
        train_settings = TrainSettings(**values)  # pyright: ignore[reportArgumentType]
        student = LateInteractionStudent(
            start=PretrainedStudent(model=str(self.student)), query_tokens=8, passage_tokens=16
        )

        def mix(run: StageRun) -> None:
            run.write("examples", EXAMPLES.from_rows(example(i) for i in range(30)), row_group_size=7)

        def train(run: StageRun) -> None:
            from distill.train.stage import TrainingTask
            from distill.train.stage import train as train_student

            train_student(run, train_settings, student, 3, TrainingTask("mix", "en", "en", ("de",)))

        examples = Stage("mix", 1, mix, {}, rows="examples", uses_ray=False)
        return examples, Stage("train", 1, train, train_settings.identity(), (examples,), rows="training_log")

    def run(self, storage: str | None = None, **settings: object) -> list[tuple[int, float]]:
        runner = Runner(storage or str(self.root), Session(), progress=False)
        examples, training = self.stages(**settings)
        runner.run(examples)
        runner.run(training)
        from cluster.storage import open_storage, read_table

        filesystem, root = open_storage(runner.storage)
        log = read_table(filesystem, f"{root}/{training.folder}/training_log").to_pylist()
        return [(row["step"], row["loss"]) for row in log]

    def weights(self, **settings: object) -> dict[str, torch.Tensor]:
        folder = self.root / self.stages(**settings)[1].folder / "checkpoint"
        return load_late_interaction(folder).state_dict()


def example(i: int) -> dict:
    return {
        "position": i,
        "query_id": f"q{i}",
        "query": WORDS[i % 18],
        "query_lang": "en",
        "passage_ids": ["a", "b", "c"],
        "passages": [f"{WORDS[(i + j) % 18]} {WORDS[(i * j + 5) % 18]}" for j in range(3)],
        "langs": ["en"] * 3,
        "scores": [1.0, 0.5 * (i % 3), -0.25 * i % 2],
    }


@pytest.fixture(scope="module")
def uninterrupted(
    ray_session: None, tiny_student: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, list[tuple[int, float]]]:
    job = Job(tmp_path_factory.mktemp("whole"), tiny_student)
    return job, job.run()


def test_the_log_has_every_tenth_step_and_the_loss_falls(uninterrupted: tuple[Job, list[tuple[int, float]]]) -> None:
    _, log = uninterrupted
    assert [step for step, _ in log] == list(range(10, 301, 10))
    assert sum(loss for _, loss in log[-5:]) < 0.7 * sum(loss for _, loss in log[:5])


def test_a_killed_worker_is_replaced_and_the_curve_goes_on(
    uninterrupted: tuple[Job, list[tuple[int, float]]], tiny_student: Path, tmp_path: Path
) -> None:
    """SIGKILL after the second checkpoint: the steps since then are done again, none is skipped, the curve is the same."""
    killed: list[int] = []

    def kill() -> None:
        wait_for_checkpoint(tmp_path, 100)
        killed.extend(train_workers())
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    job = Job(tmp_path, tiny_student)
    log = job.run()
    killer.join()
    assert len(killed) == 1
    assert log == uninterrupted[1]
    for name, value in uninterrupted[0].weights().items():
        assert torch.equal(value, job.weights()[name]), name


def without_dropout(student: Path, folder: Path) -> Path:
    """A copy of a student without dropout, whose draws differ by rank."""
    shutil.copytree(student, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_two_workers_train_as_one_with_the_same_batch(
    uninterrupted: tuple[Job, list[tuple[int, float]]], tiny_student: Path, tmp_path: Path
) -> None:
    """Without dropout, whose draws differ by rank, the average of two halves is the whole."""
    plain = without_dropout(tiny_student, tmp_path / "student")
    one, two = Job(tmp_path / "one", plain), Job(tmp_path / "two", plain)
    losses = [one.run(steps=10), two.run(steps=10, workers=2)]
    assert [loss for _, loss in losses[1]] == pytest.approx([loss for _, loss in losses[0]], rel=1e-5)
    for name, value in one.weights(steps=10).items():
        assert torch.allclose(value, two.weights(steps=10, workers=2)[name], atol=1e-5), name


def test_checkpoints_and_examples_on_s3(
    uninterrupted: tuple[Job, list[tuple[int, float]]], tiny_student: Path, tmp_path: Path, s3_bucket: str
) -> None:
    assert Job(tmp_path, tiny_student).run(f"{s3_bucket}/train") == uninterrupted[1]


ROOT = Path(__file__).resolve().parents[3]
DRIVER = """
from pathlib import Path
from tests.distill.train.test_stage import Job
Job(Path({root!r}), Path({student!r})).run()
"""


def test_a_killed_driver_is_taken_over_by_the_next(
    uninterrupted: tuple[Job, list[tuple[int, float]]], tiny_student: Path, tmp_path: Path
) -> None:
    """The driver is killed after its second checkpoint; the same run again ends as if nothing had been."""
    script = DRIVER.format(root=str(tmp_path), student=str(tiny_student))
    environment = os.environ | {"RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for_checkpoint(tmp_path, 100)
    family = descendants(driver.pid)
    driver.kill()
    driver.wait()
    assert survivors(family, 60.0) == {}  # while they live, the killed run goes on
    assert not list(tmp_path.glob("stages/train-*/manifest.json"))
    job = Job(tmp_path, tiny_student)
    assert job.run() == uninterrupted[1]
    for name, value in uninterrupted[0].weights().items():
        assert torch.equal(value, job.weights()[name]), name
