"""One worker of a student's training: its share of every batch, gates, development set, trackers."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import torch
from torch import distributed

from cluster.copying import upload
from distill.encoders.checkpoints.fetch import fetch_encoder
from distill.encoders.encoder import Encoder
from distill.encoders.single_vector import SingleVectorEncoder
from distill.numerics.batching import fitting_tokens
from distill.train.batches import Tally, TrainingBatch, make_batch, with_tallies
from distill.train.dev import DevSet, dev_means, is_exhausted
from distill.train.gates import Gates
from distill.train.gather import all_sum
from distill.train.loop import Loop
from distill.train.loss_settings import LossSettings
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.stream import ExampleStream, examples_of
from distill.train.trackers import Tracker, open_trackers
from distill.train.trainer import Step, Trainer, prepare
from distill.train.worker_group import RayCheckpoints, StepReport, agree, has_fault, join, leaving_faults

_UNEVALUATED = -1.0
"""The measure that Ray Train is given for a checkpoint that was not evaluated: below every real one."""
_GATED_EXAMPLES = 256
"""Examples whose teacher scores are checked before the first step."""


@dataclass(frozen=True)
class TrainingJob:
    """The input of every worker.

    Attributes:
        train: the training's settings.
        sizes: Matryoshka sizes.
        folder: the stage's folder, with the student to start from in `start` and the development set in `dev`.
        examples: the folder of the examples.
        unit: examples in a row that no worker may cut apart.
        seed: seed of dropout.
    """

    train: TrainSettings
    sizes: tuple[int, ...]
    folder: str
    examples: str
    unit: int
    seed: int


def run_worker(config: Mapping[str, Any]) -> None:
    """Take the steps that are left, as one worker of the group."""
    from ray.train.torch import get_device, prepare_model

    job: TrainingJob = config["job"]
    filesystem: pafs.FileSystem = config["filesystem"]
    rank, world = join(job.train)
    if has_fault(filesystem, job.folder):
        return
    with leaving_faults(filesystem, job.folder, rank):
        encoder = fetch_encoder(filesystem, f"{job.folder}/start", get_device())
        prepare(encoder, job.train)
        # Workers encode different numbers of chunks, so there must be no collective call in the forward pass.
        options = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
        model = prepare_model(encoder, parallel_strategy_kwargs=options) if world > 1 else encoder
        objective = objective_for(encoder, job.train.loss, job.sizes)
        trainer = Trainer(model, encoder, job.train, objective, job.seed, rank, world)
        StudentLoop(job, filesystem, trainer).run()


def objective_for(encoder: Encoder, loss: LossSettings, sizes: tuple[int, ...]) -> Objective:
    """Return the objective whose scores are those that the student is searched with, cut to every size too."""
    normalize = encoder.settings.normalize if isinstance(encoder, SingleVectorEncoder) else True
    return Objective(loss, sizes, normalize=normalize)


class StudentLoop(Loop[list[TrainingBatch]]):
    """The steps of a student's training. An item is this worker's share of a batch, in the parts whose gradients are added up."""

    def __init__(self, job: TrainingJob, filesystem: pafs.FileSystem, trainer: Trainer) -> None:
        super().__init__(trainer, job.train, RayCheckpoints(), ("log", "dev", "read"))
        self.measure_every = job.train.dev.every if job.train.dev else None
        self._job = job
        self._train = job.train
        self._filesystem = filesystem
        self._student = trainer
        self._gates = Gates(job.train.gates, job.train.loss)
        self._dev = DevSet.read(filesystem, f"{job.folder}/dev") if job.train.dev else None
        device = trainer.encoder.device.type
        self._tokens = fitting_tokens(job.train.tokens_per_batch, trainer.encoder.backbone.config, device)
        self._stream = ExampleStream(filesystem, job.examples)
        self._trackers: list[Tracker] = []
        self._told = StepReport(filesystem, job.folder, trainer.rank)
        self._read = Tally()
        self._tallies: dict[int, Tally] = {}
        self._since: list[tuple[Step, int]] = []
        self._clock = time.perf_counter()

    def item(self, step: int) -> list[TrainingBatch]:
        """Return this worker's share of a step's batch, cut in parts."""
        settings, trainer, unit = self._train, self._student, self._job.unit
        share = examples_of(self._stream.batch(step, settings.batch_size, trainer.rank, trainer.world, unit))
        units = len(share) // unit
        bounds = [units * i // settings.accumulate * unit for i in range(settings.accumulate + 1)]
        # Items are made ahead of their steps, in a thread: a step's tally counts once it is taken.
        tally = self._tallies[step] = Tally()
        return [make_batch(trainer.encoder, share[a:b], self._tokens, tally) for a, b in pairwise(bounds)]

    def take_step(self, item: Sequence[TrainingBatch]) -> None:
        """Take one optimiser step; before the first one check the teacher's scores."""
        trainer = self._student
        if trainer.step == 0:
            teacher = torch.cat([part.teacher for part in item])[:_GATED_EXAMPLES]
            agree(lambda: self._gates.check_teacher(teacher), trainer.world)
        self._read += self._tallies.pop(trainer.step)
        step = trainer.train_step(item)
        self._since.append((step, sum(len(part.positions) for part in item)))

    def log_line(self) -> None:
        """Add a line to the log: means over the steps since the last one, and over the workers by their examples."""
        steps, trainer = self._since, self._student
        names = list(steps[0][0].losses)
        sums = [sum(step.losses[name] * examples for step, examples in steps) for name in names]
        sums += [sum(examples for _, examples in steps), sum(step.tokens for step, _ in steps)]
        totals = all_sum(sums, trainer.encoder.device)
        losses = {name: total / totals[-2] for name, total in zip(names, totals, strict=False)}
        loss = sum(losses.values())
        rate, norm = steps[-1][0].rate, sum(step.norm for step, _ in steps) / len(steps)
        seen = trainer.step * self._train.batch_size
        line = {"step": trainer.step, "loss": loss, "learning_rate": rate, "examples": seen, "gradient_norm": norm}
        self.history["log"].append(line)
        self._add_read()
        now = time.perf_counter()
        values = {"train/loss": loss, "train/learning_rate": rate, "train/gradient_norm": norm}
        values |= {f"train/loss/{name}": value for name, value in losses.items() if len(losses) > 1}
        values |= {"speed/tokens_per_second": totals[-1] / (now - self._clock)}
        values |= {"speed/steps_per_second": len(steps) / (now - self._clock)}
        self._track(values)
        self._since, self._clock = [], now
        agree(self._check, trainer.world)

    def reached(self, step: int, steps: int, loss: float) -> None:
        """Tell the driver."""
        self._told.tell(step, steps, loss)

    def _add_read(self) -> None:
        """Add the texts read since the last line, by all workers, to the history's counts of truncated texts."""
        parts: list[Any] = [self._read]
        if self._student.world > 1:
            parts = [None] * self._student.world
            distributed.all_gather_object(parts, self._read)
        self.history["read"] = with_tallies(self.history.get("read", []), parts)
        self._read = Tally()

    def measure(self) -> None:
        """Measure retrieval on the development set."""
        trainer, dev = self._student, self._train.dev
        if self._dev is None or dev is None:
            return
        with trainer.averaged() as student:
            measured = self._dev.evaluate(student, dev.measure, self._tokens, trainer.rank, trainer.world)
        self.history["dev"] += [
            {"step": trainer.step, "lang": lang, "value": value} for lang, value in measured.items()
        ]
        name = f"dev/{dev.measure.replace('@', '_at_')}"  # trackers take no `@`
        values = {f"{name}/{lang}": value for lang, value in measured.items()}
        self._track(values | {name: dev_means(self.history["dev"])[trainer.step]})

    def is_over(self) -> bool:
        """Return whether the development set says to stop. All workers have the same history."""
        return self._train.dev is not None and is_exhausted(self.history["dev"], self._train.dev.patience)

    def metrics(self) -> dict[str, Any]:
        """Return the development measure of this step."""
        return {"dev": dev_means(self.history["dev"]).get(self._student.step, _UNEVALUATED)}

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the trackers open on the first worker; upload what they wrote."""
        with tempfile.TemporaryDirectory() as folder:
            agree(lambda: self._trackers.extend(self._open_trackers(Path(folder))), self._student.world)
            try:
                yield
            finally:
                for tracker in self._trackers:
                    tracker.close()
                if any(Path(folder).iterdir()):
                    upload(folder, self._filesystem, f"{self._job.folder}/trackers")

    def _open_trackers(self, folder: Path) -> list[Tracker]:
        if self._student.rank != 0:
            return []
        settings = self._train.model_dump(mode="json")
        name = self._job.folder.rstrip("/").rpartition("/")[2]
        return open_trackers(self._train.loggers, name, settings, folder)

    def _track(self, values: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(self._student.step, values)

    def _check(self) -> None:
        self._gates.check_losses(self._student.step, self.history["log"])
        if self._student.last is not None:
            self._gates.check_vectors(self._student.step, self._student.last)
