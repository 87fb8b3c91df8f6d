"""The train stage: the student on a Ray Train worker group.

After a failure the run continues at the step after its last checkpoint. Steps since then are computed again, with the same examples;
none is skipped.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import torch

from cluster.workspace import Workspace
from distill.encoders.checkpoints import load_encoder
from distill.encoders.checkpoints.fetch import fetch_encoder, is_whole, upload, upload_encoder, upload_whole
from distill.encoders.settings import SingleVectorStudent, StudentSettings
from distill.encoders.start import start_student
from distill.numerics.batching import fitting_tokens
from distill.tables import DEV_MEASUREMENTS, TRAINING_LOG
from distill.text import passage_texts
from distill.train.batches import TrainingBatch, make_batch
from distill.train.dev import DevSet, best_step, dev_means, is_exhausted, write_dev
from distill.train.gates import Gates
from distill.train.objective import Objective
from distill.train.settings import TrainSettings
from distill.train.stream import ExampleStream, Prefetch, examples_of
from distill.train.trackers import Tracker, open_trackers
from distill.train.trainer import Step, Trainer, prepare, read_history
from distill.train.worker_group import (
    agree,
    fit,
    join,
    leaving_faults,
    report_step,
)

_UNEVALUATED = -1.0
"""What Ray Train is told of a checkpoint that was not evaluated, below every measure."""
_GATED_EXAMPLES = 256
"""Examples whose teacher scores are looked at before training is let go on."""


@dataclass(frozen=True)
class TrainingTask:
    """What a student is trained on.

    Attributes:
        examples: the stage whose table `examples` it reads.
        source_lang: the language of the source passages.
        query_lang: the language in which the student reads queries.
        languages: the other languages of the job.
        unit: examples in a row that no worker may cut apart: a group of in-batch distillation, an entry's language versions.
    """

    examples: str
    source_lang: str
    query_lang: str
    languages: tuple[str, ...]
    unit: int = 1


@dataclass(frozen=True)
class TrainingJob:
    """What every worker is given.

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


def train(
    workspace: Workspace, settings: TrainSettings, student: StudentSettings, seed: int, task: TrainingTask
) -> None:
    """Train a student; write the folder `checkpoint` and the tables `training_log` and `dev_measurements`."""
    _write_start(workspace, student, seed, task)
    if settings.dev is not None:
        write_dev(workspace, settings.dev, task.query_lang, task.languages, f"{workspace.folder}/dev")
    sizes = student.sizes if isinstance(student, SingleVectorStudent) else ()
    examples = f"{workspace.input_folder(task.examples)}/examples"
    job = TrainingJob(settings, sizes, workspace.folder, examples, task.unit, seed)
    kept = {"checkpoint_score_attribute": "dev", "checkpoint_score_order": "max"} if settings.dev else {}
    result = fit(workspace, settings, run_worker, {"job": job, "filesystem": workspace.filesystem}, kept)
    _keep(workspace, settings, result)


def _write_start(workspace: Workspace, student: StudentSettings, seed: int, task: TrainingTask) -> None:
    """Make the student once, so that every worker and every restart begins with the same weights."""
    folder = f"{workspace.folder}/start"
    if is_whole(workspace.filesystem, folder):
        return
    texts: list[str] = []
    if student.start.type == "fresh":
        texts = _all_texts(workspace, (task.source_lang, *task.languages))
    upload_whole(start_student(student, texts, seed), workspace.filesystem, folder)


def _all_texts(workspace: Workspace, languages: tuple[str, ...]) -> list[str]:
    passages = workspace.input("sources", "passages").select(["title", "text"])
    translations = workspace.input("translate", "translations")
    translations = translations.filter(pc.is_in(translations["lang"], pa.array(languages, pa.string()))).select(
        ["title", "text"]
    )
    queries = workspace.input("sources", "queries")
    queries = queries.filter(pc.equal(queries["split"], "train"))["text"].to_pylist()
    return passage_texts(pa.concat_tables([passages, translations])) + queries


