"""The steps of a meta-training on one worker, without Ray: log lines, and how they continue from a checkpoint."""

from pathlib import Path

import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import torch

from distill.encoders.checkpoints import load_encoder
from distill.meta.settings import MetaTrainSettings
from distill.meta.train.trainer import prepare
from distill.meta.train.worker import EncoderTrainer, MetaJob, MetaLoop, Tasks
from distill.tables import RETRIEVAL_TASKS
from tests.distill.meta.samples import task_row
from tests.distill.train.test_loop import Folder


class Interrupted(MetaLoop):
    """A worker that dies before the step of number `fails_at`."""

    fails_at = 6

    def item(self, step: int) -> Tasks:
        if step == self.fails_at:
            raise RuntimeError("a worker died")
        return super().item(step)


def job_of(folder: Path, encoder: Path, **settings: object) -> MetaJob:
    values: dict[str, object] = {"inner_rate": 0.1, "inner_steps": 1, "learning_rate": 1e-3, "tasks_per_batch": 2}
    values |= {"steps": 8, "log_every": 2, "checkpoint_every": 4} | settings
    tasks = folder / "tasks"
    tasks.mkdir()
    pq.write_table(RETRIEVAL_TASKS.from_rows(task_row(i, 2) for i in range(5)), tasks / "00000.parquet")
    chosen = MetaTrainSettings.model_validate(values)
    return MetaJob("maml", chosen, "retrieval", str(encoder), str(tasks), str(folder), 3)


def loop_of(job: MetaJob, checkpoints: Folder, kind: type[MetaLoop] = MetaLoop) -> tuple[MetaLoop, EncoderTrainer]:
    encoder = load_encoder(job.start)
    prepare(encoder, job.settings)
    trainer = EncoderTrainer.of(encoder, job)
    return kind(job, pafs.LocalFileSystem(), trainer, checkpoints), trainer


def test_a_resumed_training_is_the_uninterrupted_one_bit_for_bit(tiny_encoder: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, tiny_encoder)
    folders = []
    for name in ("whole", "resumed"):
        (tmp_path / name).mkdir()
        folders.append(Folder(tmp_path / name))
    whole, trained = loop_of(job, folders[0])
    whole.run()
    failing, _ = loop_of(job, folders[1], Interrupted)
    with pytest.raises(RuntimeError, match="a worker died"):
        failing.run()
    assert [metrics["step"] for metrics in folders[1].reported] == [4]
    again, resumed = loop_of(job, folders[1])
    again.run()
    assert [line["step"] for line in whole.history["log"]] == [2, 4, 6, 8]
    assert [line["examples"] for line in whole.history["log"]] == [4, 8, 12, 16]
    assert [row["part"] for row in whole.history["losses"]] == ["query"] * 4
    assert again.history == whole.history
    for name, value in trained.encoder.state_dict().items():
        assert torch.equal(value, resumed.encoder.state_dict()[name]), name


def test_a_finished_training_takes_no_step(tiny_encoder: Path, tmp_path: Path) -> None:
    job = job_of(tmp_path, tiny_encoder, steps=4)
    (tmp_path / "checkpoints").mkdir()
    first, _ = loop_of(job, Folder(tmp_path / "checkpoints"))
    first.run()
    again, trainer = loop_of(job, Folder(tmp_path / "checkpoints"))
    again.run()
    assert (trainer.step, again.history) == (4, first.history)
