"""The watch over a training on a real Ray Train worker group: the development set, early stopping, trackers, gates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pytest
import torch

from cluster.copying import is_whole
from cluster.errors import StageError
from cluster.session import Session
from cluster.stages import Runner, Stage, StageRun
from cluster.storage import open_storage, read_table
from distill.encoders.checkpoints import load_encoder
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.encoders.settings import LateInteractionStudent, PretrainedStudent
from distill.tables import EXAMPLES
from distill.train.dev import DevSet
from distill.train.settings import TrainSettings
from distill.train.trainer import TrainingError
from tests.distill.train.test_dev import sources, translations
from tests.distill.train.test_stage import example
from tests.faulty_s3 import faulty


@dataclass
class Training:
    """A training with all the stages that it reads."""

    root: Path
    student: Path
    settings: TrainSettings
    scores: tuple[float, ...] | None = None
    storage: str = ""

    def __post_init__(self) -> None:
        self.attempts = self.root / "attempts"
        self.storage = self.storage or str(self.root)
        tables = {"sources": sources(), "translate": translations(), "mix": {"examples": self.examples()}}

        def write(name: str) -> Any:
            def run(stage: StageRun) -> None:
                for table, rows in tables[name].items():
                    stage.write(table, rows)

            return run

        inputs = tuple(
            Stage(name, 1, write(name), {}, rows=next(iter(found)), uses_ray=False) for name, found in tables.items()
        )

        def train(stage: StageRun) -> None:
            from distill.train.stage import TrainingTask
            from distill.train.stage import train as train_student

            student = LateInteractionStudent(
                start=PretrainedStudent(model=str(self.student)), query_tokens=8, passage_tokens=16
            )
            train_student(stage, self.settings, student, 3, TrainingTask("mix", "en", "en", ("de", "fr")))

        self.inputs = inputs
        self.stage = Stage("train", 1, train, self.settings.identity(), inputs, rows="training_log")

    def examples(self) -> pa.Table:
        rows = [example(i) for i in range(30)]
        return EXAMPLES.from_rows(row | ({"scores": list(self.scores)} if self.scores else {}) for row in rows)

    def run(self) -> None:
        runner = Runner(self.storage, Session(), progress=False)
        for stage in (*self.inputs, self.stage):
            runner.run(stage)

    def table(self, name: str) -> list[dict[str, Any]]:
        filesystem, root = open_storage(self.storage)
        return read_table(filesystem, f"{root}/{self.stage.folder}/{name}").to_pylist()

    @property
    def folder(self) -> Path:
        return self.root / self.stage.folder


def test_the_best_checkpoint_is_kept_and_training_stops_after_it(
    ray_session: None, tiny_student: Path, tmp_path: Path
) -> None:
    """Two elastic workers, a rate at which it soon gets worse, three evaluations of patience."""
    settings = TrainSettings(
        learning_rate=3e-2, batch_size=5, steps=400, log_every=10, checkpoint_every=10, workers=1, max_workers=2, ema=0.5,
        max_grad_norm=1e9, gates={"explosion": None, "collapse": None, "constant_scores": False},  # pyright: ignore[reportArgumentType]
        dev={"every": 10, "patience": 3, "measure": "RR@20"}, loggers=("tensorboard",),  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    training = Training(tmp_path, tiny_student, settings)
    training.run()
    measured = training.table("dev_measurements")
    log = training.table("training_log")
    assert {row["measure"] for row in measured} == {"RR@20"}
    assert {row["lang"] for row in measured} == {"de", "fr"}
    means: dict[int, float] = {}
    for row in measured:
        means[row["step"]] = means.get(row["step"], 0.0) + row["value"] / 2
    best = min(step for step, mean in means.items() if mean == max(means.values()))
    assert log[-1]["step"] == best + 30 < 400
    assert list(means) == list(range(10, best + 31, 10))
    dev = DevSet.read(pafs.LocalFileSystem(), str(training.folder / "dev"))
    found = dev.evaluate(load_encoder(training.folder / "checkpoint"), "RR@20", 1000)
    assert sum(found.values()) / 2 == pytest.approx(means[best], abs=1e-6)
    assert_tracked(training.folder / "trackers" / "tensorboard", log, means)


def assert_tracked(folder: Path, log: list[dict[str, Any]], means: dict[int, float]) -> None:
    """The event files, read without TensorBoard: records of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    found: dict[str, dict[int, float]] = {}
    for file in folder.iterdir():
        content, place = file.read_bytes(), 0
        while place < len(content):
            length = int.from_bytes(content[place : place + 8], "little")
            event = Event.FromString(content[place + 12 : place + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
            place += 16 + length
    assert found["train/loss"] == pytest.approx({row["step"]: row["loss"] for row in log}, rel=1e-6)
    assert found["dev/RR_at_20"] == pytest.approx(means, rel=1e-6)
    assert {"dev/RR_at_20/de", "speed/tokens_per_second", "train/gradient_norm"} <= set(found)


def test_a_gate_stops_all_workers_at_once_with_its_reason(
    ray_session: None, tiny_student: Path, tmp_path: Path
) -> None:
    """A fault that would come again is no failure to restart from."""
    settings = TrainSettings(batch_size=4, steps=40, log_every=10, checkpoint_every=10, workers=2)
    training = Training(tmp_path, tiny_student, settings, scores=(90.0, 0.0, -5.0))
    reason = "the teacher puts all on one passage in 100% of the first 2"
    with pytest.raises((RuntimeError, StageError), match=reason):
        training.run()
    assert not list(training.folder.glob("ray_train/step-*"))


def steps(**more: Any) -> TrainSettings:
    return TrainSettings(
        learning_rate=1e-3, batch_size=5, steps=6, log_every=1, checkpoint_every=2, max_failures=0, **more
    )  # fmt: skip


def test_uploads_that_fail_lose_no_checkpoint(
    ray_session: None, tiny_student: Path, s3_bucket: str, s3_endpoint: str, tmp_path: Path, capsys: Any
) -> None:
    """Some requests fail and are tried again; one goes on failing, which ends the training; a checkpoint then loses its weights."""
    undisturbed = Training(tmp_path / "local", tiny_student, steps())
    undisturbed.run()
    with faulty(s3_endpoint) as (address, faults):
        uri = f"{s3_bucket}/faults?endpoint_override={address}"
        training = Training(tmp_path, tiny_student, steps(), storage=uri)
        faults.below, faults.left["CompleteMultipartUpload"] = "step-00000002", 5
        faults.left["UploadPart"] = 2
        faults.then("step-00000006", 403, "CompleteMultipartUpload")
        with pytest.raises(
            TrainingError, match=r"step-00000006/.*could not be copied|could not be copied to .*step-00000006"
        ):
            training.run()
        assert faults.failed["CompleteMultipartUpload"] > 5
        filesystem, root = open_storage(uri)
        run = f"{root}/{training.stage.folder}/ray_train"
        assert all(is_whole(filesystem, f"{run}/step-0000000{step}") for step in (2, 4))
        filesystem.delete_file(f"{run}/step-00000004/model.safetensors")
        faults.clear()
        capsys.readouterr()
        training.run()
        said = capsys.readouterr().out
        assert "step-00000004: it lacks model.safetensors); training continues from step-00000002" in said
        assert training.table("training_log") == undisturbed.table("training_log")
        found = fetch_encoder(filesystem, f"{root}/{training.stage.folder}/checkpoint")
    expected = load_encoder(undisturbed.folder / "checkpoint")
    assert torch.equal(found.encode_queries(["honey bee"]), expected.encode_queries(["honey bee"]))