def run_worker(config: Mapping[str, Any]) -> None:
    """What one worker of the group does: the loop over steps, from the last checkpoint if there is one."""
    from ray.train.torch import get_device, prepare_model

    job: TrainingJob = config["job"]
    filesystem: pafs.FileSystem = config["filesystem"]
    rank, world = join(job.train)
    encoder = fetch_encoder(filesystem, f"{job.folder}/start", get_device())
    prepare(encoder, job.train)
    # Workers encode different numbers of chunks, so there must be no collective call in the forward pass.
    options = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    model = prepare_model(encoder, parallel_strategy_kwargs=options) if world > 1 else encoder
    trainer = Trainer(model, encoder, job.train, Objective(job.train.loss, job.sizes), job.seed, rank, world)
    with leaving_faults(filesystem, job.folder, rank):
        Loop(job, filesystem, trainer).run()


class Loop:
    """The steps of a training on one worker: batches, log, gates, development set, checkpoints, trackers."""

    def __init__(self, job: TrainingJob, filesystem: pafs.FileSystem, trainer: Trainer) -> None:
        self._job = job
        self._settings = job.train
        self._filesystem = filesystem
        self._trainer = trainer
        self._gates = Gates(job.train.gates, job.train.loss)
        self._log: list[dict[str, Any]] = []
        self._measured: list[dict[str, Any]] = []
        self._dev = DevSet.read(filesystem, f"{job.folder}/dev") if job.train.dev else None
        device = trainer.encoder.device.type
        self._tokens = fitting_tokens(job.train.tokens_per_batch, trainer.encoder.backbone.config, device)
        self._since: list[tuple[Step, int]] = []
        self._clock = time.perf_counter()

    def run(self) -> None:
        """All steps that are left."""
        self._resume()
        if self._is_over():
            return
        stream = ExampleStream(self._filesystem, self._job.examples)
        with tempfile.TemporaryDirectory() as folder:
            trackers: list[Tracker] = []
            agree(lambda: trackers.extend(self._open_trackers(Path(folder))), self._trainer.world)
            try:
                steps = range(self._trainer.step, self._settings.steps)
                for parts in Prefetch(lambda step: self._parts(stream, step), steps, self._settings.prefetch):
                    self._step(parts, trackers)
                    if self._is_over():
                        break
            finally:
                for tracker in trackers:
                    tracker.close()
                self._upload_trackers(Path(folder))

    def _resume(self) -> None:
        import ray.train

        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            history = self._trainer.load(Path(folder))
        self._log, self._measured = history["log"], history["dev"]

    def _is_over(self) -> bool:
        """Whether the development set says to stop. All workers have the same history."""
        return self._settings.dev is not None and is_exhausted(self._measured, self._settings.dev.patience)

    def _parts(self, stream: ExampleStream, step: int) -> list[TrainingBatch]:
        """This worker's share of a step's batch, cut in the parts whose gradients are added up."""
        settings, trainer = self._settings, self._trainer
        unit = self._job.unit
        share = examples_of(stream.batch(step, settings.batch_size, trainer.rank, trainer.world, unit))
        units = len(share) // unit
        bounds = [units * i // settings.accumulate * unit for i in range(settings.accumulate + 1)]
        return [make_batch(trainer.encoder, share[a:b], self._tokens) for a, b in pairwise(bounds)]

    def _step(self, parts: Sequence[TrainingBatch], trackers: Sequence[Tracker]) -> None:
        settings, trainer = self._settings, self._trainer
        if trainer.step == 0:
            teacher = torch.cat([part.teacher for part in parts])[:_GATED_EXAMPLES]
            agree(lambda: self._gates.check_teacher(teacher), trainer.world)
        step = trainer.train_step(parts)
        self._since.append((step, sum(len(part.places) for part in parts)))
        last = trainer.step == settings.steps
        if trainer.step % settings.log_every == 0 or last:
            self._log_line(trackers)
        if settings.dev is not None and (trainer.step % settings.dev.every == 0 or last):
            self._measure(trackers)
        if trainer.step % settings.checkpoint_every == 0 or last:
            self._report()

    def _log_line(self, trackers: Sequence[Tracker]) -> None:
        """Add a line to the log: means over the steps since the last one, and over the workers by their examples."""
        steps, trainer = self._since, self._trainer
        names = list(steps[0][0].losses)
        sums = [sum(step.losses[name] * examples for step, examples in steps) for name in names]
        sums += [sum(examples for _, examples in steps), sum(step.tokens for step, _ in steps)]
        totals = self._all_sum(sums)
        losses = {name: total / totals[-2] for name, total in zip(names, totals, strict=False)}
        loss = sum(losses.values())
        rate, norm = steps[-1][0].rate, sum(step.norm for step, _ in steps) / len(steps)
        seen = trainer.step * self._settings.batch_size
        line = {"step": trainer.step, "loss": loss, "learning_rate": rate, "examples": seen, "gradient_norm": norm}
        self._log.append(line)
        now = time.perf_counter()
        values = {"train/loss": loss, "train/learning_rate": rate, "train/gradient_norm": norm}
        values |= {f"train/loss/{name}": value for name, value in losses.items() if len(losses) > 1}
        values |= {"speed/tokens_per_second": totals[-1] / (now - self._clock)}
        values |= {"speed/steps_per_second": len(steps) / (now - self._clock)}
        for tracker in trackers:
            tracker.log(trainer.step, values)
        self._since, self._clock = [], now
        agree(self._check, trainer.world)

    def _check(self) -> None:
        self._gates.check_losses(self._trainer.step, self._log)
        if self._trainer.last is not None:
            self._gates.check_vectors(self._trainer.step, self._trainer.last)

    def _measure(self, trackers: Sequence[Tracker]) -> None:
        trainer, dev = self._trainer, self._settings.dev
        if self._dev is None or dev is None:
            return
        with trainer.averaged() as student:
            found = self._dev.evaluate(student, dev.measure, self._tokens, trainer.rank, trainer.world)
        self._measured += [{"step": trainer.step, "lang": lang, "value": value} for lang, value in found.items()]
        name = f"dev/{dev.measure.replace('@', '_at_')}"  # trackers take no `@`
        values = {f"{name}/{lang}": value for lang, value in found.items()}
        for tracker in trackers:
            tracker.log(trainer.step, values | {name: dev_means(self._measured)[trainer.step]})

    def _all_sum(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64, device=self._trainer.encoder.device)
        if self._trainer.world > 1:
            torch.distributed.all_reduce(total)
        return total.tolist()

    def _report(self) -> None:
        trainer = self._trainer
        dev = dev_means(self._measured).get(trainer.step, _UNEVALUATED)
        metrics = {"step": trainer.step, "loss": self._log[-1]["loss"], "dev": dev}
        history = {"log": self._log, "dev": self._measured}
        report_step(metrics, trainer.rank, lambda folder: trainer.save(folder, history))

    def _open_trackers(self, folder: Path) -> list[Tracker]:
        if self._trainer.rank != 0:
            return []
        settings = self._settings.model_dump(mode="json")
        name = self._job.folder.rstrip("/").rpartition("/")[2]
        return open_trackers(self._settings.loggers, name, settings, folder)

    def _upload_trackers(self, folder: Path) -> None:
        if any(folder.iterdir()):
            upload(str(folder), self._filesystem, f"{self._job.folder}/trackers")


def _keep(workspace: Workspace, settings: TrainSettings, result: Any) -> None:
    """Copy the best checkpoint's student, without a development set the last one's, to `checkpoint`; and write the tables."""
    with result.checkpoint.as_directory() as folder:
        history = read_history(Path(folder))
    workspace.write("training_log", TRAINING_LOG.from_rows(history["log"]))
    measure = settings.dev.measure if settings.dev else ""
    rows = [row | {"measure": measure} for row in history["dev"]]
    workspace.write("dev_measurements", DEV_MEASUREMENTS.from_rows(rows))
    chosen = result.checkpoint
    if history["dev"]:
        step, value = best_step(history["dev"])
        chosen = next(checkpoint for checkpoint, metrics in result.best_checkpoints if metrics["step"] == step)
        workspace.note(kept_step=step, kept_dev={measure: round(value, 4)}, stopped_at=history["log"][-1]["step"])
    with chosen.as_directory() as folder:
        upload_encoder(load_encoder(folder), workspace.filesystem, f"{workspace.folder}/checkpoint")
