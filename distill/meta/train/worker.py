"""One worker of a meta-training: its share of every step's tasks, and log lines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from distill.encoders.checkpoints import load_encoder, save_encoder
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.encoders.encoder import Encoder
from distill.meta.settings import Kind, MetaTrainSettings
from distill.meta.train.batches import TaskLoss, TaskSet, task_sets
from distill.meta.train.trainer import MetaStep, MetaTrainer, TrainedMethod, prepare
from distill.tables import RETRIEVAL_TASKS, SIMILARITY_TASKS
from distill.train.loop import Checkpoints, History, Loop
from distill.train.stream import ExampleStream
from distill.train.trainer import read_state, write_state
from distill.train.worker_group import RayCheckpoints, StepReport, has_fault, join, leaving_faults

Tasks = Sequence[Sequence[TaskSet]]
"""The tasks of a step on one worker, each a sequence of sets."""


@dataclass(frozen=True)
class MetaJob:
    """The arguments of every worker.

    Attributes:
        method: the outer loss.
        settings: how the encoder learns.
        kind: questions or sentence pairs.
        start: folder of the encoder to start from.
        tasks: folder of the table of tasks.
        folder: the stage's folder.
        seed: seed of dropout.
    """

    method: TrainedMethod
    settings: MetaTrainSettings
    kind: Kind
    start: str
    tasks: str
    folder: str
    seed: int


def run_worker(config: Mapping[str, Any]) -> None:
    """Take the steps that are left, as one worker of the group."""
    from ray.train.torch import get_device

    job: MetaJob = config["job"]
    filesystem: pafs.FileSystem = config["filesystem"]
    rank, world = join(job.settings)
    if has_fault(filesystem, job.folder):
        return
    with leaving_faults(filesystem, job.folder, rank):
        encoder = fetch_encoder(filesystem, job.start, get_device())
        prepare(encoder, job.settings)
        trainer = EncoderTrainer.of(encoder, job, rank, world)
        MetaLoop(job, filesystem, trainer, RayCheckpoints()).run()


@dataclass
class EncoderTrainer(MetaTrainer[TaskSet]):
    """The trainer of an encoder, with its checkpoints."""

    @classmethod
    def of(cls, encoder: Encoder, job: MetaJob, rank: int = 0, world: int = 1) -> "EncoderTrainer":
        """Return the trainer of an encoder that `prepare` set up."""
        loss = TaskLoss(encoder, job.settings.margin)
        return cls(encoder, loss, job.settings, job.method, job.seed, rank, world)

    @property
    def encoder(self) -> Encoder:
        """The encoder that is trained."""
        assert isinstance(self.module, Encoder)  # noqa: S101 - `of` takes nothing else
        return self.module

    def save(self, folder: Path, history: History) -> None:
        """Write the encoder and the state of its training to a local folder; `load` returns `history`."""
        save_encoder(self.encoder, folder)
        write_state(folder, self.state() | {"history": history})

    def load(self, folder: Path) -> History:
        """Continue from what `save` wrote, with the weights loaded in place; return its history."""
        self.encoder.load_state_dict(load_encoder(folder).state_dict())
        state = read_state(folder, self.encoder.device)
        self.restore(state)
        return state["history"]


class MetaLoop(Loop[Tasks]):
    """The steps of a meta-training. An item is this worker's share of a step's tasks."""

    def __init__(
        self, job: MetaJob, filesystem: pafs.FileSystem, trainer: EncoderTrainer, checkpoints: Checkpoints
    ) -> None:
        super().__init__(trainer, job.settings, checkpoints, ("log", "losses"))
        self._meta = job.settings
        self._encoder_trainer = trainer
        contract = RETRIEVAL_TASKS if job.kind == "retrieval" else SIMILARITY_TASKS
        self._stream = ExampleStream(filesystem, job.tasks, contract)
        self._since: list[MetaStep] = []
        self._told = StepReport(filesystem, job.folder, trainer.rank)
        self._first = job.settings.tasks_per_batch * trainer.rank // trainer.world
        """Number of this worker's first task among a step's."""

    def item(self, step: int) -> Tasks:
        """Return this worker's share of a step's tasks, tokenised."""
        trainer = self._encoder_trainer
        rows = self._stream.batch(step, self._meta.tasks_per_batch, trainer.rank, trainer.world).to_pylist()
        return [task_sets(trainer.encoder, row) for row in rows]

    def take_step(self, item: Tasks) -> None:
        """Take one outer step."""
        trainer = self._encoder_trainer
        tasks = [[task_set.to(trainer.encoder.device) for task_set in sets] for sets in item]
        self._since.append(trainer.meta_step(tasks, self._first))

    def reached(self, step: int, steps: int, loss: float) -> None:
        """Tell the driver."""
        self._told.tell(step, steps, loss)

    def log_line(self) -> None:
        """Add a line of means over the steps since the last one. The trainer gives every worker the same numbers."""
        steps, step = self._since, self._encoder_trainer.step
        self.history["log"].append(
            {
                "step": step,
                "loss": sum(step.loss for step in steps) / len(steps),
                "learning_rate": self._meta.learning_rate,
                "examples": step * self._meta.tasks_per_batch,
                "gradient_norm": sum(step.norm for step in steps) / len(steps),
            }
        )
        for part in steps[0].parts:
            value = sum(step.parts[part] for step in steps) / len(steps)
            self.history["losses"].append({"step": step, "part": part, "value": value})
        self._since = []
